"""The words of the documentation, the help texts and the messages are the field's own.

Home-made words creep back one by one, so each has a pattern here, beside the word to use. Pages are checked without
their code. Of the code, string literals are checked (errors, log texts, help) and the help of each command, and in the
folders of `CHECKED` also comments, docstrings and names. `ALLOWED` and `ALLOWED_IN_CODE` list the exceptions, with the
reason.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer.main

from streams.cli.application import application

ROOT: Final = Path(__file__).parents[1]

_IT: Final = r"(?: (?:it|them|this|one|an event|the event|a message|the message|the rest))?"

RETIRED: Final[Mapping[str, str]] = {
    r"told|tells?|telling": "says, shows, reports",
    r"mend(?:s|ed|ing)?": "fix, repair, remedy",
    r"seats?": "partition consumer",
    r"heirs?": "the consumer that took over",
    r"(?:the|a|an|its|their|whose|each|lost|takes?|took|taking|in) turns?": "order, head of the key's queue, alternate",
    r"books": "ledger",
    r"spared": "not counted",
    r"disband(?:s|ed|ing)?": "release",
    rf"call(?:s|ed|ing)?{_IT} off|call-offs?": "cancel",
    r"lets? in|letting in": "admit, permit",
    r"in line": "waits, queued",
    r"lanes?": "priority",
    r"pace": "rate, rate limit",
    r"fate": "outcome, ambiguous delivery",
    rf"g[ai]ves?{_IT} up|giv(?:en|ing){_IT} up": "dead-letter, remove, stop",
    r"through with": "has finished",
    rf"hand(?:s|ed|ing)?{_IT} (?:over|back)|hand-(?:over|back)s?": "deliver, release",
    r"whoever|everybody|everyone|somebody|someone|anybody|anyone|nobody|no one": "name the process",
    r"cannot be meant": "is invalid",
    r"that there (?:is|are) not|there is it|is there not": "unknown, missing",
    r"what becomes? of|what became of": "outcome, state",
}
"""Patterns of whole words, whatever their case, and what to write."""

_ANY: Final = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.IGNORECASE)

ALLOWED: Final[Mapping[tuple[str, str], str]] = {}
"""(where, phrase) of what stays: names that are in use elsewhere, until these are renamed."""


CHECKED: Final = (
    "streams/*.py", "streams/messages/*.py", "streams/events/*.py", "streams/handlers/*.py", "streams/publishing/*.py",
    "streams/sql/*.py", "streams/testing/*.py", "streams/client/*.py", "schemas/*.py", "benchmarks/*.py",
    "examples/**/*.py", "observability/**/*.py", "processors/**/*.py", "streams/cli/**/*.py",
    "streams/*/lua/*.lua", "streams/*/lua/include/*.lua",
)  # fmt: skip
"""Patterns of the files that have no retired word in a comment, a docstring or a name. The other folders follow."""

RETIRED_NAMES: Final[Mapping[str, str]] = {
    r"turns?": "head, order, lock",
    r"dice": "rng",
    r"nouns?|verbs?": "class, method",
    r"gates?": "limiter, lock",
    r"whom?|whose": "name the thing",
}
"""The same for names only: in a sentence these words may be the right ones."""

ALLOWED_IN_CODE: Final[Mapping[tuple[str, str], str]] = {
    ("streams/handlers/backoff.py", "give_up_on"): "a parameter of `Backoff`, which users of the package write",
}
"""(file, name or phrase) of what stays, and why. Key names of Redis are string literals, which are not read here."""


def found(text: str) -> list[str]:
    """The retired words in a text, as RETIRED has them, with white space as one space."""
    return [match.group().lower() for match in _ANY.finditer(re.sub(r"\s+", " ", text))]


def prose(page: str) -> str:
    """A page without code blocks, code spans, comments and addresses of links; of the changelog, the newest section."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "CHANGELOG.md":
        text = "".join(re.split(r"^(?=## )", text, flags=re.MULTILINE)[:2])
    text = re.sub(r"^```.*?^```", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)\s]*\)", " ", text)


def _docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are statements by themselves: docstrings, of attributes too."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@cache
def literals() -> dict[str, str]:
    """The texts of each module: its string literals with a space in them, except docstrings. A name has no space."""
    texts: dict[str, str] = {}
    for package in ("streams", "processors", "schemas", "observability"):
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            apart = _docstrings(tree)
            strings = (
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart
            )
            texts[str(file.relative_to(ROOT))] = "\n".join(text for text in strings if " " in text)
    return texts


def _help(name: str, command: Any) -> Iterator[tuple[str, str]]:
    parts = [command.help, command.epilog, *(getattr(option, "help", None) for option in command.params)]
    yield name, "\n".join(part for part in parts if part)
    for sub in getattr(command, "commands", {}).values():
        yield from _help(f"{name} {sub.name}", sub)


@cache
def helps() -> dict[str, str]:
    """What `--help` says, of each command."""
    command = application()
    return dict(_help("streams", command if hasattr(command, "params") else typer.main.get_command(command)))


class Use(NamedTuple):
    """A retired word in the code: where it is, and the name, or the phrase of a comment."""

    file: str
    line: int
    text: str


_NAMES: Final = re.compile(rf"\b(?:{'|'.join((*RETIRED, *RETIRED_NAMES))})\b", re.IGNORECASE)
_LUA: Final = re.compile(r"--(?P<comment>[^\n]*)|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|(?P<name>[A-Za-z_]\w*)")


def is_retired_name(name: str) -> bool:
    """Whether a name, split at `_` and at capitals, has a retired word."""
    return _NAMES.search(" ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))) is not None


def _sentences(text: str, line: int) -> Iterator[tuple[int, str]]:
    """(line, phrase) of the retired words of a comment or docstring that begins there. Code spans are not read."""
    text = re.sub(r"`[^`]*`", lambda span: re.sub(r"[^\n]", "`", span[0]), text)
    for match in re.compile(_ANY.pattern.replace(" ", r"[\s#]+"), re.IGNORECASE).finditer(text):
        yield line + text.count("\n", 0, match.start()), " ".join(re.sub("#", " ", match[0]).lower().split())


def of_python(source: str) -> Iterator[tuple[int, str]]:
    """(line, name or phrase) of the retired words of a module. Successive lines of comments are one text."""
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            comments[line] = token.string
        elif token.type == tokenize.NAME and not keyword.iskeyword(token.string) and is_retired_name(token.string):
            yield line, token.string
    while comments:
        first = last = min(comments)
        block = [comments.pop(first)]
        while last + 1 in comments:
            last += 1
            block.append(comments.pop(last))
        yield from _sentences("\n".join(block), first)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from _sentences(ast.get_source_segment(source, node.value) or "", node.lineno)


def of_lua(source: str) -> Iterator[tuple[int, str]]:
    """The same of a script."""
    comments = []
    for match in _LUA.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        if (name := match["name"]) and is_retired_name(name):
            yield line, name
        elif match["comment"] and not match["comment"].startswith(" include "):
            comments.append((line, match["comment"]))
    for line, text in comments:
        after = dict(comments).get(line + 1, "")
        for at, phrase in _sentences(f"{text}\n{after}", line):
            if at == line:
                yield at, phrase


@cache
def checked() -> dict[str, str]:
    """The source of each file of CHECKED."""
    files = {file for pattern in CHECKED for file in ROOT.glob(pattern)}
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in sorted(files)}


@cache
def uses() -> tuple[Use, ...]:
    """The retired words of these files, in any of their comments, docstrings and names."""
    return tuple(
        Use(file, line, text)
        for file, source in checked().items()
        for line, text in sorted((of_lua if file.endswith(".lua") else of_python)(source))
    )


def _remedy(text: str) -> str:
    """What to write for a name or a phrase."""
    words = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)) if text.isidentifier() else text
    for pattern, instead in {**RETIRED, **RETIRED_NAMES}.items():
        if re.search(rf"\b(?:{pattern})\b", words, re.IGNORECASE):
            return instead
    raise AssertionError(text)


PAGES: Final = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))


def _retired(where: str, text: str) -> list[str]:
    return [word for word in found(text) if (where, word) not in ALLOWED]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_retired_word(page: str) -> None:
    """Else: which, and RETIRED has what to write."""
    assert _retired(page, prose(page)) == []


def test_no_message_has_a_retired_word() -> None:
    """Errors, log texts, answers of the command line."""
    assert {where: words for where, text in literals().items() if (words := _retired(where, text))} == {}


def test_no_help_text_has_a_retired_word() -> None:
    """Of commands and of their options."""
    assert {where: words for where, text in helps().items() if (words := _retired(where, text))} == {}
    assert len(helps()) > 20, "the commands were not found"


def test_no_comment_docstring_or_name_has_a_retired_word() -> None:
    """In the folders of CHECKED. A use says its place and what to write."""
    left = [use for use in uses() if (use.file, use.text) not in ALLOWED_IN_CODE]
    assert not left, "\n" + "\n".join(
        f"{use.file}:{use.line}: {use.text!r} is a retired word; write: {_remedy(use.text)}" for use in left
    )


def test_what_is_allowed_is_still_there() -> None:
    """An exception goes with what it was for."""
    assert set(ALLOWED_IN_CODE) <= {(use.file, use.text) for use in uses()}
    texts = {**{page: prose(page) for page in PAGES}, **literals(), **helps()}
    assert [key for key in ALLOWED if key[1] not in found(texts.get(key[0], ""))] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the publisher is told so", ["told"]),
        ("Mend the cause", ["mend"]),
        ("it calls the event off, and hands it\nback", ["calls the event off", "hands it back"]),
        ("a message that gave up, or was given up", ["gave up", "given up"]),
        ("Nobody waits; whoever is free has its turn", ["nobody", "whoever", "its turn"]),
        ("what becomes of it stands in line", ["what becomes of", "in line"]),
        ("amendment, gateway, return, the planes, inline, storytelling", []),
        ("in return; whole lines; a letter that is paced", []),
    ],
)
def test_words_are_found_as_words(text: str, words: list[str]) -> None:
    """Whatever their case and wherever a line ends, and not within others."""
    assert found(text) == words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""Who is told\n   so."""\n', [(1, "told")]),
        ("x = 1  # nobody\n# gives the event\n# up\n", [(1, "nobody"), (2, "gives the event up")]),
        ("def callOff(sinceTold: int) -> None: ...\n", [(1, "callOff"), (1, "sinceTold")]),
        ("class HeirSeats:\n    MY_DICE = 1\n", [(1, "HeirSeats"), (2, "MY_DICE")]),
        ('fate = 1\nx: int\n"""Its lane."""\n', [(1, "fate"), (3, "lane")]),
        ('x = "told"\n"""`told` and `Told.lane`"""\nplanes = returned = x\n', []),
    ],
)
def test_words_are_found_in_python(source: str, words: list[tuple[int, str]]) -> None:
    """In comments, docstrings (of attributes too) and names; not in other strings, which have a check of their own."""
    assert sorted(of_python(source)) == words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("local told = 1  -- it stands in\n-- line\n", [(1, "in line"), (1, "told")]),
        ("redis.call('DEL', KEYS[1] .. ':lanes') -- a key\n", []),
        ("pass_turn(key)\n-- ends its turn\n", [(1, "pass_turn"), (2, "its turn")]),
    ],
)
def test_words_are_found_in_lua(source: str, words: list[tuple[int, str]]) -> None:
    """In comments and names; key names are strings."""
    assert sorted(of_lua(source)) == words


def test_each_pattern_of_files_has_some() -> None:
    """A folder that was moved is not checked unnoticed."""
    assert [pattern for pattern in CHECKED if not list(ROOT.glob(pattern))] == []
    assert len(checked()) > 120


def test_each_kind_of_text_is_read() -> None:
    """A retired word in any of them would be met."""
    assert "is paused: no handler starts" in literals()["streams/inspecting/explanation.py"]
    assert "Pauses a group" in helps()["streams pause"]
    assert "maximum number" in helps()["streams dead replay"]
    assert "Added" in prose("CHANGELOG.md")
    assert "streams publish" not in prose("docs/operate/cli.md").partition("## status")[0].partition("## publish")[2]
