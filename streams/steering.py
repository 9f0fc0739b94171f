"""Steering: what an operator asks of a client and tells it, beside publishing. Each verb is a module of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from streams.accounting import Accounts
    from streams.cancellation import Cancellation
    from streams.client import Streams
    from streams.dead_letters import DeadLetters
    from streams.facts import Reason
    from streams.message import Message
    from streams.replay import Replay
    from streams.replays import Replays
    from streams.retention import Retired, Trimmed
    from streams.schedules import Schedules
    from streams.snapshot import Snapshot
    from streams.step import Step
    from streams.trail import Trail


class Steering:
    """The operator's side of `Streams`, which is the only thing that has it."""

    @property
    def _client(self) -> Streams:
        return cast("Streams", self)

    def dead_letters(self, group: str) -> DeadLetters:
        """What one group gave up."""
        from streams.dead_letters import DeadLetters

        return DeadLetters(self._client, group)

    async def trim(
        self, *streams: str, keep: int | None = None, older_than: timedelta | None = None, dry_run: bool = False
    ) -> list[Trimmed]:
        """Removes what every group is through with, beyond `keep` or older than `older_than`: see `retention.trim`."""
        from streams.retention import trim

        return await trim(self._client, streams, keep=keep, older_than=older_than, dry_run=dry_run)

    async def release(self, messages: Sequence[Message]) -> int:
        """Removes from the claim store what removed messages had there: see `orphans.release`."""
        from streams.orphans import release

        return await release(self._client, messages)

    async def retire(self, group: str, *, apply: bool = False) -> Retired:
        """Gives up a group that nobody runs any more, or says what that would give up: see `retention.retire`."""
        from streams.retention import retire

        return await retire(self._client, group, apply=apply)

    @property
    def replays(self) -> Replays:
        """Replays from history to one group."""
        from streams.replays import Replays

        return Replays(self._client)

    async def replay(self, stream: str, *, group: str, rate: float | None = None, **which: Any) -> Replay:
        """Delivers a stream's history again to one group; `which` as for `Replays.plan`, `rate`: a most per second."""
        return await self.replays.begin(await self.replays.plan(stream, group=group, **which), rate=rate)

    async def accounts(self) -> Accounts:
        """What was published against what became of it: see `Accounts`."""
        from streams.accounting import Accounts

        return await Accounts.take(self._client)

    async def snapshot(self) -> Snapshot:
        """How it stands now: see `Snapshot.take`."""
        from streams.snapshot import Snapshot

        return await Snapshot.take(self._client)

    async def cancel(self, id: str) -> Cancellation:
        """Calls off one event in every group that has not finished it: see `Cancellation`."""
        from streams.cancellation import cancel

        return await cancel(self._client, id)

    async def pause(self, group: str) -> bool:
        """Stops a group's consumers from beginning anything; what runs is finished. False if it was paused already.

        Raises `NotFound` for a group that no consumer has ever made.
        """
        from streams.pausing import pause

        return await pause(self._client, group, on=True)

    async def resume(self, group: str) -> bool:
        """Lets a paused group go on. False if it was not paused."""
        from streams.pausing import pause

        return await pause(self._client, group, on=False)

    @property
    def schedules(self) -> Schedules:
        """The schedules that processors have: list, pause, resume, run."""
        from streams.schedules import Schedules

        return Schedules(self._client)

    def progress(self, id: str, *, group: str = "") -> AsyncGenerator[Step, None]:
        """The steps of one event until every group (or the one) is through with it: see `follow`."""
        from streams.step import follow

        return follow(self._client, id, group=group)

    async def event(self, id: str) -> Trail:
        """Where one event is: see `Trail.find`."""
        from streams.trail import Trail

        return await Trail.find(self._client, id, follow_ups=True)

    async def why(self, id: str) -> tuple[Reason, ...]:
        """Why one event is not done, group by group, and what mends it: see `why.why`."""
        from streams.why import why

        return await why(self._client, id)
