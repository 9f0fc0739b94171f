"""FollowLinks: keeps one sampling decision for the whole story of an event."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class FollowLinks(Sampler):
    """Records a new root that links to a recorded span, and leaves every other decision to `sampler`.

    Retries and replays start a trace of their own. Under a ratio of 1 % each would be drawn anew, and of an event that
    is recorded just the failing attempts would be missing.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decides for one span, as `Sampler` asks."""
        is_root = not trace.get_current_span(parent_context).get_span_context().is_valid
        if links and is_root and any(link.context.trace_flags.sampled for link in links):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Names the sampler and the one it asks."""
        return f"FollowLinks{{{self._sampler.get_description()}}}"
