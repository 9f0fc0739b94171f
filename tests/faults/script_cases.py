"""Script cases: for each script, something to cut: what it needs, and one call of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from streams import app
from streams.admin import scripts as admin_scripts
from streams.consuming import scripts as consuming_scripts
from streams.dead_letters import scripts as dead_letters_scripts
from streams.handlers import progress as handlers_progress
from streams.inspecting import reconciliation
from streams.messages.message import Carried, Message
from streams.publishing import scripts as publishing_scripts
from streams.redis import script
from streams.redis.keys import Keys
from streams.scheduling import scripts as scheduling_scripts
from streams.settling import limits as settling_limits
from streams.settling import scripts as settling_scripts
from streams.settling.ordering import Ordering
from tests.support.cut_aof import Case
from tests.support.events import Noted

KEYS: Final = Keys("aof")
NOTES, INBOX, DEAD, HISTORY = KEYS.stream("notes"), KEYS.inbox("g"), KEYS.dead("g"), KEYS.history("g")
RECORD: Final = [b"what", b"replayed", b"by", b"a test"]
CASES: Final[dict[str, Case]] = {}


def case(function: Case) -> Case:
    """A script that is cut: its name, and after `__` which of its ways."""
    CASES[function.__name__] = function
    return function


def note(n: int = 1, key: str = "", when: str = "", once: str = "", target: str = NOTES) -> Message:
    """One message."""
    made = Message.for_event(Noted(n=n), source="test", target=target, when=when, key=key)
    made.once = once
    return made


async def add(client: Any, *messages: Message, sequence: int = 1) -> None:
    """Publishes."""
    streams = list(dict.fromkeys(message.target for message in messages))
    await publishing_scripts.publish(
        client.execute_command, KEYS, producer=KEYS.producer("p"), streams=streams, sequence=sequence,
        messages=messages,
    )  # fmt: skip


async def group(client: Any, name: str = "g") -> None:
    """Makes a group."""
    streams = [NOTES, KEYS.inbox(name)]
    await consuming_scripts.ensure_groups(client.execute_command, KEYS, group=name, streams=streams)


async def held(client: Any, *messages: Message, by: str = "me") -> list[bytes]:
    """Publishes to a group whose consumer reads it all; returns the entry ids."""
    await group(client)
    await add(client, *messages)
    ((_, entries),) = await client.xreadgroup("g", by, {NOTES: ">"}, count=100)
    return [entry_id for entry_id, _ in entries]


async def in_turn(client: Any, by: str = "me") -> tuple[int, list[Any], list[bytes]]:
    """Reads for an ordered group."""
    return await settling_scripts.read_in_turn(
        client.execute_command, KEYS, streams=[INBOX, NOTES], group="g", consumer=by, most=10
    )


async def settle(client: Any, operations: list[script.Value], *, turns: str = "", limits: str = "") -> list[int]:
    """Settles what `me` holds of the notes."""
    lost, refused = await settling_scripts.settle(
        client.execute_command, KEYS, streams=[NOTES, INBOX], group="g", consumer="me",
        turns=turns, limits=limits, operations=operations,
    )  # fmt: skip
    assert not refused
    return lost


def fields(values: list[bytes]) -> list[script.Value]:
    """FIELDS, as the headers of the scripts say."""
    return [len(values), *values]


def back(origin: bytes, key: str = "") -> list[bytes]:
    """A message on its way back to its group."""
    return note(key=key).encode_back(Carried(origin=f"{NOTES} {origin.decode()}", failures=1, deliveries=1))


async def admit(client: Any, ids: list[bytes]) -> list[settling_limits.Answer]:
    """Asks a limit of one at once."""
    limit = settling_limits.LimitSpec("one", "one at once", 0.0, 1, 1)
    asks = [
        settling_limits.PermitRequest(NOTES, entry_id, 1, "one", b"k%d" % (at % 2), 1)
        for at, entry_id in enumerate(ids)
    ]
    _, answers = await settling_limits.admit(
        client.execute_command, KEYS, group="g", consumer="me", limits=[limit], asks=asks
    )
    return answers


# The way of an event -----------------------------------------------------------------------------------------------


@case
async def ensure_groups(client: Any) -> AsyncGenerator[None]:
    await add(client, note(1), note(2))
    await client.xdel(NOTES, (await client.xrange(NOTES))[0][0])
    yield
    await group(client)


@case
async def publish(client: Any) -> AsyncGenerator[None]:
    await group(client)
    yield
    await add(client, note(1), note(2, once=KEYS.once("o")), note(3, when="+60000"), note(4, target=KEYS.stream("x")))


@case
async def publish__again(client: Any) -> AsyncGenerator[None]:
    message = note(2, once=KEYS.once("o"))
    await add(client, message)
    yield
    await add(client, message, note(3, when="+60000"), sequence=2)


@case
async def release_due(client: Any) -> AsyncGenerator[None]:
    await group(client)
    await add(client, note(1, when="@1"), note(2, when="@2"), note(3, when="+60000"))
    await client.zadd(KEYS.due(), {"broken": 3})
    yield
    moved, _, broken, _, _ = await settling_scripts.release_due(client.execute_command, KEYS, most=10)
    assert (moved, broken) == (2, 1)


@case
async def read_ordered(client: Any) -> AsyncGenerator[None]:
    await group(client)
    await add(client, note(1, "k"), note(2, "k"), note(3, "k"), note(4, "other"), note(5))
    yield
    number, found, _ = await in_turn(client)
    assert (number, sum(len(entries) for _, entries in found)) == (5, 3)  # in steps, as one read is of few bytes


@case
async def renew(client: Any) -> AsyncGenerator[None]:
    ids = await held(client, *map(note, range(3)))
    await client.zadd(KEYS.consumers("g"), {"me": 1})
    yield
    arguments = consuming_scripts.renew_arguments(KEYS.consumers("g"), "g", "me", {NOTES: [(one, 1) for one in ids]})
    assert await script.run(client.execute_command, consuming_scripts.RENEW, *arguments) == []


@case
async def reclaim(client: Any) -> AsyncGenerator[None]:
    ids = await held(client, *map(note, range(4)), by="other")
    await client.xdel(NOTES, ids[1])
    yield
    _, vanished, taken = await consuming_scripts.reclaim(
        client.execute_command, NOTES, group="g", consumer="me", lease_ms=0, cursor=b"0-0", most=10, suspect=3
    )
    assert (vanished, len(taken)) == ([ids[1]], 3)


@case
async def reclaim__in_order(client: Any) -> AsyncGenerator[None]:
    await held(client, *(note(n, key="k") for n in range(3)), by="other")
    yield
    _, _, taken = await consuming_scripts.reclaim(
        client.execute_command, NOTES, group="g", consumer="me", lease_ms=0, cursor=b"0-0", most=10, suspect=3,
        order=Ordering(KEYS, "g").order,
    )  # fmt: skip
    assert len(taken) == 1


@case
async def count_delivery(client: Any) -> AsyncGenerator[None]:
    (one,) = await held(client, note())
    yield
    assert await consuming_scripts.begin(client.execute_command, NOTES, group="g", consumer="me", entry_id=one, count=1)


@case
async def admit__line(client: Any) -> AsyncGenerator[None]:
    ids = await held(client, *map(note, range(4)))
    yield
    assert await admit(client, ids) == [1, 0, 0, 0]


@case
async def progress(client: Any) -> AsyncGenerator[None]:
    await group(client)
    yield
    await handlers_progress.progress(
        client.execute_command, KEYS.progress("e"), group="g", delivery="me 1", is_first=True, report=b"{}"
    )


@case
async def settle__all(client: Any) -> AsyncGenerator[None]:
    """Acks, a follow-up, a retry, a dead letter, a hand-back, a cancelled one, in one batch."""
    a, b, follows, waits, dead, returns, off = await held(client, *map(note, range(7)))
    yield
    lost = await settle(
        client,
        [
            1, 0, a, off, 1, 1, 2, a, b, 5,
            follows, 1, "f", 1, 1, *fields(note().encode()), 0,
            waits, 1, "w", 60000, "w-1", *fields([INBOX.encode(), *back(waits)]), *fields(RECORD),
            dead, 1, "d", 1, 1, *fields(note().encode()), *fields([*note().encode(), b"reason", b"x"]), *fields(RECORD),
            returns, 1, "b", 2, *fields(back(returns)), 0,
            off, 1, "c", *fields(RECORD),
        ],
    )  # fmt: skip
    assert lost == []


@case
async def settle__ordered(client: Any) -> AsyncGenerator[None]:
    """The end of a turn, which lets the next one in."""
    await group(client)
    await add(client, note(1, "k"), note(2, "k"))
    _, [(_, [(first, _)])], _ = await in_turn(client)
    yield
    origin = f"{NOTES} {first.decode()}"
    await settle(client, [1, 0, first, first, 0, 1, first, 1, "k", origin, "c", *fields(RECORD)], turns=KEYS.turns("g"))


@case
async def settle__limited(client: Any) -> AsyncGenerator[None]:
    """The end of one that was let in, which lets the next one in."""
    first, *others = await held(client, *map(note, range(3)))
    await admit(client, [first, *others])
    yield
    operations: list[script.Value] = [1, 0, first, first, 0, 1, first, 1, "one", "f", 0, 0]
    await settle(client, operations, limits=KEYS.limits("g"))


# What looks after limits and turns ---------------------------------------------------------------------------------


@case
async def release_limited(client: Any) -> AsyncGenerator[None]:
    await admit(client, await held(client, *map(note, range(3))))
    await client.delete(f"{KEYS.limits('g')}:one:held")
    await client.zadd(KEYS.limits("g"), {"one": 0})
    yield
    await settling_limits.serve(client.execute_command, KEYS, group="g")


@case
async def repair_limit(client: Any) -> AsyncGenerator[None]:
    first, *others = await held(client, *map(note, range(3)))
    await admit(client, [first, *others])
    await client.xack(NOTES, "g", first)
    yield
    assert await settling_limits.repair(client, KEYS, group="g") == (1, 0)


@case
async def repair_limit__disband(client: Any) -> AsyncGenerator[None]:
    await admit(client, await held(client, *map(note, range(4))))
    yield
    assert await settling_limits.repair(client, KEYS, group="g", release_all=True) == (0, 3)


@case
async def repair_order(client: Any) -> AsyncGenerator[None]:
    await group(client)
    await add(client, note(1, "k"), note(2, "k"), note(3, "k"))
    _, [(_, [(first, _)])], _ = await in_turn(client)
    await client.xack(NOTES, "g", first)
    yield
    assert await settling_scripts.repair_order(
        client.execute_command,
        KEYS,
        source=NOTES,
        group="g",
        key=b"k",
        whose=f"{NOTES} {first.decode()}".encode(),
        entry_id=first.decode(),
        release_all=False,
        waiting_id=f"g notes {first.decode()}",
        seen=b"0-0",
    )


# What people ask for -----------------------------------------------------------------------------------------------


@case
async def cancel(client: Any) -> AsyncGenerator[None]:
    await group(client)
    await group(client, "h")
    await add(client, note())
    ((one, _),) = await client.xrange(NOTES)
    yield
    states = await ask_to_cancel(client, one, ("g", "h"))
    assert set(states.values()) == {"cancelled"}


async def ask_to_cancel(client: Any, one: bytes, groups: Sequence[str], **more: Any) -> dict[str, str]:
    """Cancels an entry for groups."""
    about = [(name, KEYS.cancelled(name), KEYS.control(name), KEYS.history(name), RECORD) for name in groups]
    return await admin_scripts.cancel(client.execute_command, NOTES, KEYS, entry_id=one.decode(), groups=about, **more)


@case
async def cancel__read_by_no_group(client: Any) -> AsyncGenerator[None]:
    await add(client, note())
    ((one, _),) = await client.xrange(NOTES)
    yield
    states = await ask_to_cancel(client, one, (), unread=RECORD)
    assert states == {"": "cancelled"}


@case
async def cancel__running(client: Any) -> AsyncGenerator[None]:
    (one,) = await held(client, note())
    await group(client, "h")
    yield
    states = await ask_to_cancel(client, one, ("g", "h"))
    assert set(states.values()) == {"cancelling"}


@case
async def cancel_waiting(client: Any) -> AsyncGenerator[None]:
    """A retry that had the turn of its key."""
    await group(client)
    await add(client, note(1, "k"), note(2, "k"))
    _, [(_, [(first, _)])], _ = await in_turn(client)
    origin = f"{NOTES} {first.decode()}"
    waits = [first, 1, "k", origin, "w", 60000, "w-1", *fields([INBOX.encode(), *back(first, "k")]), 0]
    await settle(client, [1, 0, first, first, 0, 1, *waits], turns=KEYS.turns("g"))
    yield
    assert await admin_scripts.cancel_waiting(
        client.execute_command, KEYS, waiting_id="w-1", records=[(HISTORY, RECORD)]
    )


@case
async def cancel_waiting__delayed(client: Any) -> AsyncGenerator[None]:
    """An event that no group reads yet."""
    delayed = note()
    delayed.when = "+60000"
    await add(client, delayed)
    yield
    assert await admin_scripts.cancel_waiting(
        client.execute_command, KEYS, waiting_id=delayed.id, delayed=RECORD, records=[]
    )


@case
async def bring_forward(client: Any) -> AsyncGenerator[None]:
    await add(client, later := note(1, when="+60000"))
    yield
    assert await settling_scripts.bring_forward(client.execute_command, KEYS, ids=[later.id]) == 1


@case
async def pause(client: Any) -> AsyncGenerator[None]:
    yield
    await admin_scripts.pause(client.execute_command, KEYS, group="g", on=True)


@case
async def write_report(client: Any) -> AsyncGenerator[None]:
    yield
    await consuming_scripts.report(client.execute_command, KEYS, group="g", consumer="me", report=b"{}")


@case
async def replay_dead_letters(client: Any) -> AsyncGenerator[None]:
    await group(client)
    ids = [await client.execute_command("XADD", DEAD, "*", *back(b"1-1")) for _ in range(2)]
    yield
    letters = [(one.decode(), back(b"1-1"), RECORD) for one in ids]
    assert await dead_letters_scripts.replay(client.execute_command, KEYS, group="g", letters=letters) == len(ids)


@case
async def discard(client: Any) -> AsyncGenerator[None]:
    ids = [await client.execute_command("XADD", DEAD, "*", *back(b"1-1")) for _ in range(2)]
    yield
    letters = [(one.decode(), RECORD) for one in ids]
    await dead_letters_scripts.discard(client.execute_command, KEYS, group="g", letters=letters)


@case
async def edit(client: Any) -> AsyncGenerator[None]:
    one = await client.execute_command("XADD", DEAD, "*", *back(b"1-1"))
    yield
    assert await dead_letters_scripts.edit(
        client.execute_command,
        KEYS,
        group="g",
        entry_id=one.decode(),
        letter=[*back(b"1-1"), b"edited", b"1"],
        record=RECORD,
    )


@case
async def replay_step(client: Any) -> AsyncGenerator[None]:
    await group(client)
    await client.hset(KEYS.replays(), "r", "1")
    yield
    assert (
        await admin_scripts.replay_step(
            client.execute_command,
            KEYS,
            id="r",
            before=b"1",
            after=b"2",
            group="g",
            messages=[back(b"1-1"), back(b"1-2")],
        )
        == 1
    )


# Chores ------------------------------------------------------------------------------------------------------------


@case
async def trim(client: Any) -> AsyncGenerator[None]:
    ids = await held(client, *map(note, range(6)))
    await client.xack(NOTES, "g", *ids[:4])
    yield
    done = await admin_scripts.trim(client.execute_command, NOTES, KEYS, most=100, keep=1, age_ms=None, dry_run=False)
    assert done.removed == 4


@case
async def retire_consumer(client: Any) -> AsyncGenerator[None]:
    (one,) = await held(client, note())
    await client.xack(NOTES, "g", one)
    await client.zadd(KEYS.consumers("g"), {"me": 1})
    yield
    assert await consuming_scripts.retire_consumer(
        client.execute_command, KEYS, group="g", consumer="me", streams=[NOTES, INBOX], silent_ms=0
    )


@case
async def retire_group(client: Any) -> AsyncGenerator[None]:
    await admit(client, await held(client, *map(note, range(3))))
    await add(client, note(1, "k"), note(2, "k"), sequence=2)
    await in_turn(client)
    await client.execute_command("XADD", INBOX, "*", *back(b"1-1"))
    await client.zadd(KEYS.consumers("g"), {"me": 1})
    await client.sadd(KEYS.paused(), "g")
    await client.zadd(KEYS.cancelled("g"), {"x": 1})
    yield
    done, *_ = await admin_scripts.retire_group(
        client.execute_command, KEYS, streams=[NOTES, INBOX], group="g", alive_ms=1, apply=True
    )
    assert done == 1


@case
async def drop_waiting(client: Any) -> AsyncGenerator[None]:
    first, other = await held(client, note(1), note(2))
    for one in (first, other):
        waits = [one, 1, "w", 60000, one, *fields([INBOX.encode(), *back(one)]), 0]
        await settle(client, [1, 0, one, one, 0, 1, *waits])
    await client.hdel(KEYS.groups(), "g")
    yield
    dropped: int = await settling_scripts.drop_waiting(client.execute_command, KEYS, group="g", ids=[first, other])
    assert dropped == 2


@case
async def accept_gap(client: Any) -> AsyncGenerator[None]:
    yield
    await reconciliation.accept_gap(client.execute_command, KEYS, gaps=[("notes", 3), ("due", 1)])


@case
async def agree_partitions(client: Any) -> AsyncGenerator[None]:
    yield
    await app.agree_partitions(client.execute_command, KEYS, number=4)


# Schedules ---------------------------------------------------------------------------------------------------------


async def registered(client: Any) -> None:
    """Enters two schedules."""
    await scheduling_scripts.register_schedules(
        client.execute_command, KEYS, definitions=[("s", b"{}", "1"), ("t", b"{}", "2")]
    )


@case
async def register(client: Any) -> AsyncGenerator[None]:
    yield
    await registered(client)


@case
async def fire(client: Any) -> AsyncGenerator[None]:
    await registered(client)
    await client.hset(KEYS.slots(), "s", 1000)
    yield
    decided = await scheduling_scripts.fire(
        client.execute_command,
        KEYS,
        schedule="s",
        at=4000,
        kind="slot",
        missed=2,
        messages=[note(1), note(2, target=KEYS.stream("x"))],
    )
    assert decided == (1, 0)


@case
async def steer__forget(client: Any) -> AsyncGenerator[None]:
    await registered(client)
    yield
    await scheduling_scripts.steer_schedule(client.execute_command, KEYS, name="s", action="forget")


@case
async def steer__resume(client: Any) -> AsyncGenerator[None]:
    await registered(client)
    await client.hset(KEYS.slots(), "s:paused", 1)
    await client.hset(KEYS.slots(), "s", 1)
    yield
    await scheduling_scripts.steer_schedule(client.execute_command, KEYS, name="s", action="resume")
