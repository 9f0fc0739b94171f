"""configure_logs: the engine's logs, with the ids by which a trace is found."""

from __future__ import annotations

from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

from streams import logs


def configure_logs() -> None:
    """Sends every log line of the process to stderr in one format (see `streams.logs.configure_logs`), each with the
    trace and span id of the current span.
    """
    logs.configure_logs(add_trace_ids)


def add_trace_ids(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Adds `trace_id` and `span_id` of the current span, in the form trace viewers search by."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = trace.format_trace_id(context.trace_id)
        event_dict["span_id"] = trace.format_span_id(context.span_id)
    return event_dict
