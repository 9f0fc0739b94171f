"""The judge of the soak can find fault: a journal that is right, and one for every way to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.faults.soak.check import Rules, check
from tests.faults.soak.journal import Line

RULES: Final = Rules(
    readers={"Noted": ["plain"], "Counted": ["plain", "ledger"]},
    effects="ledger", attempts=3, deliveries=5, lease=2.0, drained_within=16.0,
)  # fmt: skip
DIRECT, PROXIED = 10, 20


def line(what: str, at: float, **fields: Any) -> Line:
    """One fact."""
    return {"what": what, "at": at, **fields}


def published(
    n: int, at: float, kind: str = "Noted", act: str = "ok", due: float = 0.0, said: str = "ok"
) -> list[Line]:
    """A publish and what its publisher was told."""
    return [line("publish", at, n=n, kind=kind, act=act, due=due or at), line(f"publish_{said}", at, n=n)]


def start(n: int, at: float, pid: int = DIRECT, group: str = "plain", attempt: int = 1) -> Line:
    return line("start", at, n=n, pid=pid, group=group, attempt=attempt, deliveries=1, begun=at)


def failed(n: int, at: float, pid: int = DIRECT, group: str = "plain", attempt: int = 1) -> Line:
    return line("failed", at, n=n, pid=pid, group=group, attempt=attempt)


def end(n: int, at: float, pid: int = DIRECT, group: str = "plain", attempt: int = 1) -> Line:
    return line("end", at, n=n, pid=pid, group=group, attempt=attempt)


def handled(n: int, at: float, pid: int = DIRECT, group: str = "plain") -> list[Line]:
    """A start and its end."""
    return [start(n, at, pid, group), end(n, at + 0.1, pid, group)]


def dead(n: int, reason: str, attempts: int, deliveries: int, group: str = "plain") -> Line:
    return line("dead", 90, n=n, group=group, reason=reason, attempts=attempts, deliveries=deliveries)


def stored(stream: str, n: int) -> Line:
    return line("stored", 90, stream=stream, n=n)


def right() -> list[Line]:
    """A run in which everything happened that may: 1 is good, 2 has an effect, 3 fails once, 4 is poison, 5 kills its
    processes, of 6 nobody knows, 7 did not happen, 8 comes later.
    """
    return [
        line("spawn", 0, pid=DIRECT, role="consume", via="direct"),
        line("spawn", 0, pid=PROXIED, role="consume", via="proxy"),
        *published(1, 1), *handled(1, 1.1),
        *published(2, 2, "Counted"), *handled(2, 2.1), *handled(2, 2.1, PROXIED, "ledger"),
        *published(3, 3, act="fail"), start(3, 3.1), failed(3, 3.2),
        start(3, 4, PROXIED, attempt=2), end(3, 4.1, PROXIED),
        *published(4, 5, act="poison"),
        *(fact(4, 5 + attempt, attempt=attempt) for attempt in (1, 2, 3) for fact in (start, failed)),
        *published(5, 10, act="exit"),
        *(
            fact
            for pid in range(31, 36)
            for fact in (start(5, pid - 20, pid), line("exit", pid - 20 + 0.1, pid=pid, code=9))
        ),
        *published(6, 20, said="unsure"),
        *published(7, 20, said="failed"),
        *published(8, 20, due=23.0), *handled(8, 23.1),
        line("effect", 90, n=2), dead(4, "failed", 3, 3), dead(5, "crashed", 1, 5),
        *(stored("noted", n) for n in (1, 3, 4, 5, 8)), stored("counted", 2), stored("followed", 2),
        *(stored("ticks", slot) for slot in (100, 101, 102)),
        line("drained", 91, seconds=3.0),
    ]  # fmt: skip


def without(what: str, **about: Any) -> list[Line]:
    """The right run but for some facts."""
    journal = right()
    kept = [one for one in journal if one["what"] != what or any(one[name] != about[name] for name in about)]
    assert len(kept) < len(journal)
    return kept


def changed(what: str, n: int, **fields: Any) -> list[Line]:
    """The right run with some facts told otherwise."""
    return [one | fields if one["what"] == what and one.get("n") == n else one for one in right()]


def again(pid: int, *faults: Line, by: int = DIRECT) -> list[Line]:
    """The right run, and event 9 begun by `pid`, then anew at 40 by another."""
    return [*right(), *published(9, 30), start(9, 31, pid), *faults, *handled(9, 40, by)]


def unlucky(reason: str, deaths: int) -> list[Line]:
    """The right run, and a good event 9 that died after its process was killed under it so many times."""
    pids = range(41, 41 + deaths)
    kills = [fact for pid in pids for fact in (start(9, pid, pid), line("kill", pid + 0.5, pid=pid))]
    return [*right(), *published(9, 30), *kills, dead(9, reason, 1, 5)]


def held_in_memory(stop: float, *, deliveries: int) -> list[Line]:
    """The right run, and event 9 begun by `PROXIED`, then by one who was stopped for six seconds from `stop` on."""
    stopped = [line("stop", stop, pid=DIRECT), line("cont", stop + 6, pid=DIRECT)]
    taken_over = start(9, 35, PROXIED) | {"deliveries": 2}
    return [*right(), *published(9, 30), *stopped, taken_over, start(9, 38.1) | {"deliveries": deliveries}, end(9, 39)]


def handed_over(begun: float) -> list[Line]:
    """The right run, and event 9 handed over to a handler, which ran when its process had been stopped until 38; then
    begun by another.
    """
    stopped = [line("stop", 32, pid=DIRECT), line("cont", 38, pid=DIRECT)]
    return [*right(), *published(9, 30), *stopped, start(9, 38.1) | {"begun": begun}, *handled(9, 38.4, PROXIED)]


FINE: Final[dict[str, Callable[[], list[Line]]]] = {
    "everything that may happen": right,
    "an unsure publish that happened": lambda: [*right(), *handled(6, 21), stored("noted", 6)],
    "begun again after a kill": lambda: again(50, line("kill", 32, pid=50)),
    "begun again after its process ended": lambda: again(50, line("exit", 32, pid=50, code=1)),
    "begun again after a stop": lambda: again(DIRECT, line("stop", 32, pid=DIRECT), line("cont", 38, pid=DIRECT)),
    "begun again after Redis was killed": lambda: again(DIRECT, line("redis_kill", 32), line("redis_up", 33)),
    "begun again after a cut": lambda: again(PROXIED, line("network", 32, mode="stall"), line("heal", 33)),
    "handed over, stopped, and run when it went on": lambda: handed_over(31.9),
    "killed by others as often as may be": lambda: unlucky("crashed", 2),
    "ended when it was asked to": lambda: [
        *right(),
        line("term", 92, pid=DIRECT),
        line("exit", 93, pid=DIRECT, code=0),
    ],
    "begun again after an odd failure": lambda: [
        *right(),
        *published(9, 30, act="panics"),
        start(9, 31),
        failed(9, 31.1),
        start(9, 32, attempt=2),
        end(9, 32.1, attempt=2),
    ],
}

WRONG: Final[dict[str, tuple[str, Callable[[], list[Line]]]]] = {
    "never handled": ("lost", lambda: without("end", n=1)),
    "never handled by one of two groups": ("lost", lambda: without("end", n=2, group="plain")),
    "never published": ("phantom", lambda: [*right(), *handled(99, 40)]),
    "handled after all": ("phantom", lambda: [*right(), *handled(7, 40)]),
    "published twice": ("duplicate entry", lambda: [*right(), stored("noted", 1)]),
    "a follow-up twice": ("duplicate entry", lambda: [*right(), stored("followed", 2)]),
    "a slot fired twice": ("duplicate entry", lambda: [*right(), stored("ticks", 101)]),
    "an effect twice": ("effect", lambda: [*right(), line("effect", 90, n=2)]),
    "no effect": ("effect", lambda: without("effect", n=2)),
    "the effect of a dead letter": (
        "effect",
        lambda: [
            *right(), *published(9, 30, "Counted", "poison"), line("effect", 90, n=9),
            dead(9, "failed", 3, 3), dead(9, "failed", 3, 3, "ledger"),
        ],
    ),
    "begun again for no reason": ("duplicate execution", lambda: again(DIRECT, by=PROXIED)),
    "begun again by itself": ("duplicate execution", lambda: again(DIRECT)),
    "begun late by who was stopped with it": ("duplicate execution", lambda: held_in_memory(32, deliveries=1)),
    "stopped, and handed over anew": ("duplicate execution", lambda: held_in_memory(32, deliveries=3)),
    "in memory, and stopped before": ("duplicate execution", lambda: held_in_memory(28, deliveries=1)),
    "handed over after it had been stopped": ("duplicate execution", lambda: handed_over(38.05)),
    "handled twice": ("duplicate execution", lambda: [*right(), *handled(1, 40, PROXIED)]),
    "another was killed": ("duplicate execution", lambda: again(DIRECT, line("kill", 32, pid=50), by=PROXIED)),
    "killed only afterwards": ("duplicate execution", lambda: again(50, line("kill", 45, pid=50))),
    "stopped only afterwards": (
        "duplicate execution",
        lambda: again(DIRECT, line("stop", 45, pid=DIRECT), line("cont", 48, pid=DIRECT), by=PROXIED),
    ),
    "Redis was back before": (
        "duplicate execution",
        lambda: again(DIRECT, line("redis_kill", 25), line("redis_up", 26), by=PROXIED),
    ),
    "a cut of the others' network": (
        "duplicate execution",
        lambda: again(DIRECT, line("network", 32, mode="stall"), line("heal", 33), by=PROXIED),
    ),
    "a retry that counts no attempt": (
        "duplicate execution",
        lambda: [one | {"attempt": 1} if one["what"] == "start" and one["n"] == 3 else one for one in right()],
    ),
    "a retry without a failure": ("duplicate execution", lambda: without("failed", n=3)),
    "too early": ("early", lambda: changed("publish", 8, due=24.0)),
    "poison that ended well": (
        "poison",
        lambda: [*without("dead", n=4), end(4, 8.5, attempt=3)],
    ),
    "poison given up too early": ("poison", lambda: changed("dead", 4, attempts=2)),
    "poison for the wrong reason": ("poison", lambda: changed("dead", 4, reason="crashed")),
    "a killer given up too early": ("poison", lambda: changed("dead", 5, deliveries=4)),
    "a killer that only failed": ("poison", lambda: changed("dead", 5, reason="failed")),
    "a dead letter twice": ("poison", lambda: [*right(), dead(4, "failed", 3, 3)]),
    "a good event in the dead letters": ("poison", lambda: [*right(), dead(1, "crashed", 1, 5)]),
    "a good event that failed": ("poison", lambda: unlucky("failed", 5)),
    "a good event that was hit once": ("poison", lambda: unlucky("crashed", 1)),
    "a dead letter of nobody's": ("poison", lambda: [*right(), dead(99, "failed", 3, 3)]),
    "a slot left out": ("schedule", lambda: without("stored", stream="ticks", n=101)),
    "a delivery still pending": (
        "left over",
        lambda: [*right(), line("left", 90, place="plain in noted", kind="pending", count=1)],
    ),
    "a key that stays": ("left over", lambda: [*right(), line("left", 90, place="x", kind="key", count=1)]),
    "the tenant of another": ("leak", lambda: [*right(), line("leaked", 40, group="plain", n=1, seen="[7]")]),
    "slots that take nothing": ("standing still", lambda: [*right(), line("standing", 40, pid=DIRECT, slots=2)]),
    "ended with an error": ("ended", lambda: [*right(), line("exit", 40, pid=DIRECT, code=1)]),
    "ended well, and not asked to": ("ended", lambda: [*right(), line("exit", 40, pid=DIRECT, code=0)]),
    "never done": ("stuck", lambda: without("drained")),
    "done too late": ("stuck", lambda: [*without("drained"), line("drained", 91, seconds=17.0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_what_is_right(name: str) -> None:
    """Nothing is found where nothing is."""
    verdict = check(FINE[name](), RULES)
    assert verdict.violations == []
    assert "all rules held" in str(verdict)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name: str) -> None:
    """Exactly the rule that was broken is named, once."""
    rule, journal = WRONG[name]
    verdict = check(journal(), RULES)
    assert verdict.broken() == {rule: 1}, str(verdict)
    assert f"BROKEN {rule}" in str(verdict)


def test_the_figures() -> None:
    """What a claim quotes is counted from the journal."""
    figures = check(right(), RULES).figures
    assert (figures["published"], figures["unsure"], figures["dead_letters"], figures["effects"]) == (6, 1, 2, 1)
    assert figures["consumers_that_killed_themselves"] == 5
    assert figures["of_them_retries"] == 3
    assert figures["of_them_repeated_after_a_fault"] == 4
