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
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from mode import Worker

from streams.client.client import Streams
from streams.consuming.consumer import Consumer, end_tasks, silent
from streams.consuming.exits import (
    EXIT_CRASHED,
    exit_now,
    exit_process,
    reason,
    say,
)
from streams.consuming.watchdog import Watchdog
from streams.errors import (
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_USAGE,
    ConfigurationError,
    Refused,
    StreamsError,
    exit_on_error,
)
from streams.handlers.callables import shown
from streams.handlers.child_processes import Parent, end_child
from streams.handlers.processor import Processor
from streams.logs import configure_unless_done, get_logger
from streams.process_state import ProcessState
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.messages.middleware import Middleware

log = get_logger("streams.runner")


class _Process(Worker):
    """mode's Worker with this project's rules: the second signal ends the process at once, none opens a debugger, and
    the consumers drain side by side, not one grace after the other.
    """

    logger = silent

    def __init__(self, *consumers: Consumer, state: ProcessState, **options: Any) -> None:
        super().__init__(*consumers, **options)
        self._state = state
        self.ended = asyncio.Event()
        self.signalled = False

    async def on_started(self) -> None:
        self._state.ready()  # all consumers read
        await super().on_started()

    async def on_stop(self) -> None:
        self._state.stopping()
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
        if self.signalled:
            say("stopped by a second signal: running messages are redelivered when their leases expire")
            os._exit(EXIT_INTERRUPTED)
        self.signalled = True
        super()._schedule_shutdown(signal)


async def serve(
    *processors: Processor, settings: Settings, middleware: Sequence[Middleware] = (), parent: Parent | None = None
) -> None:
    """Runs one consumer per processor until a signal or a crash; raises what crashed it. `parent` is what children that
    handlers fork are looked after by.
    """
    watchdog = Watchdog(" ".join(processor.name for processor in processors), lease=settings.lease)
    consumers = [
        Consumer(processor, Streams(settings=settings, middleware=middleware), middleware=middleware, watchdog=watchdog)
        for processor in processors
    ]
    state = ProcessState(settings.state_file)
    process = _Process(
        *consumers,
        state=state,
        redirect_stdouts=False,
        override_logging=False,
        quiet=True,
        loop=asyncio.get_running_loop(),
    )
    parent = parent or Parent()

    def forked() -> None:
        watchdog.forked()
        for consumer in consumers:
            consumer.forked()

    state.begin()
    watchdog.start(consumers)
    atexit.register(watchdog.stop)  # not before: a handler that is left behind in a thread may hold the interpreter yet
    parent.begin(forked)
    try:
        await process.start()
        await process.wait_until_stopped()
    finally:
        await process.stop()
        await process.ended.wait()
        state.end()
        parent.end()
    if process.crash_reason is not None:
        raise process.crash_reason
    if not process.signalled:
        raise StreamsError("the process has ended, and no signal had asked for it")


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
        say(f"error: {refusal}")
        sys.exit(EXIT_USAGE)
    names = " ".join(processor.name for processor in processors)
    parser = argparse.ArgumentParser(
        prog=f"python -m processors.{names}" if len(processors) == 1 else "python -m processors",
        description=f"Consumes events as the group {names}. "
        "The rest is set in the environment (docs/operate/settings.md).",
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="handlers at once (default: STREAMS_CONCURRENCY)")
    options = parser.parse_args(arguments)
    if options.concurrency is not None and options.concurrency < 1:
        parser.error("--concurrency must be at least 1")
    _keep_standard_streams()
    with exit_on_error():
        configure_unless_done()
        settings = Settings.load()
    for processor in processors:
        processor.concurrency = options.concurrency or processor.concurrency
    # What is loaded by now lives as long as the process: the collector need not look through it again and again, which
    # costs a consumer of many small events a third of its time (measured).
    gc.collect()
    gc.freeze()
    try:
        parent, process, ended = Parent(), os.getpid(), asyncio.Event()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            work = serve(*processors, settings=settings, middleware=middleware, parent=parent)
            try:
                runner.run(_serve_to_the_end(work, ended))
            except BaseException as error:
                if os.getpid() != process:
                    end_child(error)
                if not ended.is_set():
                    # Other code has ended the event loop, by `loop.stop()` or `sys.exit()`: nothing runs in it now.
                    log.error("runner.crashed", error=reason(error))
                    exit_now(EXIT_CRASHED)
                raise
            finally:
                # Closing the event loop waits for the threads of its executor, whatever runs there: this one has none.
                runner.get_loop().set_default_executor(ThreadPoolExecutor(1))
    except Refused as error:
        say(f"error: {error}")
        exit_process(EXIT_REFUSED)
    except ConfigurationError as error:
        say(f"error: {error}")
        exit_process(EXIT_USAGE)
    except StreamsError as error:
        say(f"error: {error}")
        exit_process(EXIT_CRASHED)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the end of the process, in one line
        log.error("runner.crashed", error=reason(error))
        exit_process(EXIT_CRASHED)
    exit_process(0)


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


async def _serve_to_the_end(work: Coroutine[Any, Any, None], ended: asyncio.Event) -> None:
    """Serves, and sees to it that the process ends afterwards: closing the event loop would wait for ever for a handler
    that swallows its cancel. Its lease runs out, and another consumer takes its message over.
    """
    try:
        await work
    finally:
        current = asyncio.current_task()
        left = await end_tasks(task for task in asyncio.all_tasks() if task is not current)
        if left:
            log.error("runner.left_behind", tasks=[str(task.get_coro()) for task in left][:5])
            exit_now(EXIT_CRASHED)
        ended.set()


def _keep_standard_streams() -> None:
    """Opens what was closed of standard input, output and error: a socket that had its number would be given what is
    written there, and uvloop aborts the process when it closes one.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
