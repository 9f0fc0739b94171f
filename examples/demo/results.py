"""Results: what a scenario knows when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from streams.inspecting import GroupStatus, Snapshot

from ..fakes.otlp_collector import Span
from .check import Check


@dataclass
class Results:
    """What the scenario knows when it is over: what it published, what was checked, and the last look at everything."""

    events: dict[str, str] = field(default_factory=dict)  # the demo's name for a single event -> its id
    business: dict[str, str] = field(default_factory=dict)  # the same of its second part
    links: dict[str, str] = field(default_factory=dict)  # what was fetched -> the link to it
    files: dict[str, Path] = field(default_factory=dict)  # what was fetched -> where it was saved
    family: list[str] = field(default_factory=list)  # the upload and all that followed from it
    mailed: dict[str, str] = field(default_factory=dict)  # what a mail was about -> the id of its event
    crowd: set[str] = field(default_factory=set)  # the ids of the many
    checks: list[Check] = field(default_factory=list)
    trails: dict[str, GroupStatus] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    snapshot: Snapshot | None = None
    in_flight: int = 0  # deliveries the killed consumer held
    published_at: float = 0.0

    def check(self, text: str, held: object, found: str = "") -> bool:
        """Takes a check down and says whether it held."""
        self.checks.append(Check(text, bool(held), found))
        return bool(held)
