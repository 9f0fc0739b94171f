"""What can be seen of a running system: its traces and its logs, each in a package of its own.

`instrument` sets a process up; what it returns goes into the engine's middleware. The engine itself knows nothing of
OpenTelemetry. Names are imported when they are asked for, so that a program that only logs loads no SDK.
"""

from typing import TYPE_CHECKING, Any, Final

from streams import exports
from streams.errors import extra

if TYPE_CHECKING:
    from observability.instrumentation import flush, instrument

__all__ = ["flush", "instrument"]

_HOMES: Final = {"observability.instrumentation": ("flush", "instrument")}
_find, __dir__ = exports(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    with extra("tracing", for_=f"{__name__}.{name}"):
        return _find(name)
