"""Runner: processors as one process, with signals, exit codes and a clean end. `python -m processors.email` is this.

mode's Service tree starts and stops the consumers; its Worker handles the signals.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import gc
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog
from mode import Worker
from pydantic import ValidationError

from streams.calling import shown
from streams.client import Streams
from streams.consumer import Consumer, end_tasks
from streams.errors import ConfigurationError, Refused, StreamsError
from streams.failure import describe
from streams.processor import Processor
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.middleware import Middleware

log = structlog.get_logger("streams.runner")

EXIT_CRASHED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 78  # EX_CONFIG: restarting without a change cannot help
EXIT_INTERRUPTED: Final = 130


class _Process(Worker):
    """mode's Worker with this project's rules: the second signal ends the process at once, none opens a debugger, and
    the consumers drain side by side, not one grace after the other.
    """

    def __init__(self, *consumers: Consumer, **options: Any) -> None:
        super().__init__(*consumers, **options)
        self.ended = asyncio.Event()

    async def on_stop(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self.services), return_exceptions=True)

    async def stop(self) -> None:
        # A signal stops the process in a task of mode's: whoever calls afterwards returns at once, and must wait for
        # `ended`, or the event loop would be closed over consumers that are still draining.
        began = not self._stopped.is_set()
        try:
            await super().stop()
        finally:
            if began:
                self.ended.set()

    def _on_sigint(self) -> None:
        self._schedule_shutdown(signal.SIGINT)

    def _on_sigusr2(self) -> None:
        log.info("runner.signal_ignored", signal="SIGUSR2")

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        if self._signal_stop_time:
            sys.stderr.write("stopped by a second signal: what was running is handed over when its lease runs out\n")
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        super()._schedule_shutdown(signal)


async def serve(*processors: Processor, settings: Settings, middleware: Sequence[Middleware] = ()) -> None:
    """Runs one consumer per processor until a signal or a crash; raises what crashed it."""
    consumers = [
        Consumer(
            processor, Streams(settings=settings, middleware=middleware), middleware=middleware, blocked=_end_blocked
        )
        for processor in processors
    ]
    process = _Process(
        *consumers, redirect_stdouts=False, override_logging=False, quiet=True, loop=asyncio.get_running_loop()
    )
    try:
        await process.start()
        await process.wait_until_stopped()
    finally:
        await process.stop()
        await process.ended.wait()
    if process.crash_reason is not None:
        raise process.crash_reason


def run(
    *processors: Processor,
    middleware: Sequence[Middleware] = (),
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Runs processors as this process, and exits: 0 after a signal, 1 after a crash, 2 for wrong usage, 78 when
    Redis refuses or must not be used, 130 at a second signal. Options come from the command line
    (`--concurrency N`, handlers at once), everything else from the environment.
    """
    if refusal := _refusal(processors):
        _say(refusal)
        sys.exit(EXIT_USAGE)
    names = " ".join(processor.name for processor in processors)
    parser = argparse.ArgumentParser(
        prog=f"python -m processors.{names}" if len(processors) == 1 else "python -m processors",
        description=f"Consumes events as the group {names}. The rest is set in the environment (docs/settings.md).",
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="handlers at once (default: STREAMS_CONCURRENCY)")
    options = parser.parse_args(arguments)
    if options.concurrency is not None and options.concurrency < 1:
        parser.error("--concurrency must be at least 1")
    for processor in processors:
        processor.concurrency = options.concurrency or processor.concurrency
    # What is loaded by now lives as long as the process: the collector need not look through it again and again, which
    # costs a consumer of many small events a third of its time (measured).
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve_to_the_end(serve(*processors, settings=Settings(), middleware=middleware)))
    except Refused as error:
        _say(error)
        sys.exit(EXIT_REFUSED)
    except ValidationError as error:
        _say(describe(error))
        sys.exit(EXIT_USAGE)
    except ConfigurationError as error:
        _say(error)
        sys.exit(EXIT_USAGE)
    except StreamsError as error:
        _say(error)
        sys.exit(EXIT_CRASHED)
    except Exception as error:  # noqa: BLE001 - the end of the process, told in one line
        log.error("runner.crashed", error=describe(error))
        sys.exit(EXIT_CRASHED)
    sys.exit(0)


def _refusal(processors: Sequence[object]) -> str:
    """Why these cannot be run, or an empty string: they would wait for ever, in silence."""
    if not processors:
        return "run() takes processors, and was given none: run(billing)"
    for processor in processors:
        if not isinstance(processor, Processor):
            return f"run() takes processors, not {shown(processor)}: run(billing)"
        if not processor.subscriptions and not processor.schedules:
            return f"processor {processor.name} has no handlers and no schedules; import the module that declares them"
    return ""


async def _serve_to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Serves, and sees to it that the process ends afterwards: closing the event loop would wait for ever for a handler
    that swallows its cancel. Its lease runs out, and somebody else takes its message over.
    """
    try:
        await work
    finally:
        current = asyncio.current_task()
        left = await end_tasks(task for task in asyncio.all_tasks() if task is not current)
        if left:
            log.error("runner.left_behind", tasks=[str(task.get_coro()) for task in left][:5])
            atexit._run_exitfuncs()  # noqa: SLF001 - spans and logs are still flushed; nothing public runs them
            os._exit(EXIT_CRASHED)


def _end_blocked() -> None:
    """A handler has blocked the event loop for longer than it may, and nothing else can end it. What was held is handed
    over when its lease runs out; the message that did it counts as one that ended its process.
    """
    _say("a handler blocks the event loop, and has for longer than it may: the process is ended")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(error: object) -> None:
    sys.stderr.write(f"error: {error}\n")
