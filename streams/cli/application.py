"""Commands: what `streams` can do, its own commands and those of installed packages.

A package adds a command with an entry point of the group `streams.commands` (name -> a typer command function or a
`typer.Typer`). It is imported when it is called, not before: a slow or broken package does not affect other commands.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from streams.cli.commands.control import cancel, pause, resume
from streams.cli.commands.dead import dead
from streams.cli.commands.dead_edit import edit
from streams.cli.commands.doctor import doctor
from streams.cli.commands.event import event
from streams.cli.commands.gaps import gaps
from streams.cli.commands.partitions import partitions
from streams.cli.commands.publish import publish
from streams.cli.commands.replay import replay, replays
from streams.cli.commands.schedules import schedules
from streams.cli.commands.schema import schema
from streams.cli.commands.status import status
from streams.cli.commands.tail import tail
from streams.cli.commands.trim import orphans, retire, trim
from streams.errors import MissingExtra, StreamsError

GROUP: Final = "streams.commands"
_ORDER: Final = (
    "publish", "status", "event", "tail", "cancel", "pause", "resume", "dead", "replay", "replays", "trim",
    "retire", "orphans", "gaps", "partitions", "schedules", "doctor", "schema",
)  # fmt: skip
_PLAIN: Final[dict[str, Any]] = {"add_completion": False, "rich_markup_mode": None}


class Plugin(TyperCommand):
    """Stands in for a command of another package until it is called."""

    def __init__(self, entry_point: EntryPoint) -> None:
        package = entry_point.dist.name if entry_point.dist else entry_point.module
        super().__init__(name=entry_point.name, help=f"(from {package})", rich_markup_mode=None)
        self._entry_point = entry_point

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Imports the real command and gives way to it."""
        return self._load().make_context(info_name, args, parent=parent, **extra)

    def _load(self) -> Any:
        try:
            found = self._entry_point.load()
            host = typer.Typer(**_PLAIN)
            if isinstance(found, typer.Typer) and _is_one_command(found):
                found = found.registered_commands[0].callback
            if isinstance(found, typer.Typer):
                host.add_typer(found, name=self.name)
            else:
                host.command(self.name)(found)
            host.callback()(_nothing)  # with a callback it stays a group, also with one command
            return typer.main.get_group(host).commands[self.name or ""]
        except MissingExtra:
            raise
        except Exception as error:
            raise StreamsError(
                f"the command {self.name} ({self._entry_point.value}) cannot be loaded: "
                f"{error.__class__.__name__}: {error}; repair or remove its package"
            ) from error


class Commands(TyperGroup):
    """The built-in commands, then those of installed packages; a built-in one cannot be replaced."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: self.commands[name] for name in _ORDER}
        for entry_point in sorted(entry_points(group=GROUP), key=lambda found: found.name):
            if entry_point.name not in self.commands:
                self.add_command(Plugin(entry_point))


def application() -> Any:
    """Makes the command group."""
    app = typer.Typer(
        name="streams",
        cls=Commands,
        help="Publishes events and shows their state.",
        epilog="Redis is where REDIS_URL says. Examples and exit codes: docs/operate/cli.md",
        **_PLAIN,
    )
    app.callback(invoke_without_command=True)(_help)
    for command in (
        publish, status, event, tail, cancel, pause, resume, replay, trim, retire, orphans, gaps, partitions, schema,
    ):  # fmt: skip
        app.command()(command)
    dead.command("edit")(edit)
    app.add_typer(dead, name="dead")
    app.add_typer(replays, name="replays")
    app.add_typer(schedules, name="schedules")
    app.add_typer(doctor, name="doctor")
    return typer.main.get_group(app)


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _nothing() -> None:
    """The callback of a host of one command."""


def _is_one_command(app: typer.Typer) -> bool:
    return len(app.registered_commands) == 1 and not app.registered_groups and app.registered_callback is None
