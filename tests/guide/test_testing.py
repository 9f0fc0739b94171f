"""Testing: your processors without a server, with a clock that you move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from streams import (
    Backoff,
    Batch,
    BatchFailed,
    CurrentProgress,
    DeadLetter,
    Event,
    Limit,
    Processor,
    Progress,
    Shared,
    StreamsError,
    Unavailable,
)
from streams.testing import Crash, Harness


class MemberJoined(Event, stream="members", version=1):
    """Somebody has joined."""

    email: str


class MemberWelcomed(Event, stream="members", version=1):
    """They have a welcome mail."""

    email: str


class DigestDue(Event, stream="digests", version=1):
    """It is time for the daily digest."""


class Post:
    """A processor `post`, and what became of its mails."""

    def __init__(self) -> None:
        self.processor = Processor("post", retry=Backoff(attempts=3, first=60))
        self.sent: list[str] = []
        self.problems: list[Exception] = []

        @self.processor.on(MemberJoined)
        async def welcome(event: MemberJoined) -> MemberWelcomed:
            if self.problems:
                raise self.problems.pop()
            self.sent.append(event.email)
            return MemberWelcomed(email=event.email)

        @self.processor.cron("0 7 * * *")
        def digest() -> DigestDue:
            return DigestDue()


async def test_publish_run_and_look() -> None:
    """`run` handles all that is due now. `published` has every event of a type, follow-ups as well."""
    post = Post()
    async with Harness(post.processor) as streams:
        receipt = await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
        assert streams.published(MemberWelcomed) == [MemberWelcomed(email="ada@example.com")]
        trail = await streams.event(receipt.id)
        assert [(group.group, group.state) for group in trail.groups] == [("post", "acked")]
        assert [follow_up.type for follow_up in trail.follow_ups] == ["MemberWelcomed"]


async def test_the_clock_is_yours() -> None:
    """`advance` stops wherever something is due: delayed events, retries, schedules, in their order."""
    post = Post()
    async with Harness(post.processor, start=datetime(2026, 3, 1, 6, tzinfo=UTC)) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"), delay=600)
        await streams.advance(minutes=9)
        assert post.sent == []
        await streams.advance(minutes=1)
        assert post.sent == ["ada@example.com"]
        await streams.advance(days=2)
        assert len(streams.published(DigestDue)) == 2
        assert streams.now() == datetime(2026, 3, 3, 6, 10, tzinfo=UTC)


async def test_failures_are_retried_and_given_up() -> None:
    """Attempts, back-off and dead letters are the engine's own; the jitter is the same for the same `seed`."""
    post = Post()
    post.problems = [DeadLetter("no such mailbox"), RuntimeError("mail server is busy")]
    async with Harness(post.processor, seed=7) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
        assert len(streams.dead_letters("post")) == 0
        await streams.advance(minutes=2)
        (letter,) = streams.dead_letters("post")
        assert (letter.reason, letter.attempts) == ("rejected", 2)
        await streams.dead_letters("post").replay()
        await streams.run()
        assert post.sent == ["ada@example.com"]


async def test_an_outage_and_a_crash() -> None:
    """The breaker waits by the same clock. `crash` lets the process die with a delivery in its hands: effects of a
    handler that had ended (`after=True`) happen again.
    """
    post = Post()
    post.problems = [Unavailable("smtp")]
    async with Harness(post.processor) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
        assert post.sent == []
        await streams.advance(seconds=30)
        assert post.sent == ["ada@example.com"]
        streams.crash("post", after=True)
        await streams.publish(MemberJoined(email="bob@example.com"))
        await streams.run()
        assert post.sent == ["ada@example.com", "bob@example.com", "bob@example.com"]
        assert len(streams.published(MemberWelcomed)) == 2


async def test_a_process_dies_in_the_middle() -> None:
    """Raised anywhere under a handler, `Crash` is the death of its process: the next one is given the event again. So
    you see whether your handler can be called twice. What kills every process is given up in the end.
    """
    post = Post()
    async with Harness(post.processor) as streams:
        post.problems = [Crash()]  # type: ignore[list-item]  # it is no Exception: nobody shall catch it by accident
        await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
        assert post.sent == ["ada@example.com"]
        post.problems = [Crash() for _ in range(9)]  # type: ignore[misc]  # as above
        await streams.publish(MemberJoined(email="bob@example.com"))
        await streams.run()
        (letter,) = streams.dead_letters("post")
        assert (letter.reason, letter.deliveries) == ("crashed", 5)


async def test_a_batch_is_complete_or_has_waited_long_enough() -> None:
    """`within` is of the test's clock. What is wrong with one of a batch is settled for it alone."""
    lists, processor = list[list[str]](), Processor("newsletter")

    @processor.on(MemberJoined, batch=Batch(size=3, within=60))
    async def subscribe(events: list[MemberJoined]) -> None:
        lists.append([event.email for event in events])
        bad = [position for position, event in enumerate(events) if "@" not in event.email]
        raise BatchFailed({position: DeadLetter("no address") for position in bad})

    async with Harness(processor) as streams:
        await streams.publish_many(MemberJoined(email=email) for email in ("a@x.org", "nobody", "b@x.org", "c@x.org"))
        await streams.run()
        assert lists == [["a@x.org", "nobody", "b@x.org"]]
        assert [letter.reason for letter in streams.dead_letters("newsletter")] == ["rejected"]
        await streams.advance(minutes=1)
        assert lists[1:] == [["c@x.org"]]


async def test_limits_wait_by_the_same_clock() -> None:
    """What may not start yet stands in line, and `event` says so; `advance` lets it in when it is time."""
    sent, processor = list[str](), Processor("post")

    @processor.on(MemberJoined, limit=Limit(rate=1, per=3600, by="key"))
    async def remind(event: MemberJoined) -> None:
        sent.append(event.email)

    async with Harness(processor) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"), key="ada")
        again = await streams.publish(MemberJoined(email="ada@example.com"), key="ada")
        await streams.publish(MemberJoined(email="bob@example.com"), key="bob")
        await streams.run()
        assert sent == ["ada@example.com", "bob@example.com"]
        assert (await streams.event(again.id)).groups[0].state == "queued"
        await streams.advance(hours=1)
        assert sent[2:] == ["ada@example.com"]


async def test_how_far_a_handler_has_come() -> None:
    """Let `run` go on in a task to look, call off, pause or kill while a handler runs."""
    began, go_on, processor = asyncio.Event(), asyncio.Event(), Processor("export")

    @processor.on(DigestDue)
    async def write(event: DigestDue, progress: Progress = CurrentProgress()) -> None:
        await progress.set(1, 2, "half of it")
        began.set()
        await go_on.wait()
        await progress.set(2, 2)

    async with Harness(processor) as streams:
        receipt = await streams.publish(DigestDue())
        running = asyncio.create_task(streams.run())
        await began.wait()
        (group,) = (await streams.event(receipt.id)).groups
        assert group.state == "running"
        assert group.progress is not None
        assert (group.progress.done, group.progress.total, group.progress.text) == (1, 2, "half of it")
        go_on.set()
        await running
        assert (await streams.event(receipt.id)).groups[0].state == "acked"


class Mailbox:
    """What a test has in place of a mail server."""

    def __init__(self) -> None:
        self.mails: list[str] = []


def open_mailbox() -> Mailbox:
    """In production this would connect."""
    raise AssertionError("a test has no mail server")


async def test_dependencies_are_overridden() -> None:
    """`overrides` gives other factories, to handlers and schedules and to what they depend on. One that nothing depends
    on is refused: the real one would run.
    """
    processor, mailbox = Processor("post"), Mailbox()

    @processor.on(MemberJoined)
    async def welcome(event: MemberJoined, box: Mailbox = Shared(open_mailbox)) -> None:
        box.mails.append(event.email)

    async with Harness(processor, overrides={open_mailbox: lambda: mailbox}) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
    assert mailbox.mails == ["ada@example.com"]
    with pytest.raises(StreamsError, match="no handler or schedule depends on Mailbox"):
        async with Harness(processor, overrides={Mailbox: open_mailbox}):
            """It is not even opened."""


async def test_several_processors_and_what_was_there_before() -> None:
    """Each is a group of its own. One that joins later is given what is there; a replay gives it again, to one group.
    Nothing may be unaccounted for in the end.
    """
    post, late = Post(), Processor("late")
    seen: list[str] = []

    @late.on(MemberWelcomed)
    async def note(event: MemberWelcomed) -> None:
        seen.append(event.email)

    async with Harness(post.processor) as streams:
        await streams.publish(MemberJoined(email="ada@example.com"))
        await streams.run()
        await streams.join(late)
        await streams.run()
        replay = await streams.replay("members", group="late", types=["MemberWelcomed"])
        assert (replay.matched, replay.state) == (1, "done")
        await streams.run()
        assert seen == ["ada@example.com", "ada@example.com"]
        assert post.sent == ["ada@example.com"]
        assert not list((await streams.accounts()).gaps())
