"""`python -m processors [NAME...] [--processes NAME=N]`: runs processors, each as processes of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from observability.logs import configure_logs
from processors.supervisor import supervise
from streams import Settings
from streams.errors import exit_on_error


def names() -> list[str]:
    """The processors there are: the packages beside this file that have handlers. None of them is imported."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/handlers.py"))


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in names() or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 1000:
        raise argparse.ArgumentTypeError(f"write NAME=N, with a name of {', '.join(names())} and 1 to 1000")
    return name, int(number)


def main() -> int:
    """Runs them until SIGTERM or Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m processors",
        description="Runs processors as child processes, and starts again what ends.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())} (default: all)")
    parser.add_argument(
        "--processes", type=_count, nargs="+", action="extend", default=[], metavar="NAME=N",
        help="how many processes of a processor (default: 1 of each)",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names())):
        parser.error(f"there is no processor {', '.join(unknown)}; there are {', '.join(names())}")
    counts = dict.fromkeys(options.names or names(), 1) | dict(options.processes)
    with exit_on_error():
        settings = Settings.load()
        configure_logs()
    return asyncio.run(supervise(counts, settings=settings))


if __name__ == "__main__":
    sys.exit(main())
