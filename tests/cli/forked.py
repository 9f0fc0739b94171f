"""Forked: the command line in a process of its own that need not import anything first.

The imports are nine tenths of a short command's time. A server (one for each process of pytest, ended with it) has
done them once, and each command is forked from it, with the arguments, the environment, the directory and the files
that it would have been started with. Real starts are elsewhere: the documentation's sessions, the demo, `spawn`.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import pkgutil
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final, NoReturn

import streams
import streams.cli

_PRELOADED: Final = "tests.cli.preloaded"
_server: Final = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([_PRELOADED])


def preload() -> None:
    """What the server does first: it imports the engine and the command line."""
    for package in (streams, streams.cli):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.ispkg and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    importlib.import_module("schemas")


async def run(
    arguments: tuple[str, ...], env: Mapping[str, str], directory: Path, stdin: bytes
) -> tuple[int, str, str]:
    """Runs `streams ARGUMENT...` in `directory`, and returns its exit code, its output and its complaints."""
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, name) for name in ("in", "out", "err")]
        for file, content in zip(files, (stdin, b"", b""), strict=True):
            file.write_bytes(content)
        code = await _ended(_server.Process(target=_command, args=(arguments, dict(env), directory, files)))
        out, err = (file.read_text(encoding="utf-8") for file in files[1:])
    return code, out, err


async def _ended(process: ForkServerProcess) -> int:
    process.start()
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
        process.kill()  # a test that was cancelled leaves none behind
        process.join()
    code = process.exitcode
    process.close()
    assert code is not None
    return code


def _command(arguments: tuple[str, ...], env: dict[str, str], directory: Path, files: list[Path]) -> NoReturn:
    for descriptor, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    sys.path[0] = str(directory)  # as `python -m` has it
    sys.argv = ["streams", *arguments]
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing gave it an empty one
    streams.cli.main()
