"""The spans of an event's way, exported by the real SDK over loopback HTTP to the real receiver."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind, get_current_span
from structlog.testing import capture_logs

from examples.fakes.otlp_collector import Link, OtlpCollector, Span
from observability.tracing import TracingMiddleware
from observability.tracing.sampler import FollowLinks
from observability.tracing.trace_context import read_context
from schemas import PasswordResetRequested, StockBelowThreshold, UserRegistered
from streams.messages.delivery import Delivery
from streams.messages.message import (
    CORRELATION,
    DATA,
    ID,
    SOURCE,
    TIME,
    TRACEPARENT,
    TRACESTATE,
    TYPE,
    Carried,
    Message,
)
from streams.messages.middleware import batch_chain, deliver_chain, publish_chain, settle_chain
from streams.messages.outcome import (
    ACKED,
    RELEASED,
    SKIPPED,
    Cancelled,
    DeadLettered,
    Expired,
    Outcome,
    Retried,
    Snoozed,
)
from tests.support.holders import Held

VALID = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-9a-f]")
STREAM = "{app:0}:stream:users"


class Traced:
    """A tracer provider that exports to a receiver, and the engine's three chains around one TracingMiddleware."""

    def __init__(self, receiver: OtlpCollector, sampler: Sampler = DEFAULT_ON) -> None:
        self.receiver = receiver
        self.provider = TracerProvider(
            sampler=sampler, resource=Resource({"service.name": "planning-bord-test"}), shutdown_on_exit=False
        )
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver.endpoint}/v1/traces")))
        self.tracer = self.provider.get_tracer("test")
        self.middleware = TracingMiddleware(self.provider)

    async def publish(self, *messages: Message) -> None:
        async def add(_: Sequence[Message]) -> None: ...

        await publish_chain([self.middleware], add)(messages)

    async def deliver(self, delivery: Delivery, outcome: Outcome = ACKED) -> Outcome:
        async def handle(_: Delivery) -> Outcome:
            with self.tracer.start_as_current_span("send smtp", kind=SpanKind.CLIENT):
                return outcome

        return await deliver_chain([self.middleware], handle)(delivery)

    async def settle(self, *settled: tuple[Delivery, Outcome]) -> None:
        async def done(_: Sequence[tuple[Delivery, Outcome]]) -> None: ...

        await settle_chain([self.middleware], done)(settled)

    def exported(self) -> list[Span]:
        assert self.provider.force_flush()
        return self.receiver.spans

    def named(self, name: str) -> Span:
        (span,) = [span for span in self.exported() if span.name == name]
        return span


@pytest.fixture
def receiver() -> Iterator[OtlpCollector]:
    with OtlpCollector() as receiver:
        yield receiver


@pytest.fixture
def traced(receiver: OtlpCollector) -> Iterator[Traced]:
    traced = Traced(receiver)
    yield traced
    traced.provider.shutdown()


def registered_user(**changes: Any) -> Message:
    event = UserRegistered(**{"user_id": 7, "email": "ada@example.com", "name": "Ada", **changes})
    return Message.for_event(event, source="/shop", target=STREAM)


def delivery_of(message: Message, *, count: int = 1, entry_id: bytes = b"1-1", **carried: Any) -> Delivery:
    held = Message(message.values, Carried(origin=f"{STREAM} 1-1", **carried)) if carried else message
    return Delivery(held, Held("email", "host-1-ab"), source=STREAM, entry_id=entry_id, count=count)


def link_to(span: Span) -> Link:
    return Link(span.trace_id, span.span_id)


async def test_an_event_is_one_trace_from_publish_to_effect_and_ack(traced: Traced) -> None:
    message = registered_user()
    with traced.tracer.start_as_current_span("POST /signup", kind=SpanKind.SERVER):
        await traced.publish(message)
    delivery = delivery_of(message)
    await traced.settle((delivery, await traced.deliver(delivery)))

    spans = {span.name: span for span in traced.exported()}
    request, publish, process = spans["POST /signup"], spans["publish users"], spans["process users"]
    smtp, ack = spans["send smtp"], spans["ack users"]
    assert {span.trace_id for span in spans.values()} == {request.trace_id}
    assert (publish.kind, process.kind, smtp.kind, ack.kind) == ("PRODUCER", "CONSUMER", "CLIENT", "CLIENT")
    assert publish.parent_id == request.span_id
    assert (process.parent_id, process.links) == (publish.span_id, (link_to(publish),))
    assert smtp.parent_id == ack.parent_id == process.span_id
    assert message.traceparent[3:52] == f"{publish.trace_id}-{publish.span_id}"
    assert process.attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "users",
        "messaging.consumer.group.name": "email",
        "messaging.client.id": "host-1-ab",
        "messaging.message.id": message.id,
        "messaging.message.conversation_id": message.correlation_id,
        "cloudevents.event_id": message.id,
        "cloudevents.event_type": "UserRegistered",
        "cloudevents.event_source": "/shop",
        "messaging.redis.message.attempt": 1,
        "messaging.redis.message.deliveries": 1,
        "messaging.redis.outcome": "acked",
    }
    assert publish.attributes["messaging.operation.type"] == "send"
    assert ack.attributes["messaging.operation.type"] == "settle"
    assert {span.status for span in spans.values()} == {"UNSET"}
    assert process.service == "planning-bord-test"


async def test_a_batch_creates_each_message_and_publishes_once_with_links(traced: Traced) -> None:
    messages = [registered_user(user_id=number) for number in range(3)]
    with traced.tracer.start_as_current_span("import"):
        await traced.publish(*messages)

    spans = traced.exported()
    ambient, publish = traced.named("import"), traced.named("publish users")
    creates = [span for span in spans if span.name == "create users"]
    assert [span.kind for span in creates] == ["PRODUCER"] * 3
    assert {span.parent_id for span in [*creates, publish]} == {ambient.span_id}
    assert publish.kind == "CLIENT"
    assert publish.attributes["messaging.batch.message_count"] == 3
    assert publish.links == tuple(link_to(create) for create in creates)
    assert [message.traceparent[36:52] for message in messages] == [create.span_id for create in creates]


async def test_a_batch_of_several_streams_names_none(traced: Traced) -> None:
    low = Message.for_event(
        StockBelowThreshold(business_id=1, sku="A", quantity=1, threshold=2), source="/", target="x"
    )
    await traced.publish(registered_user(), low)
    assert {span.name for span in traced.exported()} == {"publish", "create users", "create inventory"}
    assert "messaging.destination.name" not in traced.named("publish").attributes


async def test_a_batch_without_an_ambient_span_is_sampled_as_a_whole(receiver: OtlpCollector) -> None:
    traced = Traced(receiver, ParentBasedTraceIdRatio(0.5))
    for _ in range(40):
        await traced.publish(*(batch := [registered_user(), registered_user()]))
        assert len({message.sampled for message in batch}) == 1
    assert {span.name for span in traced.exported()} == {"publish users", "create users"}
    traced.provider.shutdown()


@pytest.mark.parametrize(
    "came_back",
    [{"failures": 1, "deliveries": 1}, {"deliveries": 1}, {"replays": 1}],
    ids=["retry", "after a crash", "replay"],
)
async def test_what_comes_back_begins_a_new_trace_that_links(traced: Traced, came_back: dict[str, Any]) -> None:
    message = registered_user()
    await traced.publish(message)
    await traced.deliver(delivery_of(message, **came_back))
    publish, process = traced.named("publish users"), traced.named("process users")
    assert process.trace_id != publish.trace_id
    assert (process.parent_id, process.links) == ("", (link_to(publish),))


async def test_a_batch_handler_is_one_span_that_links_to_each_event(traced: Traced) -> None:
    """It belongs to no event's trace; what it does is its own, and each ack is its child. What is not sampled costs
    no link.
    """
    messages = [registered_user() for _ in range(3)]
    for message in messages[:2]:
        await traced.publish(message)
    deliveries = [delivery_of(message, entry_id=b"1-%d" % n) for n, message in enumerate(messages)]
    outcomes: list[Outcome] = [ACKED, Retried(1.0, "OSError: away"), ACKED]

    async def handle(_: Sequence[Delivery]) -> Sequence[Outcome]:
        with traced.tracer.start_as_current_span("send smtp", kind=SpanKind.CLIENT):
            return outcomes

    assert await batch_chain([traced.middleware], handle)(deliveries) == outcomes
    await traced.settle(*zip(deliveries, outcomes, strict=True))
    spans = traced.exported()
    published = [span for span in spans if span.name == "publish users"]
    (process,) = [span for span in spans if span.name == "process users"]
    assert (process.kind, process.parent_id) == ("CONSUMER", "")
    assert process.trace_id not in {span.trace_id for span in published}
    assert set(process.links) == {link_to(span) for span in published}
    assert process.attributes["messaging.batch.message_count"] == 3
    assert process.attributes["messaging.redis.outcome"] == "mixed"
    settled = {span.name: span.parent_id for span in spans if span.name in ("ack users", "retry users", "send smtp")}
    assert settled == dict.fromkeys(("ack users", "retry users", "send smtp"), process.span_id)


@pytest.mark.parametrize(("age", "is_child"), [(timedelta(minutes=59), True), (timedelta(minutes=61), False)])
async def test_an_event_older_than_an_hour_begins_a_new_trace(traced: Traced, age: timedelta, is_child: bool) -> None:
    message = registered_user()
    message.values[TIME] = (datetime.now(UTC) - age).isoformat().encode()
    await traced.publish(message)
    await traced.deliver(delivery_of(message))
    publish, process = traced.named("publish users"), traced.named("process users")
    assert (process.trace_id == publish.trace_id) is is_child
    assert process.links == (link_to(publish),)


@pytest.mark.parametrize("time", [b"", b"yesterday", b"\xff", b"2024-01-01T00:00:00"])
async def test_any_time_from_outside_is_survived(traced: Traced, time: bytes) -> None:
    message = registered_user()
    message.values[TIME] = time
    await traced.publish(message)
    assert await traced.deliver(delivery_of(message)) is ACKED
    assert traced.named("process users").links == (link_to(traced.named("publish users")),)


@pytest.mark.parametrize(
    ("outcome", "verb", "name", "error"),
    [
        (ACKED, "ack", "acked", None),
        (SKIPPED, "ack", "skipped", None),
        (Retried(2.0, "SMTPServerDisconnected: gone"), "retry", "retried", "SMTPServerDisconnected"),
        (Snoozed(2.0, "unavailable"), "snooze", "snoozed", None),
        (DeadLettered("failed", "KeyError: 'x'"), "dead_letter", "dead_lettered", "KeyError"),
        (DeadLettered("invalid", "UserRegistered: email: Field required"), "dead_letter", "dead_lettered", "invalid"),
        (RELEASED, "release", "released", None),
        (Cancelled(), "cancel", "cancelled", None),
        (Expired("2026-11-24T09:00:00+00:00"), "expire", "expired", None),
    ],
)
async def test_each_outcome_has_its_name_and_its_verb(
    traced: Traced, outcome: Outcome, verb: str, name: str, error: str | None
) -> None:
    message = registered_user()
    await traced.publish(message)
    delivery = delivery_of(message)
    await traced.settle((delivery, await traced.deliver(delivery, outcome)))
    process, settle = traced.named("process users"), traced.named(f"{verb} users")
    assert process.attributes["messaging.redis.outcome"] == settle.attributes["messaging.redis.outcome"] == name
    assert process.attributes.get("error.type") == error
    assert process.status == ("ERROR" if error else "UNSET")
    assert [event for event, _ in process.events] == (["exception"] if error else [])
    assert settle.attributes["messaging.operation.name"] == verb


async def test_a_delivery_that_never_ran_is_settled_with_a_link(traced: Traced) -> None:
    message = registered_user()
    await traced.publish(message)
    await traced.settle((delivery_of(message), DeadLettered("crashed", "handed over 5 times")))
    settle = traced.named("dead_letter users")
    assert (settle.parent_id, settle.links) == ("", (link_to(traced.named("publish users")),))


async def test_a_delivery_that_is_cancelled_ends_its_span_and_stays_cancelled(traced: Traced) -> None:
    async def cancelled(_: Delivery) -> Outcome:
        raise KeyboardInterrupt("canary-text")

    message = registered_user()
    await traced.publish(message)
    with pytest.raises(KeyboardInterrupt):
        await deliver_chain([traced.middleware], cancelled)(delivery_of(message))
    process = traced.named("process users")
    assert (process.status, process.attributes["error.type"]) == ("ERROR", "KeyboardInterrupt")
    assert not get_current_span().get_span_context().is_valid


async def test_a_failed_publish_and_a_failed_settle_are_errors(traced: Traced) -> None:
    async def fail(_: object) -> None:
        raise ConnectionResetError("canary-text")

    message = registered_user()
    with pytest.raises(ConnectionResetError):
        await publish_chain([traced.middleware], fail)([message])
    with pytest.raises(ConnectionResetError):
        await settle_chain([traced.middleware], fail)([(delivery_of(message), ACKED)])
    for name in ("publish users", "ack users"):
        assert (traced.named(name).status, traced.named(name).attributes["error.type"]) == (
            "ERROR",
            "ConnectionResetError",
        )
    assert not any(b"canary" in request for request in traced.receiver.requests)


async def test_processing_without_settlement_keeps_a_bounded_number_of_contexts(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("observability.tracing.middleware._MOST_KEPT", 5)
    message = registered_user()
    await traced.publish(message)
    for number in range(20):
        await traced.deliver(delivery_of(message, entry_id=b"1-%d" % number))
    assert len(traced.middleware._processing) == 5
    await traced.settle(*[(delivery_of(message, entry_id=b"1-%d" % number), ACKED) for number in range(20)])
    assert not traced.middleware._processing
    assert len([span for span in traced.exported() if span.name == "ack users" and span.parent_id]) == 5


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, DEFAULT_OFF], ids=["always_off", "parentbased_always_off"])
@pytest.mark.parametrize("begins_traces", [True, False])
@pytest.mark.parametrize("count", [1, 3])
async def test_with_the_sampler_off_messages_carry_a_valid_context_and_nothing_is_exported(
    receiver: OtlpCollector, sampler: Sampler, begins_traces: bool, count: int
) -> None:
    traced = Traced(receiver, sampler)
    traced.middleware = TracingMiddleware(traced.provider, begins_traces=begins_traces)
    messages = [registered_user() for _ in range(count)]
    await traced.publish(*messages)
    for message in messages:
        delivery = delivery_of(message)
        assert not traced.middleware.wants(delivery)
        await traced.settle((delivery, await traced.deliver(delivery)))
    assert all(VALID.fullmatch(message.values[TRACEPARENT]) for message in messages)
    assert not any(message.sampled for message in messages)
    assert len({message.traceparent[36:52] for message in messages}) == count
    assert traced.exported() == []
    traced.provider.shutdown()


@pytest.mark.parametrize("count", [1, 2])
async def test_an_unsampled_ambient_span_is_the_trace_of_what_is_published(receiver: OtlpCollector, count: int) -> None:
    traced = Traced(receiver, DEFAULT_OFF)
    traced.middleware = TracingMiddleware(traced.provider, begins_traces=False)
    messages = [registered_user() for _ in range(count)]
    with traced.tracer.start_as_current_span("request") as request:
        await traced.publish(*messages)
    for message in messages:
        context = read_context(message)
        assert context is not None
        assert context.trace_id == request.get_span_context().trace_id
        assert context.span_id != request.get_span_context().span_id
    traced.provider.shutdown()


async def test_a_process_that_begins_no_traces_still_records_inside_a_sampled_one(receiver: OtlpCollector) -> None:
    traced, outside = Traced(receiver, DEFAULT_OFF), Traced(receiver)
    traced.middleware = TracingMiddleware(traced.provider, begins_traces=False)
    with outside.tracer.start_as_current_span("request") as request:
        await traced.publish(message := registered_user())
    assert message.sampled
    assert traced.named("publish users").trace_id == f"{request.get_span_context().trace_id:032x}"
    traced.provider.shutdown()
    outside.provider.shutdown()


async def test_a_retry_is_recorded_because_its_event_is(receiver: OtlpCollector) -> None:
    sampled = Traced(receiver)
    await sampled.publish(message := registered_user())
    consumer = Traced(receiver, FollowLinks(ParentBasedTraceIdRatio(0.0)))
    await consumer.deliver(delivery_of(message, failures=1, deliveries=1))
    consumer.exported()
    assert consumer.named("process users").links == (Link(message.traceparent[3:35], message.traceparent[36:52]),)
    await consumer.publish(fresh := registered_user())
    assert not fresh.sampled
    sampled.provider.shutdown()
    consumer.provider.shutdown()


@pytest.mark.parametrize("others", [0, 1])
async def test_a_foreign_context_is_left_as_it_is(traced: Traced, others: int) -> None:
    message = registered_user()
    message.values[TRACEPARENT] = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    message.values[TRACESTATE] = b"vendor=1"
    before = list(message.values)
    await traced.publish(message, *(registered_user() for _ in range(others)))
    assert message.values == before
    publish = traced.named("publish users")
    assert publish.kind == "CLIENT"
    assert Link("a" * 32, "b" * 16) in publish.links


async def test_tracestate_travels(traced: Traced) -> None:
    incoming = registered_user()
    incoming.values[TRACEPARENT] = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    incoming.values[TRACESTATE] = b"vendor=1"
    follow_up = registered_user()

    async def handle(_: Delivery) -> Outcome:
        await traced.publish(follow_up)
        return ACKED

    await deliver_chain([traced.middleware], handle)(delivery_of(incoming))
    assert follow_up.values[TRACESTATE] == b"vendor=1"
    assert traced.named("publish users").parent_id == traced.named("process users").span_id


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


HEX = st.text("0123456789abcdef", min_size=0, max_size=40).map(str.encode)
TRACEPARENTS = st.one_of(
    st.binary(max_size=100),
    st.builds(lambda *parts: b"-".join(parts), HEX, HEX, HEX, HEX),
    st.builds(
        lambda trace, span, tail: b"00-%032x-%016x-01%b" % (trace, span, tail),
        st.integers(0, 2**128 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=3),
    ),
    st.just(b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),
    st.just(b"ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    st.just(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01" + b"-x" * 100_000),
    st.just(b"1" * 1_000_000),
)
TRACESTATES = st.one_of(
    st.binary(max_size=40), st.just(b"a=1," * 1000), st.just(b"=,=,;\x00"), st.just(b"a" * 1_000_000)
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parent=TRACEPARENTS, state=TRACESTATES)
async def test_no_context_from_outside_breaks_anything(parent: bytes, state: bytes) -> None:
    provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
    middleware = TracingMiddleware(provider)
    message = registered_user()
    message.values[TRACEPARENT], message.values[TRACESTATE] = parent, state
    delivery = delivery_of(message)
    seen = []

    async def handle(_: Delivery) -> Outcome:
        seen.append(get_current_span().get_span_context())
        return ACKED

    async def nothing(_: Sequence[Any]) -> None: ...

    with capture_logs() as logged:
        created = read_context(message)
        assert await deliver_chain([middleware], handle)(delivery) is ACKED
        await settle_chain([middleware], nothing)([(delivery, ACKED)])
        if message.sampled:  # an own, valid span in any case: a child of what is valid, else a new root
            assert seen[0].is_valid
            assert created is None or seen[0].trace_id == created.trace_id
        await publish_chain([middleware], nothing)([message])
    assert logged == []
    assert read_context(message) is not None
    assert (message.values[TRACEPARENT] == parent) is (created is not None)


def test_an_oversized_context_is_dropped_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    message = registered_user()
    message.values[TRACEPARENT] = b"1" * 1_000_000
    assert read_context(message) is None
    message.values[TRACEPARENT] = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    message.values[TRACESTATE] = b"a=" + b"1" * 1_000_000
    context = read_context(message)
    assert context is not None
    assert not context.trace_state
    assert caplog.records == []


@settings(max_examples=100, deadline=None)
@given(id=st.binary(), type=st.binary(max_size=2000), source=st.binary(), correlation=st.binary())
async def test_no_envelope_from_outside_breaks_the_export(
    id: bytes, type: bytes, source: bytes, correlation: bytes
) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    ended: list[ReadableSpan] = []

    class Keep(_Nowhere):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            ended.extend(spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Keep()))
    traced = TracingMiddleware(provider)
    message = registered_user()
    message.values[ID], message.values[TYPE], message.values[SOURCE] = id, type, source
    message.values[CORRELATION] = correlation

    async def fail(_: Delivery) -> Outcome:
        return DeadLettered("unknown_type", "\udcff lone surrogate \x1b[31m")

    async def nothing(_: Sequence[Any]) -> None: ...

    await publish_chain([traced], nothing)([message])
    await deliver_chain([traced], fail)(delivery_of(message))
    provider.shutdown()
    assert encode_spans(ended).SerializeToString()
    assert max(len(span.name) for span in ended) <= len("process ") + 128


async def test_nothing_of_a_payload_is_exported(traced: Traced) -> None:
    canaries = ["Canary-Name Zwölf", "canary.mail@example.com", "canaryref_12345678"]
    welcome = registered_user(name=canaries[0], email=canaries[1])
    reset = Message.for_event(
        PasswordResetRequested(
            user_id=42_424_242, email=canaries[1], reset_id=canaries[2], expires_at=datetime(2030, 1, 1, tzinfo=UTC)
        ),
        source="/shop",
        target=STREAM,
    )
    raw = registered_user()
    raw.values[DATA] = b'{"email": "canary.raw'
    await traced.publish(welcome, reset, raw)
    failures = [
        (welcome, f"ValueError: bad {canaries[0]!r} and {canaries[0]!a} <{canaries[1]}>"),
        (welcome, "SMTPRecipientRefused: 550 no mailbox for canary.mail here, nor for canary.other@example.org"),
        (welcome, "ValidationError: [type=int_type, input_value='canary, input_type=str] canary', input_type=str]"),
        (welcome, "ConnectionError: redis://default:canarypassword@db:6379 refused " + "x" * 5000),
        (reset, f"LookupError: {canaries[2]} of 42424242"),
        (reset, f"{canaries[2]}: " * 300),
        (reset, canaries[2]),
        (raw, "JSONDecodeError: canary.raw is cut off"),
    ]
    for number, (message, text) in enumerate(failures):
        for outcome in (DeadLettered("failed", text, traceback="canary traceback"), Retried(1.0, text)):
            delivery = delivery_of(message, entry_id=b"1-%d" % number)
            await traced.settle((delivery, await traced.deliver(delivery, outcome)))
    spans = traced.exported()
    assert len([span for span in spans if span.name == "process users"]) == 2 * len(failures)
    exported = b"".join(traced.receiver.requests)
    for told in ("ValueError", "550 no mailbox for [redacted] here", "redis://[redacted]@db:6379"):
        assert told.encode() in exported  # what may be said is said
    for secret in (b"canary", "zwölf".encode(), b"zw\\xf6lf"):
        assert secret not in exported.lower()
    assert b"42424242" not in exported
    assert max(len(span.status_message) for span in spans) <= 500


async def test_a_failing_sampler_fails_no_publish_and_no_delivery() -> None:
    class Broken(Sampler):
        def should_sample(self, *_args: Any, **_kwargs: Any) -> SamplingResult:
            raise RuntimeError("no decision")

        def get_description(self) -> str:
            return "Broken"

    middleware = TracingMiddleware(TracerProvider(sampler=Broken(), shutdown_on_exit=False))
    message = registered_user()
    message.values[TRACEPARENT] = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    passed: list[object] = []

    async def ack(delivery: Delivery) -> Outcome:
        passed.append(delivery)
        return ACKED

    async def take(given: Sequence[Any]) -> None:
        passed.append(given)

    delivery = delivery_of(message)
    with capture_logs() as logged:
        await publish_chain([middleware], take)([message])
        assert await deliver_chain([middleware], ack)(delivery) is ACKED
        await settle_chain([middleware], take)([(delivery, ACKED)])
    assert len(passed) == 3
    assert [line["event"] for line in logged] == ["tracing.failed"] * 3
