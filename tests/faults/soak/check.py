"""Check: judges a journal. A pure function: the same journal gets the same verdict, whoever wrote it.

What a client could not know (`publish_unsure`) may have happened or not; everything else is held to what was said.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.faults.soak.journal import Line

_SHOWN: Final = 5
_SUSPECT_FROM: Final = 3

ODD: Final = ("cancels itself", "leaves things behind", "cancelled later", "panics", "task group")
"""Acts that are no reason to fail anything else. Here, as the check knows nothing of the load."""


@dataclass(frozen=True)
class Violation:
    """One rule that did not hold, for one event."""

    rule: str
    about: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}"


@dataclass
class Verdict:
    """What was found, and the figures that a claim quotes."""

    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def broken(self) -> Counter[str]:
        """How often each rule was broken."""
        return Counter(violation.rule for violation in self.violations)

    def __str__(self) -> str:
        lines = [f"  {name.replace('_', ' ')}: {value:,.10g}" for name, value in self.figures.items()]
        shown: Counter[str] = Counter()
        for violation in self.violations:
            shown[violation.rule] += 1
            if shown[violation.rule] <= _SHOWN:
                lines.append(f"  BROKEN {violation}")
        return "\n".join([*lines, f"  {len(self.violations)} violations" if self.violations else "  all rules held"])


@dataclass(frozen=True)
class Rules:
    """What the load was: who reads what, and the limits it ran under."""

    readers: Mapping[str, Sequence[str]]  # kind of event -> groups
    effects: str  # the group whose effects are in the ledger
    attempts: int
    deliveries: int
    lease: float
    drained_within: float


class _Faults:
    """When each process, and everybody, was hurt."""

    def __init__(self, journal: Sequence[Line]) -> None:
        self.of: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self.proxied: set[int] = set()
        self.redis: list[tuple[float, float]] = []
        self.network: list[tuple[float, float]] = []
        open_at: dict[str, float] = {}
        stopped: dict[int, float] = {}
        for line in journal:
            at = line["at"]
            match line["what"]:
                case "spawn" if line["via"] == "proxy":
                    self.proxied.add(line["pid"])
                case "kill" | "exit":
                    self.of[line["pid"]].append((at, float("inf")))
                case "stop":
                    stopped[line["pid"]] = at
                case "cont":
                    self.of[line["pid"]].append((stopped.pop(line["pid"]), at))
                case "redis_kill" | "network":
                    open_at[line["what"]] = at
                case "redis_up":
                    self.redis.append((open_at.pop("redis_kill"), at))
                case "heal":
                    self.network.append((open_at.pop("network"), at))

    def explain(self, pid: int, begin: float, end: float) -> bool:
        """Whether something happened to this process between two moments that lets another one begin again."""
        windows = self.of[pid] + self.redis + (self.network if pid in self.proxied else [])
        return any(begin <= until and since <= end for since, until in windows)


def check(journal: Sequence[Line], rules: Rules) -> Verdict:
    """Judges a whole run."""
    verdict = Verdict()
    by: dict[str, list[Line]] = defaultdict(list)
    for line in journal:
        by[line["what"]].append(line)
    published = {line["n"]: line for line in by["publish"]}
    ok = {line["n"] for line in by["publish_ok"]}
    failed = {line["n"] for line in by["publish_failed"]}
    ends, dead = _ends(by["end"]), _dead(by["dead"])
    faults = _Faults(journal)
    starts: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in by["start"]:
        starts[line["group"], line["n"]].append(line)

    for violation in (
        *_lost(published, ok, ends, dead, rules),
        *_phantoms(published, failed, starts),
        *_duplicates(by["stored"]),
        *_effects(by["effect"], ends, dead, rules),
        *_executions(starts, by["failed"], faults),
        *_early(starts, published),
        *_poison(published, ok, dead, starts, faults, rules),
        *_slots(by["stored"]),
        *_left(by["left"], by["drained"], rules),
        *_leaks(by["leaked"]),
        *_standing(by["standing"]),
        *_endings(by["spawn"], by["exit"], by["kill"], by["term"]),
    ):
        verdict.violations.append(violation)
    verdict.figures = _figures(by, starts, ok, dead)
    return verdict


def _ends(lines: Iterable[Line]) -> Counter[tuple[str, int]]:
    return Counter((line["group"], line["n"]) for line in lines)


def _dead(lines: Iterable[Line]) -> dict[tuple[str, int], list[Line]]:
    found: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in lines:
        found[line["group"], line["n"]].append(line)
    return found


def _lost(
    published: Mapping[int, Line],
    ok: set[int],
    ends: Counter[tuple[str, int]],
    dead: Mapping[tuple[str, int], list[Line]],
    rules: Rules,
) -> Iterator[Violation]:
    """Whatever was confirmed ends in every group that reads it: handled, or a dead letter."""
    for n in sorted(ok):
        for group in rules.readers[published[n]["kind"]]:
            if (group, n) not in ends and (group, n) not in dead:
                yield Violation("lost", f"{n} was published and never reached its end in {group}")


def _phantoms(
    published: Mapping[int, Line], failed: set[int], starts: Mapping[tuple[str, int], list[Line]]
) -> Iterator[Violation]:
    """Nothing is handled that nobody published, or whose publisher was told that it did not happen."""
    for group, n in starts:
        if n not in published:
            yield Violation("phantom", f"{group} handled {n}, which nobody published")
        elif n in failed:
            yield Violation("phantom", f"{group} handled {n}, whose publisher was told that nothing had happened")


def _duplicates(stored: Iterable[Line]) -> Iterator[Violation]:
    """One publish is one entry; one effect has one follow-up."""
    seen: Counter[tuple[str, Any]] = Counter((line["stream"], line["n"]) for line in stored)
    for (stream, n), count in seen.items():
        if count > 1:
            yield Violation("duplicate entry", f"{n} is in {stream} {count} times")


def _effects(
    effects: Iterable[Line], ends: Counter[tuple[str, int]], dead: Mapping[tuple[str, int], list[Line]], rules: Rules
) -> Iterator[Violation]:
    """An effect in SQL happened once for each event that was handled, and never for a dead one."""
    counted = Counter(line["n"] for line in effects)
    for n, count in counted.items():
        if count > 1:
            yield Violation("effect", f"the effect of {n} happened {count} times")
        if (rules.effects, n) in dead:
            yield Violation("effect", f"{n} is a dead letter, and its effect happened")
    for group, n in ends:
        if group == rules.effects and n not in counted and (group, n) not in dead:
            yield Violation("effect", f"{n} was handled, and its effect did not happen")


def _executions(
    starts: Mapping[tuple[str, int], list[Line]], failed: Iterable[Line], faults: _Faults
) -> Iterator[Violation]:
    """A second start has a reason: the first one failed, or something happened to its process or to Redis, from when
    the engine handed it over (`begun`) on. Its handler may have run later, when it had a connection to the database.
    """
    failures: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for line in failed:
        failures[line["group"], line["n"], line["pid"]].append(line["at"])
    for (group, n), lines in starts.items():
        for first, second in pairwise(sorted(lines, key=lambda line: line["begun"])):
            times = failures[group, n, first["pid"]]
            position = bisect_left(times, first["at"])
            if position < len(times) and times[position] <= second["at"] and second["attempt"] > first["attempt"]:
                continue
            if not faults.explain(first["pid"], first["begun"], second["at"]):
                yield Violation(
                    "duplicate execution",
                    f"{group} began {n} in {first['pid']} and again in {second['pid']}, and nothing had happened",
                )


def _early(starts: Mapping[tuple[str, int], list[Line]], published: Mapping[int, Line]) -> Iterator[Violation]:
    """A delayed event does not start before its time (the one clock of the machine; Redis rounds to 1 ms)."""
    for (group, n), lines in starts.items():
        if n in published:
            early = published[n]["due"] - min(line["at"] for line in lines)
            if early > 0.002:
                yield Violation("early", f"{group} began {n} {early:.3f} s before it was due")


def _poison(
    published: Mapping[int, Line],
    ok: set[int],
    dead: Mapping[tuple[str, int], list[Line]],
    starts: Mapping[tuple[str, int], list[Line]],
    faults: _Faults,
    rules: Rules,
) -> Iterator[Violation]:
    """The dead letters are what was poison, each once, after all its tries, and nothing else: but for what was so
    unlucky that its process was killed under it as often as a message may be handed over. From the third death on it
    runs alone, and only what runs counts; before, it may have waited in its process' memory.
    """
    for n in ok:
        line = published[n]
        if line["act"] in ("poison", "exit"):
            for group in rules.readers[line["kind"]]:
                if (group, n) not in dead:
                    yield Violation("poison", f"{n} ({line['act']}) is no dead letter of {group}")
    for (group, n), letters in dead.items():
        act = published[n]["act"] if n in published else "nobody's"
        reason, attempts, deliveries = (letters[0][name] for name in ("reason", "attempts", "deliveries"))
        if len(letters) > 1:
            yield Violation("poison", f"{n} is a dead letter of {group} {len(letters)} times")
        if act == "poison" and reason == "crashed" and _was_hit(starts.get((group, n), ()), faults, rules):
            continue
        if act == "poison" and (reason != "failed" or attempts != rules.attempts):
            yield Violation("poison", f"{n} died in {group} as {reason} after {attempts} attempts")
        elif act == "exit" and (reason != "crashed" or deliveries < rules.deliveries):
            yield Violation("poison", f"{n} died in {group} as {reason} after {deliveries} deliveries")
        elif act not in ("poison", "exit"):
            if reason == "crashed" and _was_hit(starts.get((group, n), ()), faults, rules):
                continue
            yield Violation("poison", f"{n} ({act}) is a dead letter of {group}: {reason}")


def _was_hit(starts: Iterable[Line], faults: _Faults, rules: Rules) -> bool:
    hit = sum(faults.explain(line["pid"], line["begun"], float("inf")) for line in starts)
    return hit >= rules.deliveries - _SUSPECT_FROM


def _slots(stored: Iterable[Line]) -> Iterator[Violation]:
    """Every second between the first tick and the last has one."""
    slots = sorted(line["n"] for line in stored if line["stream"] == "ticks")
    for one, other in pairwise(slots):
        if other - one > 1:
            yield Violation("schedule", f"no tick between {one} and {other}")


def _left(left: Iterable[Line], drained: Sequence[Line], rules: Rules) -> Iterator[Violation]:
    """After the last fault all is done within a known time, and nothing is left over."""
    for line in left:
        yield Violation("left over", f"{line['place']}: {line['count']} {line['kind']}")
    if not drained:
        yield Violation("stuck", "it was never done")
    elif drained[-1]["seconds"] > rules.drained_within:
        yield Violation("stuck", f"done only {drained[-1]['seconds']:.1f} s after the last fault")


def _leaks(leaked: Iterable[Line]) -> Iterator[Violation]:
    """No handler sees what another one has set."""
    for line in leaked:
        yield Violation("leak", f"{line['n']} in {line['group']} saw what another had left: {line['seen']}")


def _standing(standing: Iterable[Line]) -> Iterator[Violation]:
    """A slot takes the next message, whatever the last handler has done; or its process ends."""
    for line in standing:
        yield Violation("standing still", f"{line['slots']} slots of {line['pid']}")


def _endings(
    spawned: Iterable[Line], exits: Iterable[Line], kills: Iterable[Line], terms: Iterable[Line]
) -> Iterator[Violation]:
    """A consumer ends when it is asked to or killed, or when a message does it (9)."""
    consumers = {line["pid"] for line in spawned if line["role"] == "consume"}
    asked, killed = {line["pid"] for line in terms}, {line["pid"] for line in kills}
    for line in exits:
        pid, code = line["pid"], line["code"]
        if pid in consumers and pid not in killed and not (code == 9 or (code == 0 and pid in asked)):
            yield Violation("ended", f"{pid} ended with {code}, and nothing had asked it to")


def _figures(
    by: Mapping[str, list[Line]],
    starts: Mapping[tuple[str, int], list[Line]],
    ok: set[int],
    dead: Mapping[tuple[str, int], list[Line]],
) -> dict[str, float]:
    executions = sum(map(len, starts.values()))
    tries = len({(line["group"], line["n"], line["attempt"]) for line in by["start"]})
    return {
        "published": len(ok),
        "unsure": len(by["publish_unsure"]),
        "deliveries_to_groups": len(starts),
        "executions": executions,
        "of_them_retries": tries - len(starts),
        "of_them_repeated_after_a_fault": executions - tries,
        "odd": sum(line["act"] in ODD for line in by["publish"]),
        "in_threads": sum(line["kind"] == "Threaded" for line in by["publish"]),
        "dead_letters": sum(map(len, dead.values())),
        "effects": len(by["effect"]),
        "consumers_killed": len(by["kill"]),
        "consumers_that_killed_themselves": sum(line["code"] == 9 for line in by["exit"]),
        "redis_killed": len(by["redis_kill"]),
        "network_faults": len(by["network"]),
        "consumers_stopped": len(by["stop"]),
        "consumers_deployed": len(by["term"]),
        "ticks": sum(line["stream"] == "ticks" for line in by["stored"]),
        "drained_in_s": by["drained"][-1]["seconds"] if by["drained"] else -1,
    }  # fmt: skip
