"""`python -m examples.demo`: the same as `streams demo`."""

import sys

import typer

from streams.cli.exit import ending

from .command import demo

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command("demo")(demo)
    app.callback()(lambda: None)  # with a callback it stays a group, and its usage says `streams demo`
    sys.exit(ending(typer.main.get_command(app), ["demo", *sys.argv[1:]]))
