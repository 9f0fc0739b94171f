"""The log lines of a process, with the ids by which a trace is found."""

from typing import TYPE_CHECKING, Any, Final

from streams import exports
from streams.errors import extra

if TYPE_CHECKING:
    from observability.logs.configuration import configure_logs

__all__ = ["configure_logs"]

_HOMES: Final = {"observability.logs.configuration": ("configure_logs",)}
_find, __dir__ = exports(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    with extra("tracing", for_=f"{__name__}.{name}"):
        return _find(name)
