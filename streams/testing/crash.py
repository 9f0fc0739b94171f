"""Crash: the death of a process, for a test."""

from __future__ import annotations


class Crash(BaseException):
    """Raise it in a handler, or in a dependency of one, to let its process die there: nothing of what was in hand is
    settled, and the next consumer is given it with one delivery more.
    """
