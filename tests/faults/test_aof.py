"""Cut files: whatever a script did is found again as a whole or not at all, wherever the file ends (hazard N12)."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

import streams
from streams.messages.message import CARRIED
from streams.redis.embedded import ServerBinary
from streams.redis.keys import NEVER_MS
from tests.faults.script_cases import CASES, KEYS, NOTES, add, group, note
from tests.support.cut_aof import sweep

# The sweep ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below pytest's own directory: a socket path may have 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="cut-aof-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def sweep_all(binary: ServerBinary, home: Path, seed: int, most: int) -> None:
    """Cuts every case, and says what was found."""
    swept = {
        name: sweep(binary, home / str(number), cut, random.Random(f"{seed} {name}"), most)
        for number, (name, cut) in enumerate(sorted(CASES.items()))
    }
    torn = {name: found.torn for name, found in swept.items() if found.torn}
    names = {name.partition("__")[0] for name in swept}
    cuts, count = sum(found.cuts for found in swept.values()), sum(map(len, torn.values()))
    print(f"{binary}, seed {seed}: {len(names)} scripts in {len(swept)} ways, {cuts} cuts, {count} torn")
    assert not torn


def test_every_script_that_changes_something_is_cut() -> None:
    """A script that is added later needs a case."""
    changing = {
        path.name.removesuffix(".lua")
        for path in Path(streams.__file__).parent.glob("*/lua/*.lua")
        if (first := path.read_text(encoding="utf-8").split("\n", 1)[0]).startswith("#!lua")
        and "no-writes" not in first
    }
    assert changing == {name.partition("__")[0] for name in CASES}


@pytest.mark.timeout(180)
def test_no_script_is_found_torn(redis_binary: ServerBinary, home: Path, request: pytest.FixtureRequest) -> None:
    """Some cuts of each, by the seed of the run."""
    sweep_all(redis_binary, home, request.config.getoption("randomly_seed", 0), 6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_script_is_found_torn_wherever_it_is_cut(
    redis_binary: ServerBinary, home: Path, request: pytest.FixtureRequest
) -> None:
    """The end of every command, and as many places between as make eighty."""
    sweep_all(redis_binary, home, request.config.getoption("randomly_seed", 0), 80)


@pytest.mark.newest_redis
def test_the_sweep_sees_what_is_torn(redis_binary: ServerBinary, home: Path) -> None:
    """The same as `release_due` does, by two commands: then there is a file in which the message is nowhere."""

    async def apart(client: Any) -> AsyncGenerator[None]:
        await group(client)
        await add(client, note(1, when="@1"))
        yield
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.zremrangebyscore(KEYS.due(), 0, NEVER_MS)
            pipeline.xadd(NOTES, dict(zip(CARRIED, CARRIED, strict=True)))
            await pipeline.execute()

    swept = sweep(redis_binary, home / "torn", apart, random.Random(1), 10)
    assert swept.torn
