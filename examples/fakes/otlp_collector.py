"""OtlpCollector: a trace collector on loopback, small enough for a test and real enough to prove an export."""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_MOST_BYTES: Final = 32 * 1024 * 1024
_READ_SECONDS: Final = 10.0
_CONTENT_TYPE: Final = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Link:
    """A reference from one span to another, in whichever trace; ids in hex."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """One ended span as it was exported. Ids are hex, `parent_id` is empty for a root, times are ns since 1970.

    `kind` is INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER; `status` is UNSET, OK or ERROR; `service` is the
    `service.name` of the process; `events` are (name, attributes).
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    service: str = ""
    status: str = "UNSET"
    status_message: str = ""
    links: tuple[Link, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[tuple[str, dict[str, Any]], ...] = ()


class OtlpCollector:
    """Receives spans over OTLP/HTTP (protobuf, plain or gzip) on a free loopback port while its `with` block runs.

    Set `OTEL_EXPORTER_OTLP_ENDPOINT` of the processes to watch to `endpoint`. Everything received stays in memory:
    `spans` in the order of arrival, `requests` as the decompressed protobuf.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._spans: list[Span] = []
        self._arrived = threading.Condition()
        self._server = _Server(self._receive)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` takes it (exporters add `/v1/traces`)."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[Span]:
        """A copy of what has arrived so far."""
        with self._arrived:
            return list(self._spans)

    def wait_for(self, predicate: Callable[[Sequence[Span]], object], timeout: float = 10.0) -> list[Span]:
        """Waits until `predicate` is true of all spans so far and returns them.

        Raises `TimeoutError`, naming the spans that did arrive, after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        with self._arrived:
            while not predicate(self._spans):
                left = end - time.monotonic()
                if left <= 0:
                    names = sorted(span.name for span in self._spans)
                    raise TimeoutError(f"the spans waited for did not come in {timeout} s; there are {names}")
                self._arrived.wait(left)
            return list(self._spans)

    def _receive(self, body: bytes) -> None:
        spans = _decode(body)
        with self._arrived:
            self.requests.append(body)
            self._spans.extend(spans)
            self._arrived.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an exporter keeps its connection open; waiting for it would hang the end of a test

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing when an exporter was killed while it was connected: that is its end, not an error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self.receive = receive
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _READ_SECONDS
    server: _Server

    def do_POST(self) -> None:
        status = self._take()
        body = ExportTraceServiceResponse().SerializeToString() if status is HTTPStatus.OK else b""
        self.send_response(status)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        if status is not HTTPStatus.OK:  # the body may not have been read: what follows on this connection is unclear
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _take(self) -> HTTPStatus:
        length = self.headers.get("Content-Length", "")
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if self.path != "/v1/traces":
            return HTTPStatus.NOT_FOUND
        if not length.isdecimal():
            return HTTPStatus.LENGTH_REQUIRED
        if int(length) > _MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if self.headers.get_content_type() != _CONTENT_TYPE or encoding not in {"gzip", "identity"}:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        body = self.rfile.read(int(length))
        try:
            self.server.receive(_gunzip(body) if encoding == "gzip" else body)
        except (DecodeError, zlib.error):
            return HTTPStatus.BAD_REQUEST
        return HTTPStatus.OK

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the standard handler writes a line per request to stderr."""


def _gunzip(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    data = unzip.decompress(body, _MOST_BYTES)
    if not unzip.eof:
        raise zlib.error("cut off, or too large when unpacked")
    return data


def _decode(body: bytes) -> list[Span]:
    return [
        _span(wire, str(_attributes(resource.resource.attributes).get("service.name", "")))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for wire in scope.spans
    ]


def _span(wire: WireSpan, service: str) -> Span:
    return Span(
        name=wire.name,
        kind=WireSpan.SpanKind.Name(wire.kind).removeprefix("SPAN_KIND_"),
        trace_id=wire.trace_id.hex(),
        span_id=wire.span_id.hex(),
        parent_id=wire.parent_span_id.hex(),
        start_ns=wire.start_time_unix_nano,
        end_ns=wire.end_time_unix_nano,
        service=service,
        status=Status.StatusCode.Name(wire.status.code).removeprefix("STATUS_CODE_"),
        status_message=wire.status.message,
        links=tuple(Link(link.trace_id.hex(), link.span_id.hex()) for link in wire.links),
        attributes=_attributes(wire.attributes),
        events=tuple((event.name, _attributes(event.attributes)) for event in wire.events),
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
