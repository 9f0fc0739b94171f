"""Redaction of free text for logs and traces: messages quote what they were given.

The fields of an event are redacted by `streams.events.redact`; this is for text without a schema.
"""

from __future__ import annotations

import re
from typing import Final

from streams.events.privacy import REDACTED

ERROR_LENGTH: Final = 500

_URL_LOGIN: Final = re.compile(r"(?<=://)[^\s/@]{0,512}@")
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:@\[\]=/]{1,64}@[^\s<>\"'(),;:@\[\]=/]{1,255}")
_INPUT: Final = re.compile(r"input_value=.*(?=, input_type=)|input_value=.*")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST_ADDRESS: Final = 320


def redact_text(text: str, length: int = ERROR_LENGTH) -> str:
    """Copies `text` without mail addresses, URL logins and pydantic's input values, cut to `length` characters.

    Control characters are written as escapes, so that text from outside cannot drive a terminal. What UTF-8 cannot
    encode (lone surrogates) is replaced: one such character would make the exporter lose its batch.
    """
    if len(text) > 4 * length:  # a bound for the patterns; what the cut went through could not be recognised: drop it
        end = 4 * length
        text = text[: max(text.rfind(" ", 0, end), end - _LONGEST_ADDRESS)]
    if "input_value=" in text:
        text = _INPUT.sub(f"input_value={REDACTED}", text)
    if "@" in text:
        text = _URL_LOGIN.sub(f"{REDACTED}@", text)
        text = _ADDRESS.sub(REDACTED, text)
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


# Scrub: text from anywhere made fit to be stored and shown: without credentials, cut, and in one encoding.
#
# Exception texts quote what they failed on: clients repeat URLs with passwords, pydantic and SQLAlchemy repeat values.
# None of that may leave the process. Every pattern is linear, or bounded by a length of its own: the text may be
# hostile.

LONGEST: Final = 500
"""Characters of one line: an error, a reason, a progress text."""
_HIDDEN: Final = "[redacted]"
_PORT: Final = r"(?!\d{1,5}(?:[/?#\s\"']|\Z))"  # `://host:8080/...` is no login
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
    | input_value=(?P<input>.*?)(?:,\ input_type=|\Z)
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
    text = str.__str__(text)  # a subclass of str may answer anything
    if len(text) > 4 * length:
        text = _CUT_LOGIN.sub(rf"\1{_HIDDEN}", text[: 4 * length])
    text = _CONTROL_OR_MARK.sub(_escaped, _hide(text))
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text[:length]


def one_line(text: str, length: int = LONGEST) -> str:
    """The same, with every run of white space as one blank."""
    return " ".join(scrub(text, 2 * length).split())[:length]


def _hide(text: str) -> str:
    parts, at = [], 0
    while (found := _SECRETS.search(text, at)) is not None:
        kind = found.lastgroup or ""
        begin, end = found.span(kind)
        if kind == "value" and _names_a_class(text, found.start(), begin):
            end = begin  # looked at again from there: the value may hold a credential of its own
            parts.append(text[at:end])
        else:
            parts += (text[at:begin], _HIDDEN)
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
