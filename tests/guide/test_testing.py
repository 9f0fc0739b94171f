"""Testing: your processors without a server, with a clock that you move."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas import Event
from streams import Backoff, DeadLetter, Processor, Unavailable
from streams.testing import Harness


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
