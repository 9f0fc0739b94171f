"""instrument: sets logs and traces of this process up from the environment, and gets the last spans out at its end."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF, ParentBased

from observability.logs import configure_logs
from observability.tracing import FollowLinks, TracingMiddleware
from streams.messages import Middleware

log: Final = structlog.get_logger()

_EXIT_SECONDS: Final = 5.0
_middleware: list[Middleware] = []
_lock: Final = threading.Lock()


def instrument(service_name: str | None = None) -> list[Middleware]:
    """Sets up logs and tracing once per process and returns the middleware that traces the engine.

    `service_name` is what traces call this process (`planning-bord-email`) unless `OTEL_SERVICE_NAME` or
    `OTEL_RESOURCE_ATTRIBUTES` names it. `OTEL_SDK_DISABLED=true` turns tracing off: the list is empty then. Spans are
    exported (OTLP, http/protobuf) when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set or
    `OTEL_TRACES_EXPORTER` is `otlp`. Without an exporter and without `OTEL_TRACES_SAMPLER` nothing is recorded either:
    messages carry a valid trace context that says "not sampled", which costs consumers nothing.

    A tracer provider that the application has already set is used as it is. Calling this again changes nothing and
    returns the same middleware. Raises `StreamsError` when `LOG_LEVEL` or `LOG_FORMAT` is not one of its values.
    """
    configure_logs()
    with _lock:
        if not _middleware and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
            begins_traces = True
            if not isinstance(trace.get_tracer_provider(), TracerProvider):
                begins_traces = _start(service_name or "planning-bord")
            _middleware.append(TracingMiddleware(begins_traces=begins_traces))
        return list(_middleware)


def flush(timeout: float = _EXIT_SECONDS) -> bool:
    """Exports every ended span now and says whether that was done within `timeout` seconds.

    It happens by itself at a normal exit; call it before `os._exit`, which runs no exit handlers.
    """
    provider = trace.get_tracer_provider()
    return not isinstance(provider, TracerProvider) or _within(timeout, provider.force_flush)


def _start(service_name: str) -> bool:
    exporting, chosen = _exporting(), os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    sampler = None if exporting or chosen else DEFAULT_OFF
    # The SDK's own exit handler waits up to 30 s for a collector that is away, longer than a stop may take.
    provider = TracerProvider(sampler=sampler, resource=_resource(service_name), shutdown_on_exit=False)
    if isinstance(provider.sampler, ParentBased):
        provider.sampler = FollowLinks(provider.sampler)
    if exporting:
        # Its protobuf is a twentieth of what a processor imports: only who exports waits for it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    atexit.register(_stop, provider)
    return sampler is None and chosen not in {"always_off", "parentbased_always_off"}


def _stop(provider: TracerProvider) -> None:
    if not _within(_EXIT_SECONDS, provider.shutdown):
        log.warning("tracing.flush_timeout", seconds=_EXIT_SECONDS)


def _exporting() -> bool:
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if chosen not in {"", "otlp", "none"}:
        log.warning("tracing.exporter_unsupported", exporter=chosen, hint="OTEL_TRACES_EXPORTER takes otlp or none")
        return False
    variables = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    # The exporter's default endpoint is localhost:4318: without a collector there, every process would retry for ever.
    exporting = chosen == "otlp" or (chosen == "" and any(os.environ.get(name) for name in variables))
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if exporting and protocol and protocol.strip() != "http/protobuf":
        log.warning("tracing.protocol_unsupported", protocol=protocol, hint="spans are sent as http/protobuf")
    return exporting


def _resource(service_name: str) -> Resource:
    named = Resource.create()  # reads OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, makes service.instance.id
    if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return named.merge(Resource({SERVICE_NAME: service_name}))
    return named


def _within(timeout: float, work: Callable[[], object]) -> bool:
    # The SDK takes a timeout and does not keep it (opentelemetry-python issues 4555 and 4568), so a thread does.
    thread = threading.Thread(target=work, name="tracing-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # newer Pythons start no thread while the interpreter ends
        work()
        return True
    thread.join(timeout)
    return not thread.is_alive()
