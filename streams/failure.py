"""Failure: what an exception may say where people read it (dead letters, logs, traces).

Exception texts quote what they failed on: pydantic repeats the input, clients repeat URLs with passwords. None of
that may leave the process.
"""

from __future__ import annotations

import re
import traceback
from typing import Final

from pydantic import ValidationError

_LONGEST: Final = 500
_DEEPEST: Final = 12
_SECRETS: Final = re.compile(
    r"(?i)(://[^/\s:@]*:)[^@\s/]+(@)|\b((?:password|passwd|secret|token|api[_-]?key|authorization)['\"]?\s*[=:]\s*)\S+"
)


def scrub(text: str) -> str:
    """Hides what looks like a credential and cuts the text to 500 characters."""
    return _hide(text)[:_LONGEST]


def _hide(text: str) -> str:
    return _SECRETS.sub(lambda found: f"{found[1] or found[3]}[redacted]{found[2] or ''}", text)


def describe(error: BaseException) -> str:
    """One line: the exception's class and its scrubbed message; of a validation error only fields and rules."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}" for problem in problems[:5]
        )
        return scrub(f"{error.title}: {told}".replace("\n", " "))
    text = " ".join(str(error).split())
    return scrub(f"{error.__class__.__name__}: {text}" if text else error.__class__.__name__)


def describe_traceback(error: BaseException) -> str:
    """The stack of the exception and of what caused it, without values: frames, source lines and `describe` lines."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < 6:
        frames = traceback.extract_tb(seen.__traceback__)[-_DEEPEST:]
        parts.append(_hide("".join(traceback.format_list(frames))) + describe(seen))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n\ncaused by\n".join(parts)[:8000]
