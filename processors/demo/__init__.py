"""The demo: everything the project promises, shown on a Redis and a mail server of its own (`make demo`).

The mail server that can be told how to misbehave is also what the tests send to. It is started by importing this
package, so importing it stays cheap: the command is loaded when it is asked for.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`command`, which the entry point `streams demo` names."""
    if name == "command":
        from processors.demo.play import demo

        return demo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
