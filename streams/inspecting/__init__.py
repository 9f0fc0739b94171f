"""Inspecting: status, where one event is, and why it is not done. It reads, and never writes.

May import `handlers` (progress), `settling` (what waits), `scheduling`, `messages`, `redis` and `events`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.inspecting.diagnosis import why
    from streams.inspecting.event_status import EventStatus
    from streams.inspecting.follow import Update
    from streams.inspecting.group_status import GroupStatus
    from streams.inspecting.reconciliation import Accounts
    from streams.inspecting.snapshot import GroupState, Snapshot
    from streams.inspecting.snapshot_reader import take_snapshot
    from streams.inspecting.states import SETTLED, Reason, State

__all__ = [
    "SETTLED",
    "Accounts",
    "EventStatus",
    "GroupState",
    "GroupStatus",
    "Reason",
    "Snapshot",
    "State",
    "Update",
    "take_snapshot",
    "why",
]

_HOMES: Final = {
    "streams.inspecting.diagnosis": ("why",),
    "streams.inspecting.event_status": ("EventStatus",),
    "streams.inspecting.states": ("SETTLED", "Reason", "State"),
    "streams.inspecting.follow": ("Update",),
    "streams.inspecting.group_status": ("GroupStatus",),
    "streams.inspecting.reconciliation": ("Accounts",),
    "streams.inspecting.snapshot": ("GroupState", "Snapshot"),
    "streams.inspecting.snapshot_reader": ("take_snapshot",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
