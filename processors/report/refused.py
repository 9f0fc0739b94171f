"""ReportRefused: a report that cannot be made of what there is. The message is for its requester."""

from __future__ import annotations

from streams import StreamsError


class ReportRefused(StreamsError):
    """What was asked for has no answer; trying again cannot help."""
