"""Scheduling: cron and intervals (pure timing), the scheduler that each consumer runs, and the operator's side.

May import `publishing`, `settling` (the ticker), `messages`, `redis` and `events`. It is given what calls the
functions of schedules.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.scheduling.admin import Schedules
    from streams.scheduling.schedule import Cron, Every, Schedule, Slot
    from streams.scheduling.scheduler import Scheduler

__all__ = [
    "Cron",
    "Every",
    "Schedule",
    "Scheduler",
    "Schedules",
    "Slot",
]

_HOMES: Final = {
    "streams.scheduling.admin": ("Schedules",),
    "streams.scheduling.schedule": ("Cron", "Every", "Schedule", "Slot"),
    "streams.scheduling.scheduler": ("Scheduler",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
