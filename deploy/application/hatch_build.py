"""Puts the application's packages, which lie at the top level, into its wheel."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Packages(BuildHookInterface):
    """An editable installation gets none of them: it would hold copies, which hide what is edited."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Names them, for every wheel but an editable one."""
        if version != "editable":
            build_data["force_include"] |= {f"../../{name}": name for name in ("schemas", "processors")}
