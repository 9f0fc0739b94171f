"""The W3C trace context of a message: read from its fields, written into them.

The wire format has a `traceparent` and a `tracestate` field and nothing else, so this speaks W3C whatever
`OTEL_PROPAGATORS` says; baggage does not travel, because any sender may have put anything into it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.messages import TRACEPARENT, TRACESTATE, Message

_LONGEST: Final = 512
_w3c: Final = TraceContextTextMapPropagator()


def read_context(message: Message) -> SpanContext | None:
    """The context of the span that created the message, or None when it carries none that is valid.

    Fields come from outside: what is over 512 bytes, not ASCII or not W3C is left out, and is never an error.
    """
    parent, state = message.values[TRACEPARENT], message.values[TRACESTATE]
    if not 0 < len(parent) <= _LONGEST or not parent.isascii():
        return None
    carrier = {"traceparent": parent.decode("ascii")}
    if 0 < len(state) <= _LONGEST and state.isascii():
        carrier["tracestate"] = state.decode("ascii")
    context = trace.get_current_span(_w3c.extract(carrier, Context())).get_span_context()
    return context if context.is_valid else None


def write_context(message: Message, context: SpanContext) -> None:
    """Makes `context` the message's creation context; an invalid one leaves the fields as they are.

    Formatted here and not by the propagator, which needs a context object and a carrier for each message.
    """
    if not context.is_valid:
        return
    message.values[TRACEPARENT] = b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)
    state = context.trace_state.to_header().encode() if context.trace_state else b""
    message.values[TRACESTATE] = state if len(state) <= _LONGEST else b""


def write_unrecorded(messages: Sequence[Message], context: SpanContext) -> None:
    """Gives messages that are not recorded valid contexts all the same."""
    # Ids without the SDK: what is not recorded shall not pay for a span object. In the trace of `context` if there is
    # one, else each message in its own.
    if context.trace_flags.sampled:  # recorded by another process, as there is no SDK here: that span is the parent
        for message in messages:
            write_context(message, context)
        return
    known = b"%032x" % context.trace_id if context.is_valid else b""
    flags = b"%02x" % context.trace_flags
    state = context.trace_state.to_header().encode() if context.trace_state else b""
    for message in messages:
        trace_id = known or b"%032x" % (random.getrandbits(128) or 1)
        message.values[TRACEPARENT] = b"00-%b-%016x-%b" % (trace_id, random.getrandbits(64) or 1, flags)
        message.values[TRACESTATE] = state
