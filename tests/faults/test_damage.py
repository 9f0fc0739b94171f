"""Whatever is damaged in Redis, what is not goes on: every family of keys, while groups of all kinds are at work.

One set of consumers lives through all examples of a test. After each piece of damage innocent events are published, to
keys that were left alone: they are handled within seconds, and what looks at the keys ends with no traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from streams import Backoff, Consumer, Limit, Processor, Streams
from streams.cli.application import application
from streams.cli.exit import ending
from tests.faults.damaging import FAMILIES, GROUPS, Harm, families_in_keys, harms
from tests.streams.conftest import make_settings
from tests.support.events import Noted, Other
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

__all__ = ["make_settings"]

CHUNKS: Final = 10
EXAMPLES: Final = 10
"""In each chunk, of each version of Redis: 200 together on the two that `make test` finds."""
MANY: Final = 2_500
KINDS: Final = ("plain", "retry", "delayed", "lined", "capped")
LOOKS: Final = (
    ["status"], ["status", "--json"], ["doctor"], ["doctor", "--json"], ["dead", "ls", "plain"],
    ["dead", "ls", "lined", "--json"],
    ["tail", "others"], ["tail", "others", "--from", "-1h", "--json"], ["tail", "inbox:plain"], ["gaps"],
    ["schedules", "ls"],
    ["replays", "ls"], ["event", "victim"], ["doctor", "why", "victim"],
    ["trim", "others", "--older-than", "1s", "--dry-run"],
    ["partitions"],
)  # fmt: skip


def test_every_family_of_keys_is_damaged() -> None:
    """A family that is added to keys.py is added here as well."""
    assert families_in_keys() == {name.replace("[:high|:low]", "[]") for name in FAMILIES}


class Works:
    """Three groups at work in one partition, and what they have handled."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.seen: dict[str, Counter[int]] = {group: Counter() for group in GROUPS}
        self.consumers: list[Consumer] = []
        self._next = 0

    async def begin(self) -> None:
        self.client = Streams(settings=self._make())
        await self.client.check()
        for processor in map(self._processor, GROUPS):
            consumer = Consumer(processor, Streams(settings=self._make()))
            await consumer.start()
            self.consumers.append(consumer)

    def _processor(self, group: str) -> Processor:
        processor = Processor(group, retry=Backoff(attempts=3, first=0.02), ordered=group == "lined")
        limit = Limit(rate=1_000, concurrency=5, by="key") if group == "capped" else None

        @processor.on(Noted, limit=limit)
        async def note(event: Noted) -> None:
            self.seen[group][event.n] += 1
            if event.text == "retry" and self.seen[group][event.n] == 1:
                raise ValueError("once more")

        @processor.on(Other)
        async def other(event: Other) -> None:
            """What is damaged comes here, if anywhere."""

        if group == "plain":

            @processor.every(3_600)
            def tick() -> None:
                """A schedule, so that there are schedules and slots."""

        return processor

    async def end(self) -> None:
        for consumer in self.consumers:
            await consumer.stop()
        await self.client.aclose()

    async def live_through(self, harm: Harm) -> None:
        """Does the damage, and sees that the innocent are handled."""
        for command in harm.commands:
            with contextlib.suppress(ResponseError):  # such as an id that is not after the last one
                await self.client.redis.execute_command(*command)
        due = {}
        for kind in KINDS:
            if kind not in harm.stops:
                self._next += 1
                due[kind] = self._next
                key = f"key-{self._next}" if kind in ("lined", "capped") else ""
                await self.client.publish(
                    Noted(n=self._next, text=kind), key=key, **({"delay": 0.02} if kind == "delayed" else {})
                )

        def handled() -> bool:
            return all(self._is_handled(kind, n, harm) for kind, n in due.items())

        await wait_until(handled, 15, f"{harm} stops none of {due}")
        for consumer in self.consumers:
            assert not consumer.crashed, consumer

    async def repair(self, harm: Harm) -> None:
        """Removes what nothing else removes: the next example is about other damage."""
        keys = self.client.keys
        for key in harm.repairs:
            await self.client.redis.delete(key)
        if "groups" in harm.family or harm.family == "paused":
            await self.client.redis.srem(keys.paused(), *GROUPS)

    def _is_handled(self, kind: str, n: int, harm: Harm) -> bool:
        groups = [kind] if kind in GROUPS else ["plain"]
        return all(
            self.seen[group][n] >= (2 if kind == "retry" and "retry" not in harm.stops else 1) for group in groups
        )


@pytest.fixture
def works(make_settings: Callable[..., Any], redis_server: RedisServer) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """The groups, and the loop in which they run."""
    with asyncio.Runner() as runner:
        made = Works(make_settings)
        runner.run(made.begin())

        def run(work: Any) -> Any:
            return runner.run(work)

        run.works = made  # type: ignore[attr-defined]
        yield run
        runner.run(made.end())


@cache
def _application() -> Any:
    return application()


def _look(arguments: list[str], environment: dict[str, str]) -> None:
    """One command of the command line, in this process: it says what it finds, and is not surprised."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = ending(_application(), arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    told = err.getvalue()
    assert code in (0, 1), (arguments, code, told)
    assert "should not happen" not in told, (arguments, told)
    assert "Traceback" not in told, (arguments, told)


def _examples(run: Any, number: int, environment: dict[str, str], dice: int) -> None:
    works: Works = run.works

    @seed(dice)
    @settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(harms(works.client.keys), st.sampled_from(LOOKS))
    def example(harm: Harm, look: list[str]) -> None:
        run(works.live_through(harm))
        _look(look, environment)
        run(works.repair(harm))

    print(f"seed {dice}")
    example()


@pytest.fixture
def environment(redis_url: str, app: str) -> dict[str, str]:
    """Of the commands that look."""
    return {
        "REDIS_URL": redis_url,
        "QUEUE_PREFIX": app,
        "STREAMS_PARTITIONS": "1",
        "STREAMS_EVENTS": "tests.support.events",
    }


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_is_damaged_the_rest_goes_on(
    works: Any, chunk: int, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """A few dozen pieces of damage, one after the other, under the same consumers."""
    dice = random.Random(f"{request.config.getoption('randomly_seed', 0)} {chunk}").getrandbits(32)
    _examples(works, EXAMPLES, environment, dice)
    works(works.works.client.redis.flushall())


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_whatever_is_damaged_the_rest_goes_on_for_long(
    works: Any, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Thousands, on each version of Redis."""
    dice = random.Random(str(request.config.getoption("randomly_seed", 0))).getrandbits(32)
    _examples(works, MANY, environment, dice)
    works(works.works.client.redis.flushall())
