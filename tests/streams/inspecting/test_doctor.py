"""Doctor: from which figure on a check warns or fails. Nothing is asked: the facts are given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from streams import Settings
from streams.inspecting import doctor
from streams.inspecting.damage import Damage
from streams.inspecting.doctor import Finding
from streams.inspecting.ledger import Gap, GroupAccount
from streams.inspecting.reconciliation import Accounts
from streams.inspecting.snapshot import ConsumerState, GroupState, Snapshot, StreamPosition, Waiting
from streams.redis.server import Server
from streams.scheduling.admin import ScheduleState
from streams.settling.unsupported import UnsupportedMessages

MB: Final = 2**20
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD: Final = Server("redis://h", "8.2.3", "standalone", "noeviction", True, "always", 10 * MB, 0, 1_000 * MB, 1, "r")
EMPTY: Final = Snapshot(NOW, "shop", GOOD, (), (), Waiting(0, 0, 0, None), Accounts((), ()), (GOOD,))
IDLE: Final = StreamPosition("inbox", 0, None, 0, None)
ALIVE: Final = ConsumerState("c-1", 0.5, 0, True)


def statuses(findings: Any) -> dict[str, str]:
    """The status of each check."""
    return {finding.check: finding.status for finding in findings}


def only(findings: Any, check: str) -> Finding:
    """What the one check found."""
    (found,) = [finding for finding in findings if finding.check == check]
    assert isinstance(found, Finding)
    return found


def group(
    *consumers: ConsumerState, lag: int = 0, pending: int = 0, waiting: int = 0, dead: int = 0, age: float | None = None
) -> GroupState:
    """The group email."""
    return GroupState("email", (StreamPosition("users", lag, age, pending, None),), IDLE, waiting, dead, consumers)


@pytest.mark.parametrize(
    ("change", "check", "status"),
    [
        ({}, "version", "ok"), ({"version": "7.0.0"}, "version", "ok"), ({"version": "6.2.14"}, "version", "fail"),
        ({"version": "10.0.1"}, "version", "ok"), ({}, "policy", "ok"),
        ({"maxmemory_policy": "allkeys-lru"}, "policy", "fail"),
        ({}, "aof", "ok"), ({"aof": False}, "aof", "fail"), ({}, "appendfsync", "ok"),
        ({"appendfsync": "everysec"}, "appendfsync", "ok"), ({"appendfsync": "no"}, "appendfsync", "warn"),
        ({"appendfsync": ""}, "appendfsync", "ok"),
    ],
)  # fmt: skip
def test_a_server_that_would_lose_events(change: dict[str, Any], check: str, status: str) -> None:
    assert statuses(doctor.check_server(replace(GOOD, **change)))[check] == status


@pytest.mark.parametrize(
    ("used", "most", "machine", "status", "said"),
    [
        (74, 100, 9_000, "ok", "74% of maxmemory used (74.0 of 100 MB)"),
        (75, 100, 9_000, "warn", "75% of maxmemory"), (89, 100, 9_000, "warn", "89%"), (90, 100, 9_000, "fail", "90%"),
        (74, 0, 100, "ok", "74% of the machine's memory used"), (90, 0, 100, "fail", "90% of the machine's memory"),
        (90, 0, 0, "ok", "90.0 MB used; this Redis does not report its limit"),
    ],
)  # fmt: skip
def test_the_memory_that_is_left(used: int, most: int, machine: int, status: str, said: str) -> None:
    """Of maxmemory where it is set, else of the machine's."""
    server = replace(GOOD, used_memory=used * MB, maxmemory=most * MB, system_memory=machine * MB)
    found = only(doctor.check_server(server), "memory")
    assert found.status == status
    assert found.text.startswith(said)
    assert bool(found.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("difference", "status", "said"),
    [
        (0.0, "ok", "agree"), (1.9, "ok", "agree"), (-1.9, "ok", "agree"), (2.0, "warn", "2.0 s ahead of Redis'"),
        (-2.0, "warn", "2.0 s behind Redis'"), (-29.9, "warn", "29.9 s behind"), (30.0, "fail", "30.0 s ahead"),
    ],
)  # fmt: skip
def test_the_clock(difference: float, status: str, said: str) -> None:
    found = doctor.check_clock(difference)
    assert (found.status, said in found.text) == (status, True)


def test_settings() -> None:
    """A misspelt one is named with the one that is meant."""
    settings = Settings(app="shop")
    assert (
        only(doctor.check_settings(settings, {"STREAMS_LEASE": "3", "STREAMS_APP": "x", "PATH": ""}), "settings").status
        == "ok"
    )
    near, far = doctor.check_settings(settings, {"STREAMS_LEAES": "3", "STREAMS_XQXQXQXQXQXQXQXQXQXQ": "1"})
    assert (near.status, near.remedy) == ("warn", "did you mean STREAMS_LEASE?")
    assert (far.status, far.remedy) == ("warn", "unset STREAMS_XQXQXQXQXQXQXQXQXQXQ, unless another program reads it")
    (risk,) = doctor.check_settings(Settings(app="shop", accept_risk=frozenset({"no-aof"})), {})
    assert (risk.status, "no-aof" in risk.text) == ("warn", True)


def test_partitions() -> None:
    assert doctor.check_partitions(EMPTY) == Finding("partitions", "ok", "1, on 1 server")
    wrong = doctor.check_partitions(replace(EMPTY, registered=4))
    assert wrong.status == "fail"
    assert wrong.remedy == "set STREAMS_PARTITIONS=4, or streams partitions --set 1"


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (group(ALIVE), "ok", "1 consumer of email alive"),
        (group(ALIVE, ALIVE, lag=1, age=60.0), "ok", "2 consumers of email alive: 1 unread"),
        (group(ALIVE, lag=1, age=60.1), "warn", "email falls behind with 1 consumer"),
        (group(), "warn", "it has nothing to do now"),
        (group(lag=1), "fail", "no consumer of email is alive: 1 unread, 0 pending, 0 waiting"),
        (group(pending=1), "fail", "0 unread, 1 pending"), (group(waiting=1), "fail", "1 waiting"),
    ],
)  # fmt: skip
def test_a_group(given: GroupState, status: str, said: str) -> None:
    """Without a consumer it fails if it has work; it falls behind when something lies unread for a minute."""
    found = only(doctor.check_state(replace(EMPTY, groups=(given,)), 30.0), "group email")
    assert (found.status, said in found.text) == (status, True), found


def test_no_group_and_dead_letters() -> None:
    assert only(doctor.check_state(EMPTY, 30.0), "groups").status == "warn"
    found = statuses(doctor.check_state(replace(EMPTY, groups=(group(ALIVE),)), 30.0))
    assert found == {"group email": "ok", "waiting": "ok"}
    dead = only(doctor.check_state(replace(EMPTY, groups=(group(ALIVE, dead=1),)), 30.0), "dead email")
    assert (dead.status, dead.text) == ("warn", "1 dead letter in email")


def test_consumers_that_are_gone() -> None:
    """They matter for what they hold: others take it over, if there are any."""
    gone, empty = ConsumerState("c-2", 90.0, 2, False), ConsumerState("c-3", 90.0, 0, False)
    alone = only(doctor.check_state(replace(EMPTY, groups=(group(gone, empty),)), 30.0), "gone email")
    assert (alone.status, alone.text) == ("fail", "1 consumer of email gone, still holding 2")
    beside = only(doctor.check_state(replace(EMPTY, groups=(group(gone, gone, ALIVE),)), 30.0), "gone email")
    assert (beside.status, beside.text) == ("warn", "2 consumers of email gone, still holding 4")
    assert beside.remedy == "wait 38 s: the others take it over"
    assert "gone email" not in statuses(doctor.check_state(replace(EMPTY, groups=(group(empty, ALIVE),)), 30.0))


@pytest.mark.parametrize(
    ("waiting", "status"),
    [
        (Waiting(3, 3, 0, 60.0), "ok"), (Waiting(3, 3, 1, -5.0), "ok"), (Waiting(3, 3, 1, -5.1), "fail"),
        (Waiting(3, 3, 0, -9.0), "ok"), (Waiting(3, 3, 0, None), "ok"),
    ],
)  # fmt: skip
def test_what_waits_is_overdue_after_five_seconds(waiting: Waiting, status: str) -> None:
    assert only(doctor.check_state(replace(EMPTY, waiting=waiting), 30.0), "waiting").status == status


def account(last_seen: float = 0.0, gaps: tuple[Gap, ...] = ()) -> GroupAccount:
    """One of the group email."""
    return GroupAccount("email", 9, 0, 9, 0, 0, 0, 0, 0, 0, 0, (), gaps, int(last_seen))


def test_what_is_not_accounted_for() -> None:
    """A loss fails; a stream that was made anew has more than was published, and warns."""
    settings = Settings(app="shop")
    whole = replace(EMPTY, accounts=Accounts((account(),), ()))
    assert statuses(doctor.check_ledger(whole, settings)) == {"ledger": "ok"}
    gaps = (
        Gap("email", "users", 2, "1-0", "9-0", "p"), Gap("email", "inbox:email", 1, "", "", "p"),
        Gap("email", "users", -3, "", "", "p"), Gap("", "due", 4, "", "", "p"),
    )  # fmt: skip
    found = list(doctor.check_ledger(replace(EMPTY, accounts=Accounts((account(gaps=gaps[:3]),), gaps[3:])), settings))
    assert [(finding.status, finding.text) for finding in found] == [
        ("fail", "2 in users of email are gone between 1-0 and 9-0: removed before they were settled"),
        ("fail", "1 in inbox:email are gone: removed before they were settled"),
        ("warn", "users of email settled 3 more than was published: it was made anew"),
        ("fail", "4 in due are gone: removed before they were settled"),
    ]
    assert [finding.remedy.rpartition(" ")[2] for finding in found] == ["email", "email", "email", "all"]


def test_a_group_that_nobody_runs_any_more() -> None:
    """After the time of the settings; not if it is alive, and not if it is unknown when it was."""
    settings = Settings(app="shop", abandoned_after=3_600.0)
    now = NOW.timestamp()
    for last_seen, consumers, said in (
        (now - 3_600, (), False), (now - 3_601, (), True), (now - 3_601, (ALIVE,), False), (0, (), False),
    ):  # fmt: skip
        accounts = Accounts((account(last_seen),), ())
        found = statuses(doctor.check_ledger(replace(EMPTY, groups=(group(*consumers),), accounts=accounts), settings))
        assert ("abandoned email" in found) == said, (last_seen, consumers)


@pytest.mark.parametrize(("dead", "status"), [(79, None), (80, "warn"), (99, "warn"), (100, "fail"), (101, "fail")])
def test_how_full_the_dead_letters_are(dead: int, status: str | None) -> None:
    """Beyond their cap the oldest go."""
    snapshot = replace(EMPTY, groups=(group(ALIVE, dead=dead),))
    assert statuses(doctor.check_ledger(snapshot, Settings(app="shop", dead_most=100))).get("cap email") == status
    assert "cap email" not in statuses(doctor.check_ledger(snapshot, Settings(app="shop", dead_most=None)))


def test_schedules() -> None:
    """Each has one finding: what is wrong most."""
    good = ScheduleState("r.weekly", "r", "", "each week", "UTC", "", None, "", "", None, None, 0, False, True)
    for change, status, said in (
        ({}, "ok", "it runs (each week)"), ({"missed": 1}, "warn", "1 slot of it passed"),
        ({"missed": 2}, "warn", "2 slots of it passed"), ({"alive": False, "missed": 1}, "fail", "no consumer of r"),
        ({"paused": True, "alive": False}, "ok", "it is paused"),
        ({"problem": "no JSON", "paused": True}, "fail", "its definition is unreadable: no JSON"),
    ):  # fmt: skip
        (found,) = doctor.check_schedules([replace(good, **change)])  # type: ignore[arg-type]
        assert (found.check, found.status) == ("schedule r.weekly", status)
        assert found.text.startswith(said)


def test_damage() -> None:
    assert statuses(doctor.check_damage([])) == {"damage": "ok"}
    severe, slight = doctor.check_damage([Damage("k", "what", "how", True), Damage("l", "what", "how", False)])
    assert (severe.status, slight.status, severe.remedy) == ("fail", "warn", "how")


def test_what_waits_for_a_deploy() -> None:
    """It fails when half of the time is over that it has."""
    settings = Settings(app="shop", unsupported_for=7_200.0)
    for age, status in ((3_600, "warn"), (3_601, "fail"), (-10, "warn")):
        newer = UnsupportedMessages("email", "Noted", 3, 2, NOW - timedelta(seconds=age))
        (found,) = doctor.check_newer([newer], settings, NOW)
        assert (found.status, found.text.startswith("2 messages of Noted version 3 newer than")) == (status, True)
    assert (
        " met it, " in next(doctor.check_newer([UnsupportedMessages("email", "Noted", 3, 1, NOW)], settings, NOW)).text
    )
