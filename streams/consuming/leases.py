"""Leases: the deliveries that this consumer holds, and the thread that renews them.

The thread has a connection of its own, so that a handler that blocks the event loop does not lose its leases. It
renews what runs and what waits in memory alike, until a handler's deadline: one that hangs beyond it is given up, but
not one in a thread, which goes on whatever is decided here. When one hangs so that the event loop runs no more, all is
given up, or what waits behind it would wait as long as it hangs.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError

from streams.consuming import scripts
from streams.logs import get_logger
from streams.messages.delivery import begin_by
from streams.redis.refusal import reason

if TYPE_CHECKING:
    from streams.consuming.watchdog import Watchdog
    from streams.messages.delivery import Delivery, Holder
    from streams.redis.partition import Member

log = get_logger("streams.leases")

_RENEWALS: Final = 4  # per lease: one lost renewal, or two, must not lose the lease
_RETRY: Final = 0.25  # seconds after a renewal that failed, or that came too late to be sure of anything


class Leases:
    """The deliveries a consumer holds, from the read to the settlement."""

    def __init__(self, member: Member, holder: Holder, watchdog: Watchdog | None = None) -> None:
        self.held: set[Delivery] = set()
        self._connections = member.connections
        self._consumers_key = member.keys.consumers(member.group)
        self._group, self._consumer = member.group, member.consumer
        self._lease = lease = member.settings.lease
        self._every = lease / _RENEWALS
        self._renewed_at = 0.0
        self._holder = holder
        # Questions that may go unanswered while no handler runs.
        self._patience = _RENEWALS * (1 + member.settings.timeout / lease)
        self._watchdog = watchdog  # ends this process when the event loop runs no more
        # How often the event loop was asked whether it runs, and which time it last said so: one writer each.
        self._asked = self._answered = 0
        self._is_blocked = False
        self._loop_thread = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Starts the thread; its first act is the consumer's first heartbeat."""
        loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._failed = loop.create_future()
        self._thread = threading.Thread(target=self._keep, args=(loop,), name=f"leases-{self._group}", daemon=True)
        self._thread.start()

    async def run(self) -> None:
        """Waits for the thread to fail, and raises what it failed with. A consumer that went on without it would begin
        nothing any more, since it could not be sure of any lease, and would hold what it has read for ever.
        """
        assert self._failed is not None, "not started"
        await self._failed

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """Takes deliveries under renewal."""
        self.held.update(deliveries)

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Ends the renewal of deliveries that are settled or lost."""
        self.held.difference_update(deliveries)

    def fresh(self) -> bool:
        """Whether the leases were renewed lately. If not (a stopped process, a Redis that was away), what this
        consumer holds looks abandoned, and reclaiming now would take it over from itself.
        """
        return time.monotonic() - self._renewed_at < 2 * self._every

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._renew_until_stopped(loop)
        except Exception as error:  # noqa: BLE001 - whatever it is: the event loop raises it
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _renew_until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        # A call that is swallowed must not cost the leases: there is time for another.
        client = self._connections.blocking(timeout=min(5.0, max(1.0, self._lease / 2)))
        pause, refused = 0.0, 0
        while not self._stop.wait(pause) or self._in_threads():
            if self._stop.is_set():
                time.sleep(min(_RETRY, self._every))  # the event takes no time any more
            now = time.monotonic()
            if not self._stop.is_set() and self._loop_is_blocked(loop, now):
                pause = self._every
                continue
            try:
                # What was taken into hand meanwhile, and has waited for half a lease, waits for the next one.
                is_late = self._renewed_at and now > begin_by(self._renewed_at, self._lease)
                pause = min(_RETRY, self._every) if is_late else self._every
                renewed, lost = self._renew(client, now)
                refused = 0
            except (RedisError, OSError) as error:
                # The consumer's own loops log and back off; while Redis is away nobody else can reclaim either.
                log.debug("leases.not_renewed", group=self._group, error=reason(error))
                pause, refused = min(_RETRY * 2 ** min(refused, 2), self._every), refused + 1
                continue
            if not self._stop.is_set() and not loop.is_closed():
                loop.call_soon_threadsafe(self._on_renewed, now, renewed, lost)
        client.close()

    def _in_threads(self) -> bool:
        """Whether a plain `def` handler has one of them: no other consumer may begin it while this process lives."""
        return any(delivery.thread for delivery in self.held.copy())

    def _loop_is_blocked(self, loop: asyncio.AbstractEventLoop, now: float) -> bool:
        """Asks the event loop whether it runs, and says whether it has not for a lease, while a handler takes a lease
        longer than it may. A process that was stopped is asked again and again before this is believed.
        """
        self._asked += 1
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._answer, self._asked)
        silent = self._asked - self._answered
        if silent <= _RENEWALS or not self._is_overdue(now, silent):
            self._is_blocked = False
            return False
        if not self._is_blocked:
            self._is_blocked = True
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - nothing public tells
            where = [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_stack(frame, limit=8)]
            about = {"group": self._group, "consumer": self._consumer, "held": len(self.held), "where": where}
            if self._watchdog is None:
                log.critical("consumer.blocked", **about)
            else:
                self._watchdog.end_blocked(about)
        return True

    def _is_overdue(self, now: float, silent: int) -> bool:
        """Whether a handler takes a lease longer than it may; or none runs, and the event loop still does not: the
        engine itself waits in it, to write a log line that is never read for example.
        """
        deadlines = self.running()
        if not any(deadline > now for deadline in deadlines) and silent > self._patience:
            return True
        return any(deadline < now - self._lease for deadline in deadlines)

    def running(self) -> list[float]:
        """The deadlines of the handlers that run (monotonic)."""
        return [delivery.deadline for delivery in self.held.copy() if delivery.deadline > 0 and not delivery.settling]

    def _answer(self, asked: int) -> None:
        self._answered = asked

    def _on_renewed(self, at: float, renewed: Iterable[Delivery], lost: set[Delivery]) -> None:
        until = begin_by(at, self._lease)
        for delivery in renewed:
            delivery.begin_by = until
        if lost:
            self._holder.lost(lost)

    def _renew(self, client: Any, now: float) -> tuple[list[Delivery], set[Delivery]]:
        """Renews what is held; returns what is ours for another lease from `now` on, and what is another's."""
        by_source: dict[str, list[tuple[Delivery, int]]] = {}
        for delivery in self.held.copy():
            if delivery.thread or not (0 < delivery.deadline < now or self._stop.is_set()):
                by_source.setdefault(delivery.source, []).append((delivery, delivery.count))
        keys, arguments = scripts.renew_arguments(
            self._consumers_key,
            self._group,
            self._consumer,
            {source: [(d.entry_id, count) for d, count in deliveries] for source, deliveries in by_source.items()},
        )
        try:
            positions = client.execute_command(*scripts.RENEW.by_hash(keys, arguments))
        except NoScriptError:
            positions = client.execute_command(*scripts.RENEW.by_source(keys, arguments))
        self._renewed_at = now
        in_order = [sent for deliveries in by_source.values() for sent in deliveries]
        refused = set(positions)
        renewed = [delivery for position, (delivery, _) in enumerate(in_order, 1) if position not in refused]
        found = (in_order[position - 1] for position in positions)
        # A suspect is counted when it begins, and that may come in between: whether it was ours is known by then.
        return renewed, {delivery for delivery, count in found if delivery.counted and delivery.count == count}

    async def stop(self) -> None:
        """Ends the thread; what is still held can be reclaimed by others when its lease runs out. While a handler that
        cannot be interrupted has some of it, the thread goes on, and ends with the process.
        """
        self._stop.set()
        give_up = time.monotonic() + 5.0
        while self._thread is not None and self._thread.is_alive() and not self._in_threads():
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(0.005)
