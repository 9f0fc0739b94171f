"""The receiver takes what collectors take, refuses the rest, and tells what it waited for."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import StatusCode

from examples.fakes.otlp_collector import OtlpCollector

PROTOBUF = "application/x-protobuf"


@pytest.fixture
def receiver() -> Iterator[OtlpCollector]:
    with OtlpCollector() as receiver:
        yield receiver


def post(receiver: OtlpCollector, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(receiver.endpoint).netloc, timeout=5)
    sent = {"Content-Type": PROTOBUF} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, sent)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_spans_of_the_real_exporter_arrive_whole(receiver: OtlpCollector, compression: Compression) -> None:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{receiver.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    values: dict[str, Any] = {"text": "ä", "count": 3, "share": 0.5, "yes": True, "list": ("a", "b")}
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner", attributes=values) as inner:
        inner.add_event("happened", {"n": 1})
        inner.set_status(StatusCode.ERROR, "why")
    provider.shutdown()

    inner_span, outer_span = receiver.wait_for(lambda spans: len(spans) == 2)
    assert inner_span.attributes == {**values, "list": ["a", "b"]}
    assert inner_span.events == (("happened", {"n": 1}),)
    assert (inner_span.status, inner_span.status_message) == ("ERROR", "why")
    assert inner_span.parent_id == outer_span.span_id
    assert 0 < outer_span.start_ns <= inner_span.start_ns <= inner_span.end_ns <= outer_span.end_ns
    assert len(receiver.requests) == 1


def test_an_empty_export_is_answered_as_the_protocol_says(receiver: OtlpCollector) -> None:
    status, body = post(receiver, b"")
    assert status == 200
    assert ExportTraceServiceResponse.FromString(body) == ExportTraceServiceResponse()


@pytest.mark.parametrize(
    ("body", "path", "headers", "status"),
    [
        (b"\xff\xff\xff", "/v1/traces", {}, 400),
        (b"no gzip", "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b"")[:-4], "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(bytes(40_000_000)), "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (b"", "/v1/metrics", {}, 404),
        (b"{}", "/v1/traces", {"Content_Type": "application/json"}, 415),
        (b"", "/v1/traces", {"Content_Encoding": "br"}, 415),
        (b"", "/v1/traces", {"Content_Length": "-1"}, 411),
        (b"", "/v1/traces", {"Content_Length": "99999999999"}, 413),
    ],
    ids=["protobuf", "gzip", "cut", "bomb", "path", "json", "brotli", "length", "size"],  # gzip bytes carry the time
)
def test_what_is_not_an_export_is_refused(
    receiver: OtlpCollector, body: bytes, path: str, headers: dict[str, str], status: int
) -> None:
    assert post(receiver, body, path, **headers)[0] == status
    assert receiver.spans == []
    assert post(receiver, b"")[0] == 200


def test_waiting_in_vain_says_what_did_come(receiver: OtlpCollector) -> None:
    with pytest.raises(TimeoutError, match=r"there are \[\]"):
        receiver.wait_for(bool, timeout=0.05)
