"""How a delivery ends: attempts, retries, snoozes, dead letters of each kind, crashes, timeouts."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from streams import (
    Backoff,
    CurrentDelivery,
    DeadLetter,
    Delivery,
    Depends,
    Event,
    Processor,
    Retry,
    Shared,
    Snooze,
    Unavailable,
    clock,
)
from tests.conformance.engine import Engine, becomes, dead, state
from tests.support.events import Followed, Noted, Renamed, Unhandled

QUICK = Backoff(attempts=3, first=0.02)


class Probe:
    """A processor that keeps what it was given and does what it is told."""

    def __init__(self, *does: Exception | Event | None, retry: Backoff = QUICK, **options: object) -> None:
        self.processor = Processor("probe", retry=retry, **options)  # type: ignore[arg-type]
        self.seen: list[tuple[int, int, int]] = []
        todo = list(does)

        @self.processor.on(Noted)
        async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> Event | None:
            self.seen.append((event.n, delivery.attempt, delivery.deliveries))
            what = todo.pop(0) if todo else None
            if isinstance(what, Exception):
                raise what
            return what


async def run(engine: Engine, probe: Probe, ends: str = "acked") -> str:
    """Publishes one event and waits for its end; returns its id."""
    await engine.start(probe.processor)
    receipt = await engine.streams.publish(Noted(n=1))

    async def over() -> bool:
        return await state(engine, receipt.id, "probe") == ends

    await engine.until(over)
    return receipt.id


async def test_a_success_is_one_attempt(engine: Engine) -> None:
    probe = Probe()
    await run(engine, probe)
    assert probe.seen == [(1, 1, 1)]


async def test_attempts_count_from_one_and_a_failure_is_tried_again(engine: Engine) -> None:
    probe = Probe(RuntimeError("no"))
    id = await run(engine, probe)
    assert probe.seen == [(1, 1, 1), (1, 2, 2)]
    group = (await engine.streams.event(id)).groups[0]
    assert [line["outcome"] for line in group.history] == ["retried", "acked"]
    assert (group.attempts, group.deliveries) == (2, 2)


async def test_three_attempts_are_two_retries(engine: Engine) -> None:
    probe = Probe(*[RuntimeError("no")] * 5)
    await run(engine, probe, "dead")
    assert [attempt for _, attempt, _ in probe.seen] == [1, 2, 3]
    (letter,) = await dead(engine, "probe")
    assert (letter.reason, letter.attempts, letter.deliveries) == ("failed", 3, 3)
    assert letter.error == "RuntimeError: no"
    assert [error["attempt"] for error in letter.carried.errors] == [1, 2, 3]
    assert "in handle" in letter.traceback


async def test_a_bug_is_tried_again_as_any_other_error(engine: Engine) -> None:
    probe = Probe(*[TypeError("a bug")] * 3)
    await run(engine, probe, "dead")
    assert [attempt for _, attempt, _ in probe.seen] == [1, 2, 3]
    assert (await dead(engine, "probe"))[0].reason == "failed"


async def test_a_handler_rejects(engine: Engine) -> None:
    probe = Probe(DeadLetter("nobody wants this"))
    await run(engine, probe, "dead")
    (letter,) = await dead(engine, "probe")
    assert (letter.reason, letter.attempts) == ("rejected", 1)
    assert "nobody wants this" in letter.error


async def test_retry_after_counts_as_an_attempt(engine: Engine) -> None:
    probe = Probe(Retry(after=0.01), Retry(after=0.01))
    await run(engine, probe)
    assert [attempt for _, attempt, _ in probe.seen] == [1, 2, 3]


async def test_a_retry_beyond_the_last_attempt_is_dead(engine: Engine) -> None:
    probe = Probe(Retry(after=0), Retry(after=0), Retry(after=0))
    await run(engine, probe, "dead")
    assert len(probe.seen) == 3


async def test_a_snooze_costs_no_attempt_and_no_delivery(engine: Engine) -> None:
    probe = Probe(*[Snooze(0.01, "not yet")] * 4)
    id = await run(engine, probe)
    assert probe.seen == [(1, 1, 1)] * 5
    history = (await engine.streams.event(id)).groups[0].history
    assert {line["outcome"] for line in history} == {"snoozed"}
    assert history[0]["reason"] == "not yet"


async def test_a_snooze_between_failures_keeps_them(engine: Engine) -> None:
    probe = Probe(RuntimeError("no"), Snooze(0.01), RuntimeError("no"))
    await run(engine, probe)
    assert [attempt for _, attempt, _ in probe.seen] == [1, 2, 2, 3]


async def test_snoozed_and_retrying_can_be_seen(engine: Engine) -> None:
    probe = Probe(Snooze(3600), RuntimeError("no"), retry=Backoff(first=3600))
    await engine.start(probe.processor)
    first = await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: len(probe.seen) == 1)
    second = await engine.streams.publish(Noted(n=2))
    await engine.until(lambda: len(probe.seen) == 2)
    for id, expected in ((first.id, "snoozed"), (second.id, "retrying")):

        async def waits(id: str = id, expected: str = expected) -> bool:
            return await state(engine, id, "probe") == expected

        await engine.until(waits)
    group = (await engine.streams.event(second.id)).groups[0]
    assert group.attempts == 1
    assert group.error == "RuntimeError: no"
    assert group.due_in is not None
    assert 280 < group.due_in <= 900  # an hour, capped at ten minutes, and the jitter


async def test_something_unavailable_costs_nothing_and_holds_the_others(engine: Engine) -> None:
    probe, at = Processor("probe", concurrency=1), list[tuple[datetime, int, int]]()

    @probe.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        at.append((clock.now(), delivery.attempt, delivery.deliveries))
        if len(at) == 1:
            raise Unavailable("mail")

    await engine.start(probe)
    await engine.streams.publish_many([Noted(n=n) for n in (1, 2, 3)])
    await engine.until(lambda: len(at) == 4)
    assert {(attempt, deliveries) for _, attempt, deliveries in at} == {(1, 1)}
    assert at[1][0] - at[0][0] > timedelta(seconds=0.4)  # nothing is begun until the breaker lets one try
    assert await dead(engine, "probe") == []


async def test_follow_ups_are_caused(engine: Engine) -> None:
    probe = Probe(Followed(n=7))
    probe.processor.on(Followed)(_ignore)
    id = await run(engine, probe)
    trail = await engine.streams.event(id)
    (follow_up,) = trail.follow_ups
    caused = (await engine.streams.event(follow_up.id)).message
    assert caused is not None
    assert (caused.causation_id, caused.correlation_id) == (id, id)


async def _ignore(event: Event) -> None:
    pass


async def test_what_is_no_event_in_a_list_is_left_out(engine: Engine) -> None:
    """The handler is done: another try would repeat what it did."""
    processor, tries = Processor("probe", retry=QUICK), list[int]()

    @processor.on(Noted)
    async def wrong(event: Noted) -> object:
        tries.append(event.n)
        return [Followed(n=1), "no event"]

    await engine.start(processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "acked")
    assert tries == [1]
    assert [found.type for found in (await engine.streams.event(receipt.id)).follow_ups] == ["Followed"]


async def test_a_follow_up_over_the_cap_is_refused(engine: Engine) -> None:
    probe = Probe(Noted(n=2, text="x" * 4000))
    await run(engine, probe, "dead")
    assert "over the cap" in (await dead(engine, "probe"))[0].error


async def test_what_a_handler_publishes_itself_is_caused_too(engine: Engine) -> None:
    processor = Processor("probe")

    @processor.on(Noted)
    async def handle(event: Noted) -> None:
        await engine.streams.publish(Followed(n=1))

    await engine.start(processor)
    receipt = await engine.streams.publish(Noted(n=1))

    async def followed() -> bool:
        return len((await engine.streams.event(receipt.id)).follow_ups) == 1

    await engine.until(followed)


async def test_a_retry_reaches_its_own_group_only(engine: Engine) -> None:
    probe, other, seen = Probe(RuntimeError("no")), Processor("other"), list[int]()

    @other.on(Noted)
    async def handle(event: Noted) -> None:
        seen.append(event.n)

    await engine.start(probe.processor, other)
    for n in (1, 2):
        await engine.streams.publish(Noted(n=n))
    await engine.until(lambda: len(probe.seen) == 3 and len(seen) >= 2)
    await engine.streams.publish(Noted(n=3))
    await engine.until(lambda: 3 in seen)
    assert sorted(seen) == [1, 2, 3]  # in no promised order: they are handled side by side


async def test_a_handler_that_takes_too_long_has_failed(engine: Engine) -> None:
    processor, attempts = Processor("probe", retry=QUICK, timeout=0.05), list[int]()

    @processor.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            await asyncio.sleep(60)

    await engine.start(processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: len(attempts) == 2)
    history = (await engine.streams.event(receipt.id)).groups[0].history
    assert "HandlerTimeout" in history[0]["error"]


async def test_a_plain_function_is_a_handler(engine: Engine) -> None:
    processor, seen = Processor("probe"), list[int]()

    @processor.on(Noted)
    def handle(event: Noted) -> None:
        seen.append(event.n)

    await engine.start(processor)
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: seen == [1])


async def test_a_crash_counts_a_delivery_and_no_attempt(engine: Engine) -> None:
    probe = Probe()
    await engine.dies(probe.processor, Noted(n=1))
    await engine.until(lambda: len(probe.seen) == 1)
    assert probe.seen == [(1, 1, 2)]


async def test_what_kills_its_process_is_dead_at_the_limit(engine: Engine) -> None:
    probe = Probe(deliveries=2)
    await engine.dies(probe.processor, Noted(n=1), 2)
    await engine.until(lambda: dead(engine, "probe"))
    (letter,) = await dead(engine, "probe")
    assert (letter.reason, letter.attempts, letter.deliveries) == ("crashed", 0, 2)
    assert probe.seen == []


async def test_a_type_that_nobody_has_registered_is_dead(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    await engine.add_entry("notes", {"type": "Nonsense", "data": "{}"})
    await engine.until(lambda: dead(engine, "probe"))
    assert (await dead(engine, "probe"))[0].reason == "unknown_type"


async def test_a_type_that_the_group_does_not_handle_is_passed_over(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    receipt = await engine.streams.publish(Unhandled(n=1))
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: len(probe.seen) == 1)

    async def over() -> bool:
        return await state(engine, receipt.id, "probe") == "acked"

    await engine.until(over)
    assert await dead(engine, "probe") == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "Noted", "data": '{"n": "many"}'}, "invalid"),
        ({"type": "Noted", "data": "no json"}, "invalid"),
        ({"type": "Noted", "data": '{"n": 1}', "dataversion": "x"}, "invalid"),
        ({"type": "Noted", "data": '{"n": 1, "text": "%s"}' % ("x" * 3000)}, "too_large"),
    ],
)
async def test_what_cannot_be_read_is_dead_at_once(engine: Engine, fields: dict[str, str], reason: str) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    await engine.add_entry("notes", fields)
    await engine.until(lambda: dead(engine, "probe"))
    (letter,) = await dead(engine, "probe")
    assert (letter.reason, letter.attempts) == (reason, 0)
    assert probe.seen == []


async def test_a_foreign_entry_needs_a_type_and_data(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    id = await engine.add_entry("notes", {"type": "Noted", "data": '{"n": 5}'})
    await engine.until(lambda: len(probe.seen) == 1)
    assert probe.seen == [(5, 1, 1)]
    message = (await engine.streams.event(id)).message
    assert message is not None
    assert (message.id, message.version) == (id, 1)


async def test_an_old_version_is_brought_up(engine: Engine) -> None:
    processor, seen = Processor("probe"), list[Renamed]()

    @processor.on(Renamed)
    async def handle(event: Renamed) -> None:
        seen.append(event)

    await engine.start(processor)
    await engine.add_entry("notes", {"type": "Renamed", "data": '{"first": "Ada", "last": "L"}'})
    await engine.until(lambda: bool(seen))
    assert seen == [Renamed(full_name="Ada L", locale="en")]


async def test_a_newer_version_waits_for_its_deploy(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    id = await engine.add_entry("notes", {"type": "Noted", "data": '{"n": 1}', "dataversion": "9"})

    async def handed_back() -> bool:
        history = (await engine.streams.event(id)).groups[0].history
        return len(history) >= 2

    await engine.until(handed_back)
    history = (await engine.streams.event(id)).groups[0].history
    assert {line["outcome"] for line in history} == {"snoozed"}
    assert "version 9 is newer" in history[0]["reason"]
    assert probe.seen == []


async def test_a_newer_version_does_not_wait_for_ever(make_engine: object) -> None:
    engine = make_engine(unsupported_for=0.0)  # type: ignore[operator]
    try:
        await engine.open()
        await engine.start(Probe().processor)
        await engine.add_entry("notes", {"type": "Noted", "data": '{"n": 1}', "dataversion": "9"})
        await engine.until(lambda: dead(engine, "probe"))
        assert (await dead(engine, "probe"))[0].reason == "unsupported"
    finally:
        await engine.aclose()


async def test_what_is_expired_is_not_begun(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    await engine.streams.pause("probe")
    late = await engine.streams.publish(Noted(n=1), expires=timedelta(milliseconds=50))
    await engine.streams.publish(Noted(n=2), expires=timedelta(hours=1))
    later = await engine.streams.publish(Followed(n=3), delay=0.2)

    async def is_later() -> bool:
        return (await engine.streams.event(later.id)).due_in is None

    await engine.until(is_later)
    await engine.streams.resume("probe")
    await engine.until(lambda: len(probe.seen) == 1)
    assert probe.seen == [(2, 1, 1)]
    assert await state(engine, late.id, "probe") == "expired"


async def test_a_retry_is_never_early(engine: Engine) -> None:
    probe, times = Processor("probe", retry=Backoff(attempts=2, first=0.2, jitter=0)), list[datetime]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        times.append(clock.now())
        raise RuntimeError("no")

    await engine.start(probe)
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: len(times) == 2)
    assert times[1] - times[0] >= timedelta(seconds=0.199)


async def test_an_error_that_the_processor_names_is_not_tried_again(engine: Engine) -> None:
    probe = Probe(KeyError("here"), retry=Backoff(attempts=5, give_up_on=(KeyError,)))
    await run(engine, probe, "dead")
    assert len(probe.seen) == 1


async def test_a_crash_is_no_failure(engine: Engine) -> None:
    probe = Probe(RuntimeError("no"), RuntimeError("no"))
    receipt = await engine.dies(probe.processor, Noted(n=1))
    trail = await becomes(engine, receipt.id, "acked")
    assert probe.seen == [(1, 1, 2), (1, 2, 3), (1, 3, 4)]
    assert (trail.attempts, trail.deliveries) == (3, 4)


async def test_follow_ups_are_those_of_the_attempt_that_succeeds(engine: Engine) -> None:
    probe, other, seen = Processor("probe", retry=QUICK), Processor("other"), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> Followed:
        if delivery.attempt == 1:
            raise RuntimeError("not yet")
        return Followed(n=delivery.attempt)

    @other.on(Followed)
    async def follow(event: Followed) -> None:
        seen.append(event.n)

    await engine.start(probe, other)
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: seen == [2])


async def test_two_foreign_entries_with_one_id_are_two(engine: Engine) -> None:
    probe = Probe()
    await engine.start(probe.processor)
    for n in (1, 2):
        await engine.add_entry("notes", {"id": "same", "type": "Noted", "data": f'{{"n": {n}}}'})
    await engine.until(lambda: sorted(n for n, _, _ in probe.seen) == [1, 2])


async def test_dependencies_are_made_for_each_delivery_and_shared_ones_once(engine: Engine) -> None:
    probe, made, seen = Processor("probe", concurrency=1), list[str](), list[tuple[str, str]]()

    def each() -> str:
        made.append("each")
        return "each"

    def shared() -> str:
        made.append("shared")
        return "shared"

    @probe.on(Noted)
    async def handle(event: Noted, mine: str = Depends(each), ours: str = Shared(shared)) -> None:
        seen.append((mine, ours))

    await engine.start(probe)
    await engine.streams.publish_many([Noted(n=1), Noted(n=2)])
    await engine.until(lambda: len(seen) == 2)
    assert sorted(made) == ["each", "each", "shared"]
