"""Safely: instrumentation that never fails what it watches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from opentelemetry.trace import Span, StatusCode

from streams.messages import name_of_class

log: Final = structlog.get_logger()

_T = TypeVar("_T")


def safely(step: Callable[..., _T], *args: object) -> _T | None:
    """The result of a step, or None when it raised, which is logged."""
    try:
        return step(*args)
    except Exception:
        log.warning("tracing.failed", step=step.__name__, exc_info=True)
        return None


async def watched(spans: Sequence[Span], call_next: Callable[[_T], Awaitable[None]], given: _T) -> None:
    """Calls `call_next` within spans, which end with it."""
    try:
        await call_next(given)
    except BaseException as error:
        for span in spans:  # the type alone: the text may quote any message of the batch
            safely(record_error, span, name_of_class(error), "")
        raise
    finally:
        for span in spans:
            span.end()


def record_error(span: Span, error_type: str, message: str) -> None:
    """Marks a span as failed."""
    span.set_status(StatusCode.ERROR, message or None)
    span.set_attribute(error_attributes.ERROR_TYPE, error_type)
    exception = {exception_attributes.EXCEPTION_TYPE: error_type, exception_attributes.EXCEPTION_MESSAGE: message}
    span.add_event("exception", exception)
