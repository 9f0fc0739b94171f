"""The words of the documentation, the help texts and the messages are the field's own.

Home-made words creep back one by one, so each has a pattern here, beside the word to use. Pages are checked without
their code. Of the code, string literals are checked (errors, log texts, help) and the help of each command;
docstrings and names are not. `ALLOWED` lists the exceptions, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from streams.cli.application import application

ROOT: Final = Path(__file__).parents[1]

_IT: Final = r"(?: (?:it|them|this|one|an event|the event|a message|the message|the rest))?"

RETIRED: Final[Mapping[str, str]] = {
    r"told|tells?|telling": "says, shows, reports",
    r"mend(?:s|ed|ing)?": "fix, repair, remedy",
    r"seats?": "partition consumer",
    r"successors?": "the consumer that took over",
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

ALLOWED: Final[Mapping[tuple[str, str], str]] = {
    ("streams/cli/commands/status.py", "in line"): "the state of a message behind its key, in the output of `status`",
    ("streams/inspecting/explanation.py", "in line"): "the state itself",
    ("streams/inspecting/group_status.py", "in line"): "the state itself",
    ("docs/operate/cli.md", "in line"): "the state itself, in the table of states",
}
"""(where, phrase) of what stays: names that are in use elsewhere, until these are renamed."""


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


def test_what_is_allowed_is_still_there() -> None:
    """An exception goes with what it was for."""
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


def test_each_kind_of_text_is_read() -> None:
    """A retired word in any of them would be met."""
    assert "is paused: no handler starts" in literals()["streams/inspecting/explanation.py"]
    assert "Pauses a group" in helps()["streams pause"]
    assert "maximum number" in helps()["streams dead replay"]
    assert "Added" in prose("CHANGELOG.md")
    assert "streams publish" not in prose("docs/operate/cli.md").partition("## status")[0].partition("## publish")[2]
