"""Puts the application's packages, which lie at the top level, into its wheel.

The demo and its fakes are in `examples/`. A wheel that installed a top-level `examples` would hide, or be hidden by,
the examples of another project, so there they are `planning_bord_examples`. They import each other by relative names,
which hold under both; the entry point of `streams demo` is the one name that has to be written anew.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHECKOUT, INSTALLED = "examples", "planning_bord_examples"


class Packages(BuildHookInterface):
    """An editable installation gets none of them: it would hold copies, which hide what is edited."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Names them, for every wheel but an editable one."""
        if version == "editable":
            return
        shipped = {name: name for name in ("schemas", "processors")}
        shipped |= {f"{CHECKOUT}/{name}": f"{INSTALLED}/{name}" for name in ("__init__.py", "demo", "fakes")}
        build_data["force_include"] |= {f"../../{source}": target for source, target in shipped.items()}
        commands = self.metadata.core.entry_points["streams.commands"]
        commands |= {name: target.replace(CHECKOUT, INSTALLED, 1) for name, target in commands.items()}
