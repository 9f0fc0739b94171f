"""What status shows of a snapshot: what needs a person is there and is loud, what is as usual is not."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from rich.console import Console

from streams.cli.commands.status import picture
from streams.inspecting.ledger import Gap, GroupAccount
from streams.inspecting.reconciliation import Accounts
from streams.inspecting.snapshot import ConsumerState, GroupState, Snapshot, StreamPosition, StreamState, Waiting
from streams.redis.server import Server

SERVER: Final = Server("redis://h:6379", "8.2.3", "standalone", "noeviction", True, "always", 1536, 0, 0, 1, "r1")
EMPTY: Final = Snapshot(
    datetime(2026, 11, 24, tzinfo=UTC), "shop", SERVER, (), (), Waiting(0, 0, 0, None), Accounts((), ()), (SERVER,)
)


def group(
    *readings: StreamPosition, consumers: tuple[ConsumerState, ...] = (), waiting: int = 0, dead: int = 0
) -> GroupState:
    """The group email, with an empty inbox."""
    return GroupState("email", readings, StreamPosition("inbox", 0, None, 0, None), waiting, dead, consumers)


def account(name: str = "email", gaps: tuple[Gap, ...] = ()) -> GroupAccount:
    """One of a group that has acked seven of ten."""
    return GroupAccount(name, 10, 0, 7, 0, 0, 0, 0, 0, 0, 3 - sum(gap.count for gap in gaps), (), gaps, 0)


def shown(snapshot: Snapshot) -> list[str]:
    """Its lines; before what is loud is an asterisk."""
    screen = Console(width=200, file=io.StringIO(), highlight=False, color_system="standard", force_terminal=True)
    screen.print(picture(snapshot, 200))
    red = re.sub(r"\x1b\[[\d;]*31m *", "*", screen.file.getvalue())  # type: ignore[attr-defined]
    text = re.sub(r"\x1b\[[\d;]*m", "", red)
    return [" ".join(line.split()) for line in text.splitlines()]


def below(lines: list[str], heading: str) -> list[list[str]]:
    """The rows of the table whose first heading that is, cell by cell."""
    (first,) = [number for number, line in enumerate(lines) if line.split()[:1] == [heading]]
    end = next(number for number in range(first, len(lines)) if not lines[number])
    return [line.split() for line in lines[first + 1 : end]]


def test_the_server() -> None:
    """How durable it is comes first; an eviction policy or a missing AOF is loud."""
    head, *_ = shown(EMPTY)
    assert head == "shop on redis://h:6379, Redis 8.2.3, noeviction, AOF always, 1.5 KB used"
    hidden = replace(EMPTY, server=replace(SERVER, appendfsync=""))
    assert "noeviction, AOF, 1.5" in shown(hidden)[0]
    unsafe = replace(EMPTY, server=replace(SERVER, maxmemory_policy="allkeys-lru", aof=False))
    assert "*allkeys-lru, *AOF off, 1.5" in shown(unsafe)[0]


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (5 * 2**20, "5.0 MB"),
        (3 * 2**30, "3.0 GB"),
        (5 * 2**40, "5120.0 GB"),
    ],
)
def test_the_memory_of_all_servers(used: int, said: str) -> None:
    snapshot = replace(EMPTY, servers=(replace(SERVER, used_memory=used), replace(SERVER, used_memory=0, run_id="r2")))
    assert f", {said} used" in shown(snapshot)[0]


def test_partitions() -> None:
    """One is not said, several are; a number that is not the one of the settings is loud."""
    assert "partition" not in shown(EMPTY)[0]
    many = replace(EMPTY, partitions=4, registered=4, servers=(SERVER, SERVER))
    assert shown(many)[0].endswith(" used, 4 partitions on 2 server(s)")
    assert "*, STREAMS_PARTITIONS is 1, but there are 4" in shown(replace(EMPTY, registered=4))[0]


def test_nothing_yet_or_nothing_any_more() -> None:
    """A new app has one sentence; where something waits, or was cancelled, its streams are only empty."""
    assert shown(EMPTY)[2:] == ["nothing is published yet, and no group has started: streams publish --help"]
    delayed = shown(replace(EMPTY, waiting=Waiting(1, 1, 0, 60.0)))
    assert delayed[2].startswith("nothing is in a stream, and no group has started")
    assert delayed[3] == "waiting 1: 1 delayed, 0 retries and snoozes; next due in 60 s"
    cancelled = shown(replace(EMPTY, accounts=Accounts((), (), 2)))
    assert cancelled[2].startswith("nothing is in a stream")
    assert cancelled[3] == "waiting 0; 2 delayed cancelled before they were due"


LANES: Final = (StreamState("users", "normal", 3, 90.0), StreamState("users", "low", 0, None))


@pytest.mark.parametrize(
    ("waiting", "lines"),
    [
        (Waiting(0, 0, 0, None), ["waiting 0"]),
        (Waiting(9, 2, 0, 0.0), ["waiting 9: 2 delayed, 7 retries and snoozes; next due in 0.0 s"]),
        (Waiting(9, 2, 0, 5.0, 4), ["waiting 9: 2 delayed, 3 retries and snoozes, 4 queued; next due in 5.0 s"]),
        (Waiting(9, 2, 3, -2.0), ["waiting 9: 2 delayed, 7 retries and snoozes"]),  # a mover looks every half second
        (Waiting(9, 9, 3, -2.5),
         ["waiting 9: 9 delayed, 0 retries and snoozes",
          "*3 overdue, the oldest for 2.5 s: a running consumer moves them"]),
    ],
)  # fmt: skip
def test_what_waits(waiting: Waiting, lines: list[str]) -> None:
    """What is due is moved within half a second; only what is later than that is loud."""
    assert shown(replace(EMPTY, streams=LANES, waiting=waiting))[-len(lines) :] == lines


def test_streams() -> None:
    """Lanes that nobody uses are left out, an empty stream is not."""
    empty = StreamState("reports", "normal", 0, None)
    high = StreamState("users", "high", 1_200, 5.0)
    lines = shown(replace(EMPTY, streams=(high, *LANES, empty)))
    assert below(lines, "STREAM") == [
        ["users:high", "1,200", "5.0", "s"], ["users", "3", "90", "s"], ["reports", "0", "-"]
    ]  # fmt: skip


def test_groups() -> None:
    """Sums over what it reads, and the oldest of each; with several streams a line for each that has something."""
    one, other = StreamPosition("users", 2, 10.0, 1, 30.0), StreamPosition("emails", 1, 20.0, 4, 15.0)
    consumers = (ConsumerState("c-1", 0.5, 5, True), ConsumerState("c-2", 0.4, 0, True))
    lines = shown(replace(EMPTY, streams=LANES, groups=(group(one, other, consumers=consumers, waiting=7, dead=0),)))
    assert [" ".join(row) for row in below(lines, "GROUP")] == [
        "email 3 20 s 5 30 s 7 0 2", "users 2 10 s 1 30 s", "emails 1 20 s 4 15 s",
    ]  # fmt: skip
    lines = shown(replace(EMPTY, groups=(group(one, replace(other, lag=0, pending=0), dead=2),)))
    assert [row[0] for row in below(lines, "GROUP")] == ["email", "users"]
    assert below(lines, "GROUP")[0][-2:] == ["*2", "*0"], "dead letters and a group without a consumer are loud"


@pytest.mark.parametrize(
    ("reading", "waiting", "loud"),
    [
        (StreamPosition("users", 0, None, 0, None), 0, False), (StreamPosition("users", 1, 1.0, 0, None), 0, True),
        (StreamPosition("users", 0, None, 1, 1.0), 0, True), (StreamPosition("users", 0, None, 0, None), 1, True),
    ],
)  # fmt: skip
def test_a_group_without_a_consumer_is_loud_if_it_has_work(reading: StreamPosition, waiting: int, loud: bool) -> None:
    idle = group(reading, waiting=waiting)
    alive = group(reading, consumers=(ConsumerState("c-1", 0.5, 0, True),), waiting=waiting)
    assert below(shown(replace(EMPTY, groups=(idle,))), "GROUP")[0][-1] == ("*0" if loud else "0")
    assert below(shown(replace(EMPTY, groups=(alive,))), "GROUP")[0][-1] == "1"


def test_consumers() -> None:
    """One that sends no heartbeat is loud."""
    consumers = (
        ConsumerState("c-1", 0.5, 1_500, True),
        ConsumerState("c-2", 90.0, 1, False),
        ConsumerState("c-3", None, 0, False),
    )
    lines = shown(replace(EMPTY, groups=(group(consumers=consumers),)))
    assert [" ".join(row) for row in below(lines, "CONSUMER")] == [
        "c-1 email 0.5 s ago 1,500", "c-2 email *90 s ago 1", "c-3 email *never 0",
    ]  # fmt: skip
    assert not any("CONSUMER" in line for line in shown(replace(EMPTY, groups=(group(),))))


def test_accounts_and_gaps() -> None:
    """A gap is loud in its column, and one sentence that says where it is; of a gap in an inbox the group is known."""
    gaps = (
        Gap("email", "users", 2, "1-0", "9-0", "email stream:users"),
        Gap("email", "inbox:email", 1, "", "", "inbox:email"),
        Gap("", "due", 4, "", "", "due"),
    )
    lines = shown(
        replace(EMPTY, groups=(group(),), accounts=Accounts((account(gaps=gaps[:2]), account("crm")), gaps[2:]))
    )
    assert below(lines, "ACCOUNT") == [
        ["email", "10", "7", "0", "*3"], ["crm", "10", "7", "3", "0"],
        *(line.split() for line in (
            "*GAP 2 missing in users of email, between 1-0 and 9-0: streams gaps",
            "*GAP 1 missing in inbox:email: streams gaps", "*GAP 4 missing in due: streams gaps",
        )),
    ]  # fmt: skip
