"""Display: what is seen while the demo runs: lines that stay, and below them, on a terminal, how it stands now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from streams.cli.output import safe

_TIME: Final = 8  # columns of the time before each line
_PLAIN_EVERY: Final = 1.0  # seconds between two lines about the same in a pipe


@dataclass(frozen=True, slots=True)
class Figures:
    """How it stands: mails taken of those expected, the group's figures, and each consumer with what it holds."""

    mails: int
    expected: int
    lag: int
    pending: int
    waiting: int
    dead: int
    consumers: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return (
            f"mails {self.mails}/{self.expected}, unread {self.lag}, pending {self.pending}, "
            f"waiting {self.waiting}, dead {self.dead}"
        )


class Display:
    """Writes to a console: on a terminal with a moving part at the bottom, else one line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._began = time.monotonic()
        self._step = ""
        self._standing: Figures | None = None
        self._shown_at = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been going."""
        return time.monotonic() - self._began

    @contextmanager
    def moving(self) -> Iterator[Self]:
        """Shows the moving part inside the block."""
        if not self._console.is_terminal:
            yield self
            return
        spinner = Spinner("dots")
        with Live(
            get_renderable=lambda: self._now(spinner), console=self._console, transient=True, refresh_per_second=8
        ) as self._live:
            try:
                yield self
            finally:
                self._live = None

    def step(self, title: str) -> None:
        """Begins a step."""
        self._step = title
        self.show(Text(f"\n{title}", style="bold"))

    def say(self, text: str, style: str = "") -> None:
        """A line that stays, with the time."""
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(width=_TIME, justify="right", style="dim", no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(f"{self.seconds:.1f} s", Text(safe(text), style=style))
        self.show(line)

    def stand(self, standing: Figures) -> None:
        """Shows how it stands now; the same again is not shown again."""
        if standing == self._standing:
            return
        if not self._console.is_terminal:
            if self.seconds - self._shown_at < _PLAIN_EVERY:
                return
            self._shown_at = self.seconds
            self.say(f"... {standing}")
        self._standing = standing

    def show(self, what: Any = "") -> None:
        """Anything rich can draw; a pipe gets no blanks at the ends of lines."""
        if self._console.is_terminal:
            self._console.print(what)
            return
        with self._console.capture() as captured:
            self._console.print(what)
        for line in captured.get().splitlines():
            self._console.file.write(line.rstrip() + "\n")
        self._console.file.flush()  # the reader of the pipe sees it when it happens

    def _now(self, spinner: Spinner) -> Group:
        title = Table.grid(padding=(0, 1, 0, 0))
        title.add_row(spinner, Text(f"{self._step}", style="bold"), Text(f"{self.seconds:.1f} s", style="dim"))
        parts: list[Any] = [Text(), title]
        if self._standing is not None:
            parts.append(_picture(self._standing))
        return Group(*parts)


def _picture(standing: Figures) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    bar = Table.grid(padding=(0, 1, 0, 0))
    bar.add_row(
        ProgressBar(total=max(1, standing.expected), completed=standing.mails, width=40),
        Text(f"{standing.mails} of {standing.expected}"),
    )
    grid.add_row("  mails", bar)
    figures = f"unread {standing.lag}  pending {standing.pending}  waiting {standing.waiting}  dead {standing.dead}"
    grid.add_row("  group", figures)
    for name, state in standing.consumers:
        grid.add_row(f"  {name}", Text(state, style="red" if state.startswith("killed") else ""))
    return grid
