"""MailScenario: the steps of the demo in their order. Each shows something, checks it, and says what it found."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final

from streams import Streams
from streams.inspecting import Snapshot

from ..fakes.otlp_collector import Span
from . import events as demo_events
from .child_process import ChildProcess
from .display import Display
from .environment import LEASE, Environment
from .events import BUSY, GONE
from .results import Results
from .scenario_business import BusinessScenario
from .secret_scan import scan_for_secret
from .watch import GROUP, Watch

_KILL_AFTER: Final = 50  # mails of the crowd


class MailScenario:
    """Runs the steps in an environment that has been started, publishing through `streams`. `seed` fills the business
    database meanwhile.
    """

    def __init__(self, environment: Environment, streams: Streams, display: Display, seed: ChildProcess) -> None:
        self.results = Results()
        self._seed = seed
        self._environment = environment
        self._streams = streams
        self._display = display
        self._look = Watch(environment, streams)

    async def run(self) -> Results:
        """All steps. Raises `NotInTime` when one of them does not get where it must."""
        async with self._look.showing(self._display):
            await self._consumers_start()
            await self._events_are_published()
            await self._a_consumer_is_killed()
            await self._the_busy_server_is_tried_again()
            await self._the_dead_letter_is_replayed()
            await BusinessScenario(
                self._environment, self._streams, self._display, self._look, self.results, self._seed
            ).run()
            await self._all_is_looked_at()
        return self.results

    async def _consumers_start(self) -> None:
        self._display.step("Two consumers start")
        for _ in range(2):
            consumer = self._environment.start_consumer()
            self._display.say(f"{consumer.name} is a process of its own (pid {consumer.pid})")
        await self._look.until("two consumers that live", lambda: self._look.alive(2))
        self._display.say("both are in the group email, which reads users, inventory and reports")

    async def _events_are_published(self) -> None:
        self._display.step("Seven events: four kinds, one unlucky, one hopeless, one too many")
        self.results.published_at = time.time()
        for name, event in demo_events.events().items():
            receipt = await self._streams.publish(event)
            self.results.events[name] = receipt.id
        self._look.expected = 4
        self._display.say("published to users, inventory and reports")
        mail_log, events = self._environment.mail_log, self.results.events
        await self._look.until("four mails", lambda: mail_log.look().taken >= 4)
        self._display.say("4 mails sent: a welcome, a password reset, a stock alert, a report")
        await self._look.until("the dead letter", lambda: self._look.has("dead", events["gone"]))
        letter = await self._streams.dead_letters(GROUP).show(events["gone"])
        self._display.say(f"{GONE}: refused for good, a dead letter: {letter.error}", "yellow")
        self.results.check(
            "what is refused for good (550) is a dead letter after one attempt",
            letter.attempts == 1 and letter.reason == "rejected" and [r.code for r in mail_log.replies[GONE]] == [550],
            f"{letter.attempts} attempt, reason {letter.reason}",
        )
        await self._look.until("the first 451", lambda: mail_log.look().replies[BUSY])
        self._display.say(f"{BUSY}: refused with 451, waits for its second attempt", "yellow")
        mails = [mail_log.mails[events[name]] for name in ("welcome", "reset", "report")]
        self.results.check(
            "each of the four kinds of event became one mail", mails == [1, 1, 1], f"{mail_log.taken} mails"
        )
        stock = [events["stock"], events["stock again"]]
        await self._look.until("both stock events", lambda: self._look.has("acked", *stock))
        alerts = sorted(mail_log.look().mails[event] for event in stock)
        self._display.say("the second stock alert about the same SKU was not sent: one in its window is enough")
        self.results.check("two low-stock events about one SKU made one mail", alerts == [0, 1], f"{sum(alerts)} mail")

    async def _a_consumer_is_killed(self) -> None:
        people = demo_events.PEOPLE
        self._display.step(f"{people} people sign up, and a consumer is killed")
        victim, mail_log = self._environment.consumers[0], self._environment.mail_log
        before = mail_log.look().taken
        receipts = await self._streams.publish_many(demo_events.crowd())
        self.results.crowd = {receipt.id for receipt in receipts}
        self._look.expected += people
        self._display.say(f"published in one go; the mail server takes {demo_events.SLOW:g} s to answer for each")
        await self._look.until("work in flight", lambda: self._may_kill(victim, before + _KILL_AFTER))
        self._look.killed = victim
        victim.kill()
        # Exact: it can settle nothing any more, and no consumer may take its work before the lease has run out.
        self.results.in_flight = await self._look.held(victim)
        self._display.say(
            f"{victim.name} (pid {victim.pid}) killed with SIGKILL; it held {self.results.in_flight} deliveries", "red"
        )
        self.results.check(
            "a consumer was killed with work in flight",
            victim.returncode == -9 and self.results.in_flight > 0,
            f"exit {victim.returncode}, {self.results.in_flight} deliveries pending on it",
        )
        killed_at = time.monotonic()
        successor = self._environment.start_consumer()
        self._display.say(f"{successor.name} (pid {successor.pid}) starts in its place")
        await self._look.until("what the dead consumer held to be taken over", lambda: self._has_nothing(victim))
        after = time.monotonic() - killed_at
        self._display.say(
            f"its lease of {LEASE:g} s ran out; after {after:.1f} s the others had all that it held", "green"
        )
        await self._look.until("every mail", lambda: self.results.crowd <= mail_log.look().mails.keys())
        await self._look.until("the crowd to be settled", self._look.settled)
        arrived = len(self.results.crowd & mail_log.look().mails.keys())
        extra = mail_log.duplicates(self.results.crowd)
        self._display.say(f"all {arrived} mails have arrived, {extra} of them twice", "green")
        if extra:
            self._display.say(
                "delivery is at least once: the mail server had taken those, Redis had not heard of it when the "
                "process died; both copies have one Message-ID",
                "dim",
            )
        self.results.check("every one of them got a mail", arrived == people, f"{arrived} of {people} Message-IDs")
        self.results.check(
            "no more mails came twice than were in flight at the kill",
            extra <= self.results.in_flight,
            f"{extra} twice, {self.results.in_flight} in flight",
        )

    async def _the_busy_server_is_tried_again(self) -> None:
        self._display.step("The unlucky mail gets through")
        self._look.expected += 1
        event, mail_log = self.results.events["busy"], self._environment.mail_log
        await self._look.until("the third attempt", lambda: mail_log.look().mails[event])
        replies = mail_log.replies[BUSY]
        self._display.say(f"{BUSY}: {self.busy_times()}", "green")
        gaps = [later.time - earlier.time for earlier, later in pairwise(replies)]
        self.results.check(
            "451 twice, then 250: three attempts, about 2 s and 4 s apart, with jitter",
            [reply.code for reply in replies] == [451, 451, 250] and gaps[0] >= 0.95 and gaps[1] >= 1.95,
            self.busy_times(),
        )

    async def _the_dead_letter_is_replayed(self) -> None:
        self._display.step("The mail server is repaired, the dead letter replayed")
        event, mail_log = self.results.events["gone"], self._environment.mail_log
        followed = mail_log.look().scripts
        self._environment.follow(demo_events.repaired())
        await self._look.until("the mail server to be repaired", lambda: mail_log.look().scripts > followed)
        self._display.say(f"the mailbox {GONE} exists now")
        self._look.expected += 1
        tally = await self._streams.dead_letters(GROUP).replay([event], by="demo")
        self._display.say(f"{tally.done} dead letter replayed, to the group email alone")
        await self._look.until("the replayed mail", lambda: mail_log.look().mails[event])
        self._display.say("its mail has arrived", "green")
        self.results.check(
            "the dead letter was replayed and its mail arrived once",
            tally.done == 1 and mail_log.mails[event] == 1,
            f"replayed {tally.done}, {mail_log.mails[event]} mail",
        )

    async def _all_is_looked_at(self) -> None:
        self._display.step("Was all of it true?")
        await self._look.until("nothing left to do", self._nothing_is_left)
        collector, busy = self._environment.collector, self.results.events["busy"]
        await self._look.until("the spans of the retried event", lambda: len(_of(collector.spans, busy, "ack")) == 1)
        reset = self.results.events["reset"]
        await self._look.until("the spans of the password reset", lambda: _of(collector.spans, reset, "ack"))
        self.results.spans = collector.spans
        own = [len(_of(self.results.spans, busy, operation)) for operation in ("publish", "process", "retry", "ack")]
        self.results.check(
            "the spans of the retried event show the same",
            own == [1, 3, 2, 1],
            "published {}, processed {}, retried {}, acknowledged {}".format(*(f"{count} x" for count in own)),
        )
        secret = await scan_for_secret(
            self._streams.redis,
            self._environment.redis.directory,
            self._environment.log_files(),
            collector.requests,
            token=self._environment.mail_log.token(reset),
            event=reset,
        )
        self.results.checks.append(secret)
        verdict = "is not in" if secret.held else "FAILED:"
        self._display.say(f"the token in the password reset's mail {verdict} {secret.found}")
        for name, event in self.results.events.items():
            self.results.trails[name] = await self._look.trail(event)
        snapshot = self.results.snapshot = await self._streams.snapshot()
        self.results.family = [trail.id for trail in await self._look.family(self.results.business["upload"])]
        figures = _left(snapshot)
        found = "unread {}, pending {}, waiting {}, dead {}".format(*figures)
        self.results.check("nothing is left undone, in any group", not any(figures), found)
        self._display.say(found)

    async def _nothing_is_left(self) -> bool:
        return not any(_left(await self._streams.snapshot()))

    def busy_times(self) -> str:
        """When and how the busy server answered: `451 at 0.1 s, ...` from the moment of publishing."""
        replies = self._environment.mail_log.replies[BUSY]
        return ", ".join(
            f"{reply.code} at {max(0.0, reply.time - self.results.published_at):.1f} s" for reply in replies
        )

    async def _has_nothing(self, victim: ChildProcess) -> bool:
        return not await self._look.held(victim)

    async def _may_kill(self, victim: ChildProcess, mails: int) -> bool:
        """The kill must hit the crowd, and not the busy one's attempts, whose replies are counted, nor their spans:
        what a process had not exported yet dies with it.
        """
        if self._environment.mail_log.look().taken < mails or not await self._look.held(victim):
            return False
        busy = await self._look.trail(self.results.events["busy"])
        shown = len(_of(self._environment.collector.spans, self.results.events["busy"], "process"))
        if shown < busy.attempts:
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


def _of(spans: list[Span], event: str, name: str) -> list[Span]:
    """The spans about one event whose name begins with that name: `process users`."""
    return [
        span for span in spans if span.name.split()[0] == name and span.attributes.get("messaging.message.id") == event
    ]
