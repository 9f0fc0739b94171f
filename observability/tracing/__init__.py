"""The spans of an event's way, from the publishing request to the last effect, as OpenTelemetry names them.

`middleware` has the table of them.
"""

from typing import TYPE_CHECKING, Any, Final

from streams import exports
from streams.errors import extra

if TYPE_CHECKING:
    from observability.tracing.middleware import TracingMiddleware
    from observability.tracing.sampler import FollowLinks

__all__ = ["FollowLinks", "TracingMiddleware"]

_HOMES: Final = {
    "observability.tracing.middleware": ("TracingMiddleware",),
    "observability.tracing.sampler": ("FollowLinks",),
}
_find, __dir__ = exports(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    with extra("tracing", for_=f"{__name__}.{name}"):
        return _find(name)
