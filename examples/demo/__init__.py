"""The demo: everything the project promises, shown on a Redis and a mail server of its own (`make demo`).

It imports its modules and the fakes by relative names, because the wheel has both under another name than a checkout:
`planning_bord_examples`. Importing it stays cheap: the command is loaded when it is asked for.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`command`, which the entry point `streams demo` names."""
    if name == "command":
        from .command import demo

        return demo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
