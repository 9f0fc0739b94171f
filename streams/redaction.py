"""Redaction of free text: errors, reasons and log lines quote what they were given.

Exception texts repeat what they failed on: clients repeat URLs with passwords, pydantic and SQLAlchemy repeat values.
None of that may leave the process. `scrub` is for what is stored beside its event and read by operators: without
credentials, in one encoding, with nothing that drives a terminal. `redact_text` is for logs and traces, which go
further: without mail addresses and logins too. Every pattern is linear, or bounded by a length of its own: the text may
be hostile.

The fields of an event are redacted by `streams.events.redact`; this is for text without a schema.
"""

from __future__ import annotations

import re
from typing import Final

from streams.events.privacy import REDACTED

LONGEST: Final = 500
"""Characters of one line: an error, a reason, a progress text."""
_URL_LOGIN: Final = re.compile(r"://[^\s/@]{0,512}@")
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:@\[\]=/]{1,64}@[^\s<>\"'(),;:@\[\]=/]{1,255}")
_LONGEST_ADDRESS: Final = 320
_PORT: Final = r"(?!\d{1,5}(?:[/?#\s\"']|\Z))"  # `://host:8080/...` is no login
# Each alternative of the next pattern needs one of these; to look for them costs a twentieth. For ASCII text only: to
# IGNORECASE, letters of other alphabets are some of these too.
_HINTS: Final = (
    "://", "pass", "pwd", "secret", "token", "key", "authorization", "credential", "cookie", "bearer", "basic", "sig",
    "eyj", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "k_live_", "k_test_",
    "sk-", "aiza", "input_value=", "[parameters:",
)  # fmt: skip
_SECRETS: Final = re.compile(
    rf"""
    ://[^/\s:@]{{0,256}}:{_PORT}(?P<password>\S{{1,2048}})@
    | ://(?P<user>[^\s/:@]{{16,512}})@
    | (?:pass(?:word|wd|phrase|code)|(?<![a-z])(?:pass|pwd)|secret|token|(?:api|access|private|signing)[_-]?key
        |authorization|credential|(?<![a-z])cookie)
      (?:[_-][\w-]{{1,24}}|s)?
      (?:\\?['"]?\]?\s{{0,8}}(?:=>|==?|:)|\\?['"]\s{{0,8}},)\s{{0,8}}(?:[bru](?=\\?['"]))?(?![bru]?\[redacted\])
      (?P<value>\\?"(?:\\.|[^"\\])*(?:"|\Z)|\\?'(?:\\.|[^'\\])*(?:'|\Z)
        |(?:(?:bearer|basic|digest|token|negotiate|apikey)\s{{1,8}})?\S+(?:(?<=;)\s[\w.-]{{1,64}}=\S+)*)
    | \b(?:bearer|basic)\s{{1,8}}(?P<scheme>[\w.~+/=-]{{12,}})
    | [?&](?:sig|signature|key|x-(?:amz|goog)-(?:signature|credential))=(?P<query>[^\s&"'<>]+)
    | (?P<jwt>\beyJ[\w-]{{8,}}\.[\w-]{{8,}}(?:\.[\w-]*)?)
    | \b(?P<known>(?:AKIA|ASIA)[0-9A-Z]{{16}}|gh[pousr]_\w{{20,}}|github_pat_\w{{20,}}|glpat-[\w-]{{20,}}
        |xox[a-z]-[\w-]{{10,}}|[sr]k_(?:live|test)_\w{{10,}}|sk-[\w-]{{20,}}|AIza[\w-]{{30,}})
    | -----BEGIN\ [A-Z\ ]{{0,40}}PRIVATE\ KEY-----(?P<pem>.*?)(?:-----END|\Z)
    | input_value=(?P<input>[^\n]*(?=,\ input_type=)|.*)
    | \[parameters:\ (?P<parameters>.*?)(?:[)}}\]]\]|\Z)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CUT_LOGIN: Final = re.compile(rf"(://[^/\s:@]{{0,256}}:{_PORT})\S*\Z")  # of a URL that the cut went through
_CLASS: Final = re.compile(r"(?:[A-Z][a-z0-9]+){2,}\Z")  # `InvalidToken: ...` names an exception
_LONGEST_NAME: Final = 64
_CONTROL_OR_MARK: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def scrub(text: str, length: int = LONGEST) -> str:
    """Hides what looks like a credential, escapes what no terminal or database takes, and cuts to `length`."""
    return _encodable(_hide(_bounded(str.__str__(text), length)))[:length]  # a subclass of str may answer anything


def redact_text(text: str, length: int = LONGEST) -> str:
    """The same without mail addresses and the logins of URLs; where it is cut, it ends with `…`."""
    text = _hide(_bounded(str.__str__(text), length))
    if "@" in text:
        text = _URL_LOGIN.sub(f"://{REDACTED}@", text)
        text = _ADDRESS.sub(REDACTED, text)
    text = _encodable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str, length: int = LONGEST) -> str:
    """The same, with every run of white space as one blank."""
    return " ".join(scrub(text, 2 * length).split())[:length]


def _bounded(text: str, length: int) -> str:
    """As much as the patterns need to see. What the cut went through cannot be recognised any more, and is dropped."""
    end = 4 * length
    if len(text) <= end:
        return text
    text = text[: max(text.rfind(" ", 0, end), end - _LONGEST_ADDRESS, 3 * length)]
    return _CUT_LOGIN.sub(rf"\1{REDACTED}", text)


def _encodable(text: str) -> str:
    """Without what UTF-8 cannot encode (one lone surrogate would make an exporter lose its batch), and with controls
    and marks of direction as escapes.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL_OR_MARK.sub(_escaped, text)
    return text.encode("utf-8", "backslashreplace").decode()


def _hide(text: str) -> str:
    if text.isascii():
        lower = text.lower()
        for hint in _HINTS:
            if hint in lower:
                break
        else:
            return text
    parts, at = [], 0
    while (found := _SECRETS.search(text, at)) is not None:
        kind = found.lastgroup or ""
        begin, end = found.span(kind)
        if kind == "value" and _names_a_class(text, found.start(), begin):
            end = begin  # looked at again from there: the value may hold a credential of its own
            parts.append(text[at:end])
        else:
            parts += (text[at:begin], REDACTED)
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _names_a_class(text: str, begin: int, end: int) -> bool:
    """Whether what stands before a colon is an exception's class, `ExpiredToken: the session is over`."""
    if not text[begin:end].endswith(": "):
        return False
    start = begin
    while start > 0 and begin - start < _LONGEST_NAME and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    return _CLASS.match(text[start : end - 2]) is not None


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
