"""following: how far the handlers of an event come, drawn as it goes on."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from streams.cli.output import console, json_text, safe, write
from streams.cli.session import opened

if TYPE_CHECKING:
    from streams.reached import Reached
    from streams.step import Step


async def follow_event(id: str, *, json: bool) -> None:
    """Shows the steps of an event: bars on a terminal, else a line or an object for each."""
    async with opened() as streams, aclosing(streams.progress(id)) as steps:
        if json or not sys.stdout.isatty():
            async for step in steps:
                write(json_text(step.as_json()) if json else _line(step))
                sys.stdout.flush()
            return
        with _bars() as bars:
            tasks: dict[str, Any] = {}
            async for step in steps:
                if step.group not in tasks:
                    tasks[step.group] = bars.add_task(step.group, total=None, state="", told="")
                _draw(bars, tasks[step.group], step)


def amount(reached: Reached) -> str:
    """How far it has come, in words: `40 of 100, 40 %: reading`."""
    told = f"{reached.done:g}" if reached.total is None else f"{reached.done:g} of {reached.total:g}"
    if reached.share is not None:
        told += f", {reached.share:.0%}".replace("%", " %")
    return f"{told}: {reached.text}" if reached.text else told


def _line(step: Step) -> str:
    told = f"  {amount(step.reached)}" if step.reached else ""
    return safe(f"{step.group}  {step.state}  attempt {step.attempt}{told}")


def _bars() -> Any:
    from rich.progress import BarColumn, Progress, TextColumn

    def text(template: str) -> TextColumn:
        return TextColumn(template, markup=False)  # what a handler says is text

    columns = (text("{task.description}"), text("{task.fields[state]}"), BarColumn(), text("{task.fields[told]}"))
    return Progress(*columns, console=console())


def _draw(bars: Any, task: Any, step: Step) -> None:
    state = step.state if step.attempt < 2 else f"{step.state}, attempt {step.attempt}"
    reached = step.reached
    total, done = (reached.total, reached.done) if reached else (None, 0.0)
    if step.is_last:
        total = total or 1.0  # nothing moves any more
        done = total if step.state == "acked" else min(done, total)
    bars.update(task, total=total, completed=done, state=state, told=safe(amount(reached)) if reached else "")
