"""Inspecting: how it stands, where one event is, and why it is not done. Reads, and never writes.

Imports `handlers` (progress) and `settling` (what waits).
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.inspecting.diagnosis import why
    from streams.inspecting.event_status import Trail
    from streams.inspecting.follow import follow
    from streams.inspecting.reconciliation import Accounts
    from streams.inspecting.snapshot import Snapshot
    from streams.inspecting.snapshot_reader import take_snapshot

__all__ = [
    "Accounts",
    "Snapshot",
    "Trail",
    "follow",
    "take_snapshot",
    "why",
]

_HOMES: Final = {
    "streams.inspecting.diagnosis": ("why",),
    "streams.inspecting.event_status": ("Trail",),
    "streams.inspecting.follow": ("follow",),
    "streams.inspecting.reconciliation": ("Accounts",),
    "streams.inspecting.snapshot": ("Snapshot",),
    "streams.inspecting.snapshot_reader": ("take_snapshot",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
