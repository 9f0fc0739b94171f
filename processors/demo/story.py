"""Story: the acts of the demo in their order. Each shows something, checks it, and says what it found."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final

from observability.receiver import Span
from processors.demo import programme
from processors.demo.actor import Actor
from processors.demo.business import Business
from processors.demo.cast import LEASE, Cast
from processors.demo.lookout import GROUP, Lookout
from processors.demo.programme import BUSY, GONE
from processors.demo.screen import Screen
from processors.demo.secrecy import check_secrecy
from processors.demo.told import Told
from streams import Streams
from streams.inspecting import Snapshot

_KILL_AFTER: Final = 50  # mails of the crowd


class Story:
    """Plays the acts with a cast that has been started, publishing through `streams`. `seed` fills the business
    database meanwhile.
    """

    def __init__(self, cast: Cast, streams: Streams, screen: Screen, seed: Actor) -> None:
        self.told = Told()
        self._seed = seed
        self._cast = cast
        self._streams = streams
        self._screen = screen
        self._look = Lookout(cast, streams)

    async def play(self) -> Told:
        """All acts. Raises `NotInTime` when one of them does not get where it must."""
        async with self._look.showing(self._screen):
            await self._consumers_start()
            await self._events_are_published()
            await self._a_consumer_is_killed()
            await self._the_busy_server_is_tried_again()
            await self._the_dead_letter_is_replayed()
            await Business(self._cast, self._streams, self._screen, self._look, self.told, self._seed).play()
            await self._all_is_looked_at()
        return self.told

    async def _consumers_start(self) -> None:
        self._screen.act("Two consumers start")
        for _ in range(2):
            consumer = self._cast.start_consumer()
            self._screen.say(f"{consumer.name} is a process of its own (pid {consumer.pid})")
        await self._look.until("two consumers that live", lambda: self._look.alive(2))
        self._screen.say("both are in the group email, which reads users, inventory and reports")

    async def _events_are_published(self) -> None:
        self._screen.act("Seven events: four kinds, one unlucky, one hopeless, one too many")
        self.told.published_at = time.time()
        for name, event in programme.events().items():
            receipt = await self._streams.publish(event)
            self.told.events[name] = receipt.id
        self._look.expected = 4
        self._screen.say("published to users, inventory and reports")
        mailbox, events = self._cast.mailbox, self.told.events
        await self._look.until("four mails", lambda: mailbox.look().taken >= 4)
        self._screen.say("4 mails sent: a welcome, a password reset, a stock alert, a report")
        await self._look.until("the dead letter", lambda: self._look.has("dead", events["gone"]))
        letter = await self._streams.dead_letters(GROUP).show(events["gone"])
        self._screen.say(f"{GONE}: refused for good, a dead letter: {letter.error}", "yellow")
        self.told.claim(
            "what is refused for good (550) is a dead letter after one attempt",
            letter.attempts == 1 and letter.reason == "rejected" and [r.code for r in mailbox.replies[GONE]] == [550],
            f"{letter.attempts} attempt, reason {letter.reason}",
        )
        await self._look.until("the first 451", lambda: mailbox.look().replies[BUSY])
        self._screen.say(f"{BUSY}: refused with 451, waits for its second attempt", "yellow")
        mails = [mailbox.mails[events[name]] for name in ("welcome", "reset", "report")]
        self.told.claim("each of the four kinds of event became one mail", mails == [1, 1, 1], f"{mailbox.taken} mails")
        stock = [events["stock"], events["stock again"]]
        await self._look.until("both stock events", lambda: self._look.has("acked", *stock))
        alerts = sorted(mailbox.look().mails[event] for event in stock)
        self._screen.say("the second stock alert about the same SKU was not sent: one in its window is enough")
        self.told.claim("two low-stock events about one SKU made one mail", alerts == [0, 1], f"{sum(alerts)} mail")

    async def _a_consumer_is_killed(self) -> None:
        people = programme.PEOPLE
        self._screen.act(f"{people} people sign up, and a consumer is killed")
        victim, mailbox = self._cast.consumers[0], self._cast.mailbox
        before = mailbox.look().taken
        receipts = await self._streams.publish_many(programme.crowd())
        self.told.crowd = {receipt.id for receipt in receipts}
        self._look.expected += people
        self._screen.say(f"published in one go; the mail server takes {programme.SLOW:g} s to answer for each")
        await self._look.until("work in flight", lambda: self._may_kill(victim, before + _KILL_AFTER))
        self._look.killed = victim
        victim.kill()
        # Exact: it can settle nothing any more, and nobody may take its work before the lease has run out.
        self.told.in_flight = await self._look.held(victim)
        self._screen.say(
            f"{victim.name} (pid {victim.pid}) killed with SIGKILL; it held {self.told.in_flight} deliveries", "red"
        )
        self.told.claim(
            "a consumer was killed with work in flight",
            victim.returncode == -9 and self.told.in_flight > 0,
            f"exit {victim.returncode}, {self.told.in_flight} deliveries pending on it",
        )
        killed_at = time.monotonic()
        heir = self._cast.start_consumer()
        self._screen.say(f"{heir.name} (pid {heir.pid}) starts in its place")
        await self._look.until("what the dead consumer held to be taken over", lambda: self._has_nothing(victim))
        after = time.monotonic() - killed_at
        self._screen.say(
            f"its lease of {LEASE:g} s ran out; after {after:.1f} s the others had all that it held", "green"
        )
        await self._look.until("every mail", lambda: self.told.crowd <= mailbox.look().mails.keys())
        await self._look.until("the crowd to be settled", self._look.settled)
        arrived = len(self.told.crowd & mailbox.look().mails.keys())
        extra = mailbox.duplicates(self.told.crowd)
        self._screen.say(f"all {arrived} mails have arrived, {extra} of them twice", "green")
        if extra:
            self._screen.say(
                "delivery is at least once: the mail server had taken those, Redis had not heard of it when the "
                "process died; both copies have one Message-ID",
                "dim",
            )
        self.told.claim("every one of them got a mail", arrived == people, f"{arrived} of {people} Message-IDs")
        self.told.claim(
            "no more mails came twice than were in flight at the kill",
            extra <= self.told.in_flight,
            f"{extra} twice, {self.told.in_flight} in flight",
        )

    async def _the_busy_server_is_tried_again(self) -> None:
        self._screen.act("The unlucky mail gets through")
        self._look.expected += 1
        event, mailbox = self.told.events["busy"], self._cast.mailbox
        await self._look.until("the third attempt", lambda: mailbox.look().mails[event])
        replies = mailbox.replies[BUSY]
        self._screen.say(f"{BUSY}: {self.busy_times()}", "green")
        gaps = [later.time - earlier.time for earlier, later in pairwise(replies)]
        self.told.claim(
            "451 twice, then 250: three attempts, about 2 s and 4 s apart, with jitter",
            [reply.code for reply in replies] == [451, 451, 250] and gaps[0] >= 0.95 and gaps[1] >= 1.95,
            self.busy_times(),
        )

    async def _the_dead_letter_is_replayed(self) -> None:
        self._screen.act("The mail server is repaired, the dead letter replayed")
        event, mailbox = self.told.events["gone"], self._cast.mailbox
        followed = mailbox.look().scripts
        self._cast.follow(programme.mended())
        await self._look.until("the mail server to be repaired", lambda: mailbox.look().scripts > followed)
        self._screen.say(f"the mailbox {GONE} exists now")
        self._look.expected += 1
        tally = await self._streams.dead_letters(GROUP).replay([event], by="demo")
        self._screen.say(f"{tally.done} dead letter replayed, to the group email alone")
        await self._look.until("the replayed mail", lambda: mailbox.look().mails[event])
        self._screen.say("its mail has arrived", "green")
        self.told.claim(
            "the dead letter was replayed and its mail arrived once",
            tally.done == 1 and mailbox.mails[event] == 1,
            f"replayed {tally.done}, {mailbox.mails[event]} mail",
        )

    async def _all_is_looked_at(self) -> None:
        self._screen.act("Was all of it true?")
        await self._look.until("nothing left to do", self._nothing_is_left)
        receiver, busy = self._cast.receiver, self.told.events["busy"]
        await self._look.until("the spans of the retried event", lambda: len(_of(receiver.spans, busy, "ack")) == 1)
        reset = self.told.events["reset"]
        await self._look.until("the spans of the password reset", lambda: _of(receiver.spans, reset, "ack"))
        self.told.spans = receiver.spans
        own = [len(_of(self.told.spans, busy, verb)) for verb in ("publish", "process", "retry", "ack")]
        self.told.claim(
            "the spans of the retried event show the same",
            own == [1, 3, 2, 1],
            "published {}, processed {}, retried {}, acknowledged {}".format(*(f"{count} x" for count in own)),
        )
        secret = await check_secrecy(
            self._streams.redis,
            self._cast.redis.directory,
            self._cast.log_files(),
            receiver.requests,
            token=self._cast.mailbox.token(reset),
            event=reset,
        )
        self.told.claims.append(secret)
        verdict = "is not in" if secret.held else "FAILED:"
        self._screen.say(f"the token in the password reset's mail {verdict} {secret.found}")
        for name, event in self.told.events.items():
            self.told.trails[name] = await self._look.trail(event)
        snapshot = self.told.snapshot = await self._streams.snapshot()
        self.told.family = [trail.id for trail in await self._look.family(self.told.business["upload"])]
        figures = _left(snapshot)
        found = "unread {}, pending {}, waiting {}, dead {}".format(*figures)
        self.told.claim("nothing is left undone, in any group", not any(figures), found)
        self._screen.say(found)

    async def _nothing_is_left(self) -> bool:
        return not any(_left(await self._streams.snapshot()))

    def busy_times(self) -> str:
        """When and how the busy server answered: `451 at 0.1 s, ...` from the moment of publishing."""
        replies = self._cast.mailbox.replies[BUSY]
        return ", ".join(f"{reply.code} at {max(0.0, reply.time - self.told.published_at):.1f} s" for reply in replies)

    async def _has_nothing(self, victim: Actor) -> bool:
        return not await self._look.held(victim)

    async def _may_kill(self, victim: Actor, mails: int) -> bool:
        """The kill must hit the crowd, and not the busy one's attempts, whose replies are counted, nor their spans:
        what a process had not exported yet dies with it.
        """
        if self._cast.mailbox.look().taken < mails or not await self._look.held(victim):
            return False
        busy = await self._look.trail(self.told.events["busy"])
        told = len(_of(self._cast.receiver.spans, self.told.events["busy"], "process"))
        if told < busy.attempts:
            return False
        return busy.state == "acked" or (busy.due_in is not None and busy.due_in > 0.3)


def _left(snapshot: Snapshot) -> tuple[int, int, int, int]:
    groups = snapshot.groups
    return (
        sum(group.lag for group in groups),
        sum(group.pending for group in groups),
        snapshot.waiting.total,
        sum(group.dead for group in groups),
    )


def _of(spans: list[Span], event: str, verb: str) -> list[Span]:
    """The spans about one event whose name begins with a verb: `process users`."""
    return [
        span for span in spans if span.name.split()[0] == verb and span.attributes.get("messaging.message.id") == event
    ]
