"""Membership: how a consumer joins and leaves its group: its name, the groups it creates, its retirement."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError, RedisError

from streams.consuming import scripts
from streams.logs import get_logger
from streams.redis.refusal import LOST, refusal

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.redis.partition import Member

log = get_logger("streams.membership")


def new_consumer_name() -> str:
    """Makes host-pid-random: never reused, so a restarted process is never taken for the one that died."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


class Membership:
    """The membership of one consumer in one group over the streams it reads in one partition."""

    def __init__(self, member: Member, sources: list[str]) -> None:
        self.consumer = member.consumer
        self.group = member.group
        self.sources = sources
        self._keys = member.keys
        self._reconnect = member.reconnect
        self._place = member.connections.place
        self._connection = member.connections.direct(timeout=10.0)
        self._one_at_a_time = asyncio.Lock()  # three readers may find the group gone at once

    async def ensure_groups(self) -> None:
        """Makes the group wherever it is missing, waiting for Redis if it is away."""
        while True:
            try:
                async with self._one_at_a_time:
                    made, refused = await scripts.ensure_groups(
                        self._connection.call, self._keys, group=self.group, streams=self.sources
                    )
            except LOST as error:
                await self._reconnect.failed(error)
            except RedisError as error:
                self._reconnect.refused(log, "groups.refused", error, group=self.group)
                await self._reconnect.failed(error)
            else:
                if refused:  # one key that is damaged keeps the group from none of the others
                    log.error("groups.refused", group=self.group, errors={k[:128]: v[:200] for k, v in refused.items()})
                if made:
                    log.info("groups.made", group=self.group, count=made)
                return

    async def check_permissions(self) -> None:
        """Raises `Refused` when this user may not do what a consumer does beside reading: without XPENDING it would
        take what it has settled for another's, and without CLIENT it would read nothing, and say so again and again.
        """
        source = self.sources[0]
        for command in (
            (b"XPENDING", source, self.group), (b"XRANGE", source, b"-", b"-", b"COUNT", 1), (b"CLIENT", b"ID"),
            (b"CLIENT", b"UNBLOCK", 0),
        ):  # fmt: skip
            try:
                await self._connection.call(*command)
            except NoPermissionError as error:
                raise refusal(error, self._place) from error
            except (*LOST, RedisError) as error:
                log.debug("permissions.not_checked", group=self.group, error=error.__class__.__name__)

    async def begin(self, delivery: Delivery) -> bool:
        """Counts the delivery of a suspect that is about to start; False when it is not ours any more."""
        while True:
            try:
                async with self._one_at_a_time:
                    ours = await scripts.begin(
                        self._connection.call,
                        delivery.source,
                        group=self.group, consumer=self.consumer, entry_id=delivery.entry_id, count=delivery.count,
                    )  # fmt: skip
                break
            except (*LOST, RedisError) as error:
                await self._reconnect.failed(error)
        if ours:
            delivery.count, delivery.counted = delivery.count + 1, True
        return ours

    async def leave(self) -> None:
        """Takes this consumer out of the group if it holds nothing; otherwise a consumer that is left does it."""
        try:
            async with asyncio.timeout(2.0), self._one_at_a_time:
                await scripts.retire_consumer(
                    self._connection.call,
                    self._keys,
                    group=self.group,
                    consumer=self.consumer,
                    streams=self.sources,
                    silent_ms=0,
                )
        except (*LOST, RedisError) as error:
            log.debug("consumer.not_retired", group=self.group, error=error.__class__.__name__)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._connection.aclose()
