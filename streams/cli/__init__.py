"""The command line: `streams`, or `python -m streams`. One module per group of commands; docs/operate/cli.md describes
them.

On top of the engine: may import every package but `sql` and `testing`. Modules in here import the engine inside their
commands: `streams --help` must not wait for it.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from streams.errors import MissingExtra, extra


def main() -> NoReturn:
    """Runs the command line and exits: 0 ok, 1 failure, 2 wrong usage, 78 Redis refuses or must not be used,
    130 interrupted, 141 when the reader of the output is gone.
    """
    try:
        with extra("cli", for_="streams"):
            from streams.cli.application import application
            from streams.cli.exit import ending
    except MissingExtra as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.exit(ending(application()))
