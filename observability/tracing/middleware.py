"""TracingMiddleware: the spans of an event's way, as the OpenTelemetry semantic conventions for messaging name them.

| span | kind | spans | relation |
|------|------|-------|----------|
| `publish users` | PRODUCER | publishing one message, which carries its context | child of the ambient span |
| `create users` each, `publish users` | PRODUCER, CLIENT | publishing several | `publish` links to each `create` |
| `process users` | CONSUMER | a delivery | links to the creation context; its child on the first try |
| `process users` | CONSUMER | a call of a batch handler | a new trace that links to each creation context |
| `ack users`, `retry users`, ... | CLIENT | settling a delivery | child of its `process` |

"First try" is the first attempt at an event less than an hour old. Retries, replays and late events begin a new trace
that only links, because no caller waits for the first one any more.

What the publisher's sampler leaves out costs a consumer one look at a flag. Attributes are an allow-list: ids, names
and counts, never the event's data.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TracerProvider

from observability.tracing.message_attributes import (
    ATTEMPT,
    DELIVERIES,
    OUTCOME,
    destination_of,
    holder,
    identity,
    operation,
    outcome_name,
    settle_operation,
)
from observability.tracing.redaction import redact_error
from observability.tracing.safely import record_error, safely, watched
from observability.tracing.trace_context import read_context, write_context, write_unrecorded
from streams.messages import (
    TRACEPARENT,
    TYPE,
    DeadLettered,
    Deliver,
    DeliverBatch,
    Delivery,
    Message,
    Middleware,
    Outcome,
    Publish,
    Retried,
    Settle,
    name_of_class,
)

_YOUNG: Final = timedelta(hours=1)
_MOST_KEPT: Final = 10_000
_SAMPLED: Final = frozenset(b"%x" % flags for flags in range(1, 16, 2))  # last digits: one look rules most messages out
_HANDLERS_FAULT: Final = {"error", "failed", "rejected"}  # reasons whose error text begins with the exception's class
_RAISED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}(?=:|$)")

_Key = tuple[str, str, bytes, int]


class TracingMiddleware(Middleware):
    """Traces publishing, processing and settling with `tracer_provider`, or the global one when None is given.

    `begins_traces=False` says that the sampler begins no trace of its own (it is off, or only follows a sampled
    parent): outside a sampled span, publishing then asks no SDK, which costs a tenth.

    It never fails what it watches: an error of its own (a sampler that raises) is logged as `tracing.failed`.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, begins_traces: bool = True) -> None:
        self._begins_traces = begins_traces
        self._tracer = trace.get_tracer(
            "planning-bord-streams", tracer_provider=tracer_provider, schema_url=Schemas.V1_44_0.value
        )
        # The process span of each recorded delivery, for its settle span. Bounded, because a delivery whose lease was
        # lost is never settled here; it holds names and ids, not the message.
        self._processing: OrderedDict[_Key, SpanContext] = OrderedDict()

    async def publish(self, messages: Sequence[Message], call_next: Publish) -> None:
        """Spans the publishing and puts the creation context into each message that carries none.

        A batch is sampled as a whole, by one decision. What is not sampled gets a valid context all the same.
        """
        new = [message for message in messages if not message.values[TRACEPARENT] or read_context(message) is None]
        ambient = trace.get_current_span().get_span_context()
        if not messages or not (self._begins_traces or ambient.trace_flags.sampled):
            write_unrecorded(new, ambient)
            await call_next(messages)
            return
        span = safely(self._begin_publish, messages, new)
        await watched([span] if span else [], call_next, messages)

    def wants(self, delivery: Delivery) -> bool:
        """Only what the publisher's trace records: a look at the flag, no work of the SDK."""
        return delivery.message.values[TRACEPARENT][-1:] in _SAMPLED and delivery.message.sampled

    async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
        """Spans one delivery; whatever the handler does, publishes or logs belongs to the span."""
        span = safely(self._begin_process, delivery)
        if span is None:
            return await call_next(delivery)
        token = attach(trace.set_span_in_context(span))
        try:
            outcome = await call_next(delivery)
        except BaseException as error:
            safely(record_error, span, name_of_class(error), "")
            raise
        else:
            if span.is_recording():
                safely(self._end_process, span, delivery, outcome)
            return outcome
        finally:
            detach(token)
            span.end()

    async def deliver_batch(self, deliveries: Sequence[Delivery], call_next: DeliverBatch) -> Sequence[Outcome]:
        """Spans one call of a batch handler. It belongs to no single event's trace, so it begins its own."""
        span = safely(self._begin_batch, deliveries)
        if span is None:
            return await call_next(deliveries)
        token = attach(trace.set_span_in_context(span))
        try:
            outcomes = await call_next(deliveries)
        except BaseException as error:
            safely(record_error, span, name_of_class(error), "")
            raise
        else:
            if span.is_recording():
                safely(self._end_batch, span, deliveries, outcomes)
            return outcomes
        finally:
            detach(token)
            span.end()

    async def settle(self, settled: Sequence[tuple[Delivery, Outcome]], call_next: Settle) -> None:
        """Spans the settling of each recorded delivery in the batch; a batch without any passes straight through."""
        recorded = [
            pair for pair in settled if pair[0].message.values[TRACEPARENT][-1:] in _SAMPLED and self.wants(pair[0])
        ]
        spans = (safely(self._begin_settle, recorded) or []) if recorded else []
        await watched(spans, call_next, settled)

    def _begin_publish(self, messages: Sequence[Message], new: Sequence[Message]) -> Span:
        alone = len(messages) == 1 and len(new) == 1
        span = self._begin_one(new[0]) if alone else self._begin_many(messages)
        if not span.is_recording():
            write_unrecorded(new, span.get_span_context())
        elif alone:
            write_context(new[0], span.get_span_context())
        else:
            self._create(messages, new, span)
        return span

    def _begin_one(self, message: Message) -> Span:
        destination = destination_of(message)
        attributes = {**operation("publish", "send", destination), **identity(message)}
        return self._tracer.start_span(f"publish {destination}", kind=SpanKind.PRODUCER, attributes=attributes)

    def _begin_many(self, messages: Sequence[Message]) -> Span:
        one_of_each_type = {message.values[TYPE]: message for message in messages}.values()
        destinations = {destination_of(message) for message in one_of_each_type}
        destination = destinations.pop() if len(destinations) == 1 else ""
        count = {messaging.MESSAGING_BATCH_MESSAGE_COUNT: len(messages)}
        attributes = {**operation("publish", "send", destination), **count}
        return self._tracer.start_span(f"publish {destination}".rstrip(), kind=SpanKind.CLIENT, attributes=attributes)

    def _create(self, messages: Sequence[Message], new: Sequence[Message], publish: Span) -> None:
        # Without an ambient span the batch is a trace of its own, so that its one sampling decision holds for all.
        ambient = trace.get_current_span()
        parent = trace.set_span_in_context(ambient if ambient.get_span_context().is_valid else publish)
        for message in new:
            create = self._begin_create(message, parent)
            write_context(message, create.get_span_context())
            create.end()
        for message in messages:
            if context := read_context(message):
                publish.add_link(context)

    def _begin_create(self, message: Message, parent: Context) -> Span:
        destination = destination_of(message)
        return self._tracer.start_span(
            f"create {destination}",
            context=parent,
            kind=SpanKind.PRODUCER,
            attributes={**operation("create", "create", destination), **identity(message)},
        )

    def _begin_process(self, delivery: Delivery) -> Span:
        message = delivery.message
        destination = destination_of(message)
        created = read_context(message)
        is_child = created is not None and not _comes_back(delivery) and _is_young(message)
        parent = trace.set_span_in_context(NonRecordingSpan(created), Context()) if created and is_child else Context()
        return self._tracer.start_span(
            f"process {destination}",
            context=parent,
            kind=SpanKind.CONSUMER,
            links=[Link(created)] if created else [],
            attributes={
                **operation("process", "process", destination),
                **holder(delivery),
                **identity(message),
                ATTEMPT: delivery.attempt,
                DELIVERIES: delivery.deliveries,
            },
        )

    def _end_process(self, span: Span, delivery: Delivery, outcome: Outcome) -> None:
        span.set_attribute(OUTCOME, outcome_name(outcome))
        if isinstance(outcome, Retried | DeadLettered):
            error = redact_error(outcome.error, delivery.message.data)
            reason = outcome.reason if isinstance(outcome, DeadLettered) else "error"
            raised = _RAISED.match(error) if reason in _HANDLERS_FAULT else None
            record_error(span, raised[0] if raised else reason, error)
        self._keep(delivery, span)

    def _begin_batch(self, deliveries: Sequence[Delivery]) -> Span:
        destination = destination_of(deliveries[0].message)
        recorded = [delivery for delivery in deliveries if self.wants(delivery)]
        return self._tracer.start_span(
            f"process {destination}",
            context=Context(),
            kind=SpanKind.CONSUMER,
            links=[Link(created) for delivery in recorded if (created := read_context(delivery.message))],
            attributes={
                **operation("process", "process", destination),
                **holder(deliveries[0]),
                messaging.MESSAGING_BATCH_MESSAGE_COUNT: len(deliveries),
            },
        )

    def _end_batch(self, span: Span, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome]) -> None:
        ended = {outcome_name(outcome) for outcome in outcomes}
        span.set_attribute(OUTCOME, ended.pop() if len(ended) == 1 else "mixed")
        if any(isinstance(outcome, Retried | DeadLettered) for outcome in outcomes):
            record_error(span, "BatchFailed", "")  # which of them and why is in their settle spans and histories
        for delivery in deliveries:
            if self.wants(delivery):
                self._keep(delivery, span)

    def _keep(self, delivery: Delivery, span: Span) -> None:
        self._processing[_key(delivery)] = span.get_span_context()
        if len(self._processing) > _MOST_KEPT:
            self._processing.popitem(last=False)

    def _begin_settle(self, recorded: Sequence[tuple[Delivery, Outcome]]) -> list[Span]:
        spans = []
        for delivery, outcome in recorded:
            settled_by, destination = settle_operation(outcome), destination_of(delivery.message)
            process = self._processing.pop(_key(delivery), None)
            created = None if process else read_context(delivery.message)
            spans.append(
                self._tracer.start_span(
                    f"{settled_by} {destination}",
                    context=trace.set_span_in_context(NonRecordingSpan(process), Context()) if process else Context(),
                    kind=SpanKind.CLIENT,
                    links=[Link(created)] if created else [],
                    attributes={
                        **operation(settled_by, "settle", destination),
                        **holder(delivery),
                        messaging.MESSAGING_MESSAGE_ID: delivery.message.id[:256],
                        OUTCOME: outcome_name(outcome),
                    },
                )
            )
        return spans


def _comes_back(delivery: Delivery) -> bool:
    return delivery.attempt > 1 or delivery.crashes > 0 or delivery.replays > 0


def _is_young(message: Message) -> bool:
    try:
        made = datetime.fromisoformat(message.time)
    except ValueError:
        return True  # a foreign entry with an unreadable time: it has only just been read for the first time
    return datetime.now(UTC) - (made if made.tzinfo else made.replace(tzinfo=UTC)) < _YOUNG


def _key(delivery: Delivery) -> _Key:
    return delivery.group, delivery.source, delivery.entry_id, delivery.count
