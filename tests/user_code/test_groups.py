"""Groups of exceptions, as `asyncio.TaskGroup` raises them: one signal or error inside decides as it does alone."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import pytest

from streams import Backoff, Batch, BatchFailed, DeadLetter, Processor, Retry, Snooze, Unavailable
from streams.messages.error_text import describe, describe_traceback
from streams.messages.fingerprint import fingerprint, innermost_frame
from streams.testing import Crash, Harness
from tests.conformance import conftest
from tests.conformance.engine import Engine, becomes, dead
from tests.support.events import Noted

engine, make_engine, redis_binary = conftest.engine, conftest.make_engine, conftest.redis_binary
pytest_generate_tests = conftest.pytest_generate_tests

QUICK = Backoff(attempts=3, first=0.02, jitter=0)


async def raise_it(error: BaseException) -> None:
    raise error


async def fan_out(*errors: BaseException) -> None:
    """Raises them as a task group does: those of its children."""
    ready = asyncio.Event()

    async def child(error: BaseException) -> None:
        try:
            await ready.wait()
        finally:
            await raise_it(error)

    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(child(error))
        await asyncio.sleep(0)
        ready.set()


def nested(error: BaseException) -> BaseException:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error])])


class Once:
    """A processor whose handler fails for the first time."""

    def __init__(self, *errors: BaseException, retry: Backoff = QUICK, times: int = 1) -> None:
        self.processor = Processor("probe", retry=retry)
        self.tries = 0

        @self.processor.on(Noted)
        async def handle(event: Noted) -> None:
            self.tries += 1
            if self.tries <= times:
                await fan_out(*errors)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Snooze(0.01, "not yet"), "snoozed"),
        (Retry("again", after=0.01), "retried"),
        (Unavailable("smtp"), "snoozed"),
        (ValueError("no"), "retried"),
        (nested(Snooze(0.01, "not yet")), "snoozed"),
        (nested(Unavailable("smtp")), "snoozed"),
    ],
    ids=["snooze", "retry", "unavailable", "error", "nested snooze", "nested unavailable"],
)
async def test_one_inside_decides_as_it_does_alone(engine: Engine, error: BaseException, outcome: str) -> None:
    once = Once(error)
    await engine.start(once.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "acked")
    assert trail.history[0]["outcome"] == outcome
    assert trail.attempts == (2 if outcome == "retried" else 1)
    assert await dead(engine, "probe") == []


@pytest.mark.parametrize("wrap", [lambda error: error, nested], ids=["flat", "nested"])
async def test_a_rejection_inside_is_one(engine: Engine, wrap: Any) -> None:
    once = Once(wrap(DeadLetter("not wanted")), times=9)
    await engine.start(once.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "dead")
    (letter,) = await dead(engine, "probe")
    assert (letter.reason, letter.attempts) == ("rejected", 1)
    assert letter.error.startswith("DeadLetter: not wanted (in ")


async def test_what_a_policy_gives_up_on_is_found_inside(engine: Engine) -> None:
    once = Once(nested(KeyError("x")), retry=Backoff(attempts=5, give_up_on=(LookupError,)), times=9)
    await engine.start(once.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "dead")
    assert (await dead(engine, "probe"))[0].attempts == 1


async def test_the_text_and_the_place_of_the_causes_are_stored(engine: Engine) -> None:
    once = Once(ValueError("caf\udce9 password=hunter2"), KeyError("other"), retry=Backoff(attempts=1), times=9)
    await engine.start(once.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "dead")
    (letter,) = await dead(engine, "probe")
    assert letter.error == (
        "ValueError: caf\\udce9 password=[redacted]; KeyError: 'other' "
        "(in ExceptionGroup: unhandled errors in a TaskGroup)"
    )
    assert trail.history[-1]["error"] == letter.error
    assert "in fan_out" in letter.traceback
    assert letter.traceback.count("in raise_it") == 2
    assert "KeyError: 'other'" in letter.traceback


KINDS = {
    "reject": DeadLetter("never"),
    "away": Unavailable("smtp"),
    "hopeless": PermissionError("not ours"),
    "error": ValueError("no"),
    "retry": Retry("again", after=7),
    "snooze": Snooze(9, "later"),
}


@pytest.mark.parametrize(
    ("kinds", "outcome", "first"),
    [
        ("snooze error", "retried", "ValueError: no"),
        ("retry error", "retried", "ValueError: no"),
        ("retry snooze", "retried", "Retry: again"),
        ("error away", "snoozed", "unavailable: Unavailable: smtp"),
        ("hopeless away", "snoozed", "unavailable: Unavailable: smtp"),
        ("snooze away", "snoozed", "unavailable: Unavailable: smtp"),
        ("retry away", "snoozed", "unavailable: Unavailable: smtp"),
        ("error hopeless", "dead_lettered", "ValueError: no"),
        ("snooze hopeless", "dead_lettered", "PermissionError: not ours"),
        ("error reject", "dead_lettered", "DeadLetter: never"),
        ("away reject", "dead_lettered", "DeadLetter: never"),
        ("retry snooze error hopeless away reject", "dead_lettered", "DeadLetter: never"),
    ],
)
async def test_of_several_kinds_the_safest_decides(kinds: str, outcome: str, first: str) -> None:
    """A rejection, else an outage, else what is given up on, else an attempt, else a snooze."""
    once = Once(
        *(KINDS[kind] for kind in kinds.split()),
        retry=Backoff(attempts=3, first=2, jitter=0, give_up_on=(PermissionError,)),
    )
    async with Harness(once.processor) as streams:
        receipt = await streams.publish(Noted(n=1))
        await streams.run()
        (group,) = (await streams.event(receipt.id)).groups
        line = group.history[0]
        assert line["outcome"] == outcome
        assert (line["reason"] if outcome == "snoozed" else line["error"]).startswith(first)
        if outcome == "retried":  # not before the longest that was asked for
            assert group.due_in == pytest.approx(9 if "snooze" in kinds else 7, abs=0.1)


async def test_the_longest_snooze_is_waited_for() -> None:
    once = Once(Snooze(5, "five"), Snooze(50, "fifty"), Snooze(7))
    async with Harness(once.processor) as streams:
        receipt = await streams.publish(Noted(n=1))
        await streams.run()
        (group,) = (await streams.event(receipt.id)).groups
        assert (group.history[0]["reason"], group.due_in) == ("fifty", pytest.approx(50, abs=0.1))


async def test_a_group_of_cancels_is_a_cancel(engine: Engine) -> None:
    """As a bare one that was let through: its failure, and the slot goes on."""
    probe, tries = Processor("probe", concurrency=1, retry=QUICK), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        if len(tries) == 1:
            raise BaseExceptionGroup("all cancelled", [asyncio.CancelledError(), nested(asyncio.CancelledError())])

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "acked")
    assert trail.history[0]["outcome"] == "retried"
    assert "cancelled" in trail.history[0]["error"]


async def test_a_cancel_beside_an_error_does_not_hide_it(engine: Engine) -> None:
    probe = Processor("probe", retry=Backoff(attempts=1))

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        raise BaseExceptionGroup("both", [asyncio.CancelledError(), SystemExit(3), ValueError("no")])

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "dead")
    assert (await dead(engine, "probe"))[0].error.startswith("SystemExit: 3; ValueError: no; CancelledError (in ")


async def test_a_timeout_inside_a_task_group_is_one(engine: Engine) -> None:
    probe, tries = Processor("probe", retry=QUICK), list[int]()

    @probe.on(Noted, timeout=0.1)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        if len(tries) == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "acked")
    assert "longer than 0.1 s" in trail.history[0]["error"]


async def test_the_death_of_a_process_inside_a_group_is_one() -> None:
    probe, tries = Processor("probe"), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        if len(tries) == 1:
            raise BaseExceptionGroup("dies", [ValueError("no"), nested(Crash())])

    async with Harness(probe) as streams:
        receipt = await streams.publish(Noted(n=1))
        await streams.run()
        (group,) = (await streams.event(receipt.id)).groups
        assert (group.state, len(tries), group.history) == ("acked", 2, ())


@pytest.mark.parametrize(
    "error", [Snooze(0.01), Unavailable("smtp"), Retry(after=0.01)], ids=["snooze", "away", "retry"]
)
async def test_a_batch_waits_as_a_whole(engine: Engine, error: Exception) -> None:
    probe, lists = Processor("probe", retry=QUICK), list[list[int]]()

    @probe.on(Noted, batch=Batch(size=3, within=0.1))
    async def handle(events: list[Noted]) -> None:
        lists.append(sorted(event.n for event in events))
        if len(lists) == 1:
            await fan_out(error)

    receipts = await engine.streams.publish_many(Noted(n=n) for n in (1, 2, 3))
    await engine.start(probe)
    for receipt in receipts:
        await becomes(engine, receipt.id, "acked")
    assert [lists[0], sorted(chain.from_iterable(lists[1:]))] == [[1, 2, 3], [1, 2, 3]]


async def test_a_batch_says_in_a_group_which_of_it_failed(engine: Engine) -> None:
    probe, lists = Processor("probe", retry=QUICK), list[list[int]]()

    @probe.on(Noted, batch=Batch(size=3, within=0.1))
    async def handle(events: list[Noted]) -> None:
        lists.append([event.n for event in events])
        await fan_out(BatchFailed({1: DeadLetter("broken")}))

    receipts = await engine.streams.publish_many(Noted(n=n) for n in (1, 2, 3))
    await engine.start(probe)
    await becomes(engine, receipts[0].id, "acked")
    await becomes(engine, receipts[2].id, "acked")
    await becomes(engine, receipts[1].id, "dead")
    assert lists == [[1, 2, 3]]


async def _traceback_of(*errors: BaseException) -> tuple[str, str]:
    try:
        await fan_out(*errors)
    except BaseException as error:
        from streams.messages.error_text import describe

        return describe(error), describe_traceback(error)
    raise AssertionError


async def test_letters_are_grouped_by_their_innermost_cause() -> None:
    """The same group around another error is another kind; a note does not make one."""
    one, same = await _traceback_of(ValueError("row 1")), await _traceback_of(ValueError("row 2"))
    other = await _traceback_of(KeyError("row 1"))
    assert innermost_frame(one[1]) == "test_groups.py raise_it"
    assert fingerprint("A", "failed", *one) == fingerprint("A", "failed", *same)
    assert fingerprint("A", "failed", *one) != fingerprint("A", "failed", *other)
    noted = ValueError("row 3")
    noted.add_note("Ada's file")
    assert fingerprint("A", "failed", *one) == fingerprint("A", "failed", *await _traceback_of(noted))


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9])
def test_the_text_of_a_group_has_the_beginning_of_each_and_the_group(count: int) -> None:
    """In 500 characters, however long each is; of more than five the number of the others."""
    group = ExceptionGroup("imports failed", [ValueError(f"row {number} " + "x" * 1_000) for number in range(count)])
    text = describe(group)
    assert 400 < len(text) <= 500
    assert text.endswith(f"{f'; and {count - 5} more' if count > 5 else ''} (in ExceptionGroup: imports failed)")
    shown = text.removesuffix(" (in ExceptionGroup: imports failed)").split("; ")[: min(count, 5)]
    assert [part[:17] for part in shown] == [f"ValueError: row {number}" for number in range(min(count, 5))]
    assert max(map(len, shown)) - min(map(len, shown)) <= 1, "each has as much room"
