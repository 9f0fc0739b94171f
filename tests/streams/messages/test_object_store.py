"""The object store's own: what its library does beside what it is asked for."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

SOURCE = """
import asyncio, sys
from streams.messages.object_store import open_store

async def main():
    await open_store(sys.argv[1], user="a test").head_async("found")

asyncio.run(main())
"""


async def test_a_process_ends_well_right_after_a_call(tmp_path: Path) -> None:
    """Its threads still put things away then, which must not meet an interpreter that is being taken down: on busy
    cores every third process was aborted.
    """
    (tmp_path / "found").write_bytes(b"x" * 400_000)

    async def run() -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SOURCE, tmp_path.as_uri(), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        return process.returncode or 0, errors

    for _ in range(5):
        assert await asyncio.gather(*(run() for _ in range(8))) == [(0, b"")] * 8
