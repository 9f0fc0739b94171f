"""The processor of a name (argument 1), whose process is killed whenever it begins to write a file.

As the kernel kills one that takes too much memory.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from processors.shared.storage.file_writer import FileWriter


async def _die(self: FileWriter, data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    FileWriter.write = _die  # type: ignore[method-assign]
    name = sys.argv.pop(1)
    runpy.run_module(f"processors.{name}", run_name="__main__", alter_sys=True)
