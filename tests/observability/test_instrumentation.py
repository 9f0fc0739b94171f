"""instrument: what the environment turns on, and that the last spans get out. Each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import orjson
import pytest

from examples.fakes.otlp_collector import OtlpCollector

PUBLISH = """
import asyncio, os, sys
from observability import flush, instrument
from schemas import UserRegistered
from streams.messages.message import Message
from streams.messages.middleware import publish_chain

middleware = instrument("planning-bord-email")
assert instrument() == middleware
message = Message.for_event(UserRegistered(user_id=1, email="a@example.com", name="A"), source="/", target="t")

async def nothing(messages):
    pass

asyncio.run(publish_chain(middleware, nothing)([message]))
print(message.traceparent, len(middleware), flush=True)
"""


@pytest.fixture
def receiver() -> Iterator[OtlpCollector]:
    with OtlpCollector() as receiver:
        yield receiver


def run(program: str, **environment: str) -> tuple[str, list[dict[str, object]]]:
    """Runs a program and returns what it printed and logged."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LOG_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, timeout=25, check=False, env={**inherited, "LOG_FORMAT": "json", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), [orjson.loads(line) for line in done.stderr.splitlines()]


def test_the_spans_of_a_process_that_ends_are_exported(receiver: OtlpCollector) -> None:
    printed, logged = run(PUBLISH, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
    (span,) = receiver.wait_for(bool)
    assert printed.startswith(f"00-{span.trace_id}-{span.span_id}-")
    assert (span.name, span.service, logged) == ("publish users", "planning-bord-email", [])


@pytest.mark.parametrize(("end", "count"), [("assert flush(5); os._exit(0)", 1), ("os._exit(0)", 0)])
def test_flush_saves_the_spans_of_a_process_that_is_cut_off(receiver: OtlpCollector, end: str, count: int) -> None:
    run(f"{PUBLISH}\n{end}", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.endpoint}/v1/traces")
    assert len(receiver.spans) == count  # the second case is what makes the first one a proof


def test_the_environment_names_the_service(receiver: OtlpCollector) -> None:
    resource = "print(__import__('opentelemetry.trace').trace.get_tracer_provider().resource.attributes['%s'])"
    program = f"{PUBLISH}\n{resource % 'service.name'}\n{resource % 'service.instance.id'}"
    printed, _ = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_SERVICE_NAME="mine")
    name, instance = printed.splitlines()[1:]
    assert name == "mine"
    assert len(instance) == 36


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
        {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
        {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
        {
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}",
        },
    ],
)
def test_without_recording_messages_still_carry_a_valid_context(
    receiver: OtlpCollector, environment: dict[str, str]
) -> None:
    printed, logged = run(PUBLISH, **{n: v.format(endpoint=receiver.endpoint) for n, v in environment.items()})
    assert len(printed) == len("00-") + 32 + 1 + 16 + len("-00 1")
    assert int(printed[53:55], 16) & 1 == 0
    assert (logged, receiver.spans) == ([], [])


def test_otlp_is_exported_to_the_default_endpoint_only_when_asked() -> None:
    program = (
        "from observability import instrument; from opentelemetry import trace; instrument()\n"
        "print(len(trace.get_tracer_provider()._active_span_processor._span_processors))"
    )
    assert run(program)[0] == "0"
    assert run(program, OTEL_TRACES_EXPORTER="otlp")[0] == "1"
    printed, logged = run(program, OTEL_TRACES_EXPORTER="zipkin")
    assert (printed, [line["event"] for line in logged]) == ("0", ["tracing.exporter_unsupported"])


def test_disabled_means_no_middleware(receiver: OtlpCollector) -> None:
    program = "from observability import flush, instrument; print(instrument(), flush())"
    endpoint = receiver.endpoint
    assert run(program, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) == ("[] True", [])


def test_a_provider_that_is_set_already_is_used(receiver: OtlpCollector) -> None:
    program = (
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider\n"
        "mine = TracerProvider(); trace.set_tracer_provider(mine)\n"
        f"{PUBLISH}\nassert trace.get_tracer_provider() is mine"
    )
    printed, logged = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
    assert int(printed[53:55], 16) & 1
    assert logged == []


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        program = f"{PUBLISH}\nimport time; print(flush(0.1)); print(time.monotonic())"
        printed, logged = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        flushed, ending = printed.splitlines()[1:]
        assert flushed == "False"
        assert time.monotonic() - float(ending) < 9  # the exporter alone waits 10 s, the SDK's exit handler 30
        assert [line["event"] for line in logged] == ["tracing.flush_timeout"]
