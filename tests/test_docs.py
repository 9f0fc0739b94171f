"""The documentation does what it says: its examples run, its links lead somewhere, its tables match the code.

Each page is one session: its `python` and `sh` blocks run in order, in one directory, against one Redis. A comment
above a block says what is special about it:

    <!-- test: skip, REASON -->             it is not run
    <!-- test: file NAME -->                it is saved under that name, and not run
    <!-- test: background -->               it runs until the page ends
    <!-- test: background, shows TEXT -->   likewise; it shows the text before the page ends, and ends well
    <!-- test: shows TEXT -->               its output has the text
    <!-- test: eventually shows TEXT -->    it is repeated until its output has the text

In shell blocks `ID` stands for the id that was shown last.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml
from pydantic_settings import BaseSettings

import schemas
import streams.redis.keys
from processors.email.settings import EmailSettings
from processors.file.settings import FileSettings
from processors.inventory.settings import InventorySettings
from processors.report.settings import ReportSettings
from processors.shared.storage import StorageSettings
from streams import Settings
from streams.cli.application import application
from streams.events.privacy import PII, marked_fields
from streams.inspecting import states as states_module
from streams.inspecting.states import Cause, State
from streams.messages.message import CARRIED, FIELDS
from streams.sql import SqlSettings
from tests.faults import test_why as processes
from tests.streams.inspecting import test_diagnosis as test_why
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until_sync

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")),
]
PACKAGES: Final = ("schemas", "streams", "processors", "observability")

RUN: Final = {"python", "sh"}
SHOWN: Final = {
    "console",
    "text",
    "json",
    "mermaid",
    "ini",
    "toml",
    "yaml",
    "dockerfile",
    "js",
}  # `js` carries a mark all the same

_BLOCK: Final = re.compile(r"(?:^<!-- test: (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID: Final = re.compile(r"\b(?:[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|\d{13}-\d+)\b")
_MAIL_SERVER: Final = "localhost:1025"
_WEB_SERVER: Final = "localhost:8000"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, and what is said about it."""

    language: str
    mark: str
    text: str
    line: int

    @property
    def is_run(self) -> bool:
        """Whether the page's session runs it (or saves it)."""
        return self.language in RUN and not self.mark.startswith("skip")


def read(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = read(page)
    for found in _BLOCK.finditer(text):
        yield Block(found[2], found[1] or "", found[3], text.count("\n", 0, found.start(2)) + 1)


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", read(page))


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The first table under a heading: the first cell, without backticks, to the others."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", read(page), re.MULTILINE | re.DOTALL)
    assert section, f"{page} has no section {heading!r}"
    table: dict[str, list[str]] = {}
    for line in section[1].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and not set(cells[0]) <= set("-: "):
            table[cells[0].replace("`", "").replace("\\|", "|")] = cells[1:]
    assert table, f"{page}, {heading}: no table"
    table.pop(next(iter(table)))  # its head
    return table


# Examples --------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Session:
    """A reader who types a page's examples, one after the other."""

    def __init__(self, directory: Path, server: RedisServer, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._state = directory / "shell-state"
        self._state.touch()
        self._mail, self._web = _free_port(), _free_port()
        self._env = {
            **env, "SMTP_URL": f"smtp://localhost:{self._mail}", "PORT": str(self._web), "LOG_FORMAT": "json",
        }  # fmt: skip
        self._programs(directory / "bin", server)
        self._background: list[tuple[Block, subprocess.Popen[bytes], Path, str]] = []
        self._last_id = "ID"
        self._count = 0

    def _programs(self, folder: Path, server: RedisServer) -> None:
        """What the examples call, as it is in the environment that `make` sets up."""
        folder.mkdir()
        python = f'PYTHONPATH="{ROOT}${{PYTHONPATH:+:$PYTHONPATH}}" exec "{sys.executable}"'
        client = "import os, sys, redis; print(redis.from_url(os.environ['REDIS_URL']).execute_command(*sys.argv[1:]))"
        cli = shutil.which("redis-cli")
        programs = {
            "python": f'{python} "$@"',
            "streams": f'{python} -P -m streams "$@"',  # -P: an installed program does not look into this directory
            "redis-cli": '[ "$1" != -s ] || shift 2\n'
            + (f'exec "{cli}" -s "{server.socket}" "$@"' if cli else f'{python} -c "{client}" "$@"'),
        }
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        self._env["PATH"] = f"{folder}:{self._env['PATH']}"

    def follow(self, block: Block) -> None:
        """Does what a block says."""
        self._count += 1
        kind, _, argument = block.mark.partition(" ")
        text = block.text.replace(_MAIL_SERVER, f"localhost:{self._mail}")
        text = text.replace(_WEB_SERVER, f"localhost:{self._web}")
        if kind == "file":
            (self._directory / argument).write_text(text)
            return
        if block.language == "python":
            (self._directory / f"example_{self._count}.py").write_text(text)
            text = f"python example_{self._count}.py"
        else:
            text = re.sub(r"\bID\b", lambda _: self._last_id, text)
        if kind.startswith("background"):
            self._start(block, text, argument.removeprefix("shows "))
            return
        shows = argument.removeprefix("shows ") if kind == "eventually" else argument
        if kind == "eventually":
            shown = lambda: shows in self._run(block, text, patient=True)  # noqa: E731
            wait_until_sync(shown, 20, lambda: f"{text} shows {shows!r}")
        else:
            output = self._run(block, text)
            assert shows in output, f"line {block.line} does not show {shows!r}:\n{output}"

    def _run(self, block: Block, text: str, *, patient: bool = False) -> str:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f". {self._state}\n{text}\nexport -p > {self._state}"],
            cwd=self._directory, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        output = ended.stdout + ended.stderr
        assert patient or ended.returncode == 0, f"line {block.line} ended with {ended.returncode}:\n{text}\n{output}"
        assert "Traceback" not in output or "traceback" in text, f"line {block.line}:\n{output}"
        self._last_id = [self._last_id, *_ID.findall(ended.stdout)][-1]
        return output

    def _start(self, block: Block, text: str, shows: str) -> None:
        path = self._directory / f"background_{self._count}"
        with path.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f". {self._state}\nexec {text}"],
                cwd=self._directory, env=self._env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._background.append((block, process, path, shows))

    def close(self) -> None:
        """Waits for what the programs in the background were to show, and ends them as Ctrl-C in their shell would."""
        for block, process, path, shows in reversed(self._background):
            if not shows:
                continue
            wait_until_sync(lambda path=path, shows=shows: shows in path.read_text(), 20, path.read_text)  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            code = process.wait(20)
            assert code == 0, f"line {block.line} ended with {code}:\n{path.read_text()}"

    def abandon(self) -> None:
        """Ends what still runs."""
        for _, process, _, _ in self._background:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the session it was started as the leader of
            process.wait(10)


@pytest.fixture
def app() -> str:
    """The prefix of the examples is the default one."""
    return "planning-bord"


@pytest.fixture
def session(tmp_path: Path, redis_server: RedisServer, streams_env: Mapping[str, str]) -> Iterator[Session]:
    """A reader with an environment, a Redis and an empty directory."""
    reader = Session(tmp_path, redis_server, streams_env)
    yield reader
    reader.abandon()


@pytest.mark.newest_redis
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.is_run for block in blocks(page))])
def test_the_examples_of_a_page_do_what_it_says(page: str, session: Session) -> None:
    """Typed one after the other, as a newcomer does."""
    for block in blocks(page):
        if block.is_run:
            session.follow(block)
    session.close()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    """A skip has a reason, a block has a language, JSON is JSON, and YAML is YAML."""
    marks = re.compile(r"skip, .{5,}|file [\w./-]+|background(, shows .+)?|(eventually )?shows .+|")
    for block in blocks(page):
        assert block.language in RUN | SHOWN, f"{page}:{block.line}: a block of {block.language!r}"
        assert marks.fullmatch(block.mark), f"{page}:{block.line}: the mark {block.mark!r} is not understood"
        if block.language == "js":
            assert block.mark.startswith("skip"), f"{page}:{block.line}: nothing runs it"
        if block.language == "json":
            json.loads(block.text)
        if block.language == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize("page", [page for page in PAGES if "```console" in read(page)])
def test_every_command_line_that_is_shown_can_be_typed(page: str) -> None:
    """Sessions with their output are not run again, but their commands and options exist."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks(page)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ streams ")
    ]
    assert lines
    for line in lines:
        command, arguments = application(), shlex.split(line)[1:]
        context = command.make_context("streams", list(arguments))
        while hasattr(command, "commands") and (arguments or not command.invoke_without_command):
            name, command, arguments = command.resolve_command(context, arguments)
            context = command.make_context(name, list(arguments), parent=context)


# Links and names ---------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    """To a file that is there, and to a heading that is in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        assert file.is_relative_to(ROOT), f"{page}: {target} leads out of the project"
        assert not anchor or anchor in _anchors(file), f"{page}: {target} has no such heading"


_PATH: Final = re.compile(r"(?:docs|tests|examples|benchmarks|schemas|streams|processors|observability)/[\w./-]+\w/?")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_test_module_and_command_that_is_named_is_there(page: str) -> None:
    """Prose that names files rots; this notices."""
    commands = set(application().commands)
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        name, _, test = span.partition("::")
        if _PATH.fullmatch(name):
            assert (ROOT / name).exists(), f"{page}: {name}"
            assert not test or f"def {test}(" in (ROOT / name).read_text(), f"{page}: {name} has no {test}"
        elif found := re.match(r"streams ([a-z]+)\b", span):
            assert found[1] in commands, f"{page}: `{span}` is no command"
    for module in re.findall(r"python -m ((?:schemas|streams|processors|observability|examples)[\w.]*)", read(page)):
        assert importlib.util.find_spec(module.rstrip(".")), f"{page}: python -m {module}"


def test_every_hazard_has_its_row_and_every_row_a_test() -> None:
    """That the tests are there is for the test above to say."""
    found = dict(
        re.findall(r"^\| ([CNSEFD]\d+) [^|]+\|[^|]+\|[^|]+\|([^|]+)\|", read("docs/proof/hazards.md"), re.MULTILINE)
    )
    hazards = {"C": 25, "N": 12, "S": 18, "E": 5, "F": 4, "D": 3}
    assert list(found) == [f"{kind}{n}" for kind, most in hazards.items() for n in range(1, most + 1)]
    assert [hazard for hazard, tests in found.items() if not re.search(r"`tests/\S+\.py::test_\w+`", tests)] == []


def test_every_file_of_the_guide_is_in_its_table() -> None:
    """Each once; the order is that of reading."""
    files = sorted(f"tests/guide/{path.name}" for path in (ROOT / "tests/guide").glob("test_*.py"))
    named = re.findall(r"^\| `(tests/guide/\S+)` \|", read("docs/README.md"), re.MULTILINE)
    assert sorted(named) == files


@pytest.mark.parametrize("package", ["streams", "streams.testing", "streams.sql", "streams.events", "observability"])
def test_every_public_name_is_in_the_api_reference(package: str) -> None:
    """Each in the table of its section, and as what the site replaces by its documentation."""
    page = read("docs/reference/api.md")
    documented = re.findall(rf"^<!-- api: {re.escape(package)}\.(\w+) -->$", page, re.MULTILINE)
    elsewhere = {"PII", "Event", "SchemaError", "Secret"} if package == "streams.events" else set()
    assert sorted([*documented, *elsewhere]) == sorted(importlib.import_module(package).__all__)
    assert [name for name in documented if f"| [`{name}`](" not in page] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """A page that mkdocs.yml does not name is built, and found by no reader."""
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in named) == [page for page in PAGES if page.startswith("docs/")]


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to all of them."""
    index = read("docs/README.md")
    assert [page for page in PAGES if page.startswith("docs/") and f"({page.removeprefix('docs/')})" not in index] == [
        "docs/README.md"
    ]


# The walk of one event ---------------------------------------------------------------------------------------------


_WIRING: Final = ("streams/consuming/consumer.py", "streams/consuming/partition_consumer.py")


def _has_function(file: str, name: str) -> bool:
    """Whether a module defines `function`, or `Class.method`."""
    body = ast.parse(read(file)).body
    *classes, function = name.split(".")
    for each in classes:
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == each), [])
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function for node in body)


def test_the_walk_of_an_event_leads_through_the_code() -> None:
    """Each function is there. Each but the first is called, or passed to its caller, by the code beside it:
    in the module of an earlier hop, in its own, or in those that connect the parts.
    """
    hops = rows("docs/concepts/how-it-works.md", "The way of an event")
    assert list(hops) == [str(number) for number in range(1, len(hops) + 1)]
    assert 10 <= len(hops) <= 15
    before: list[str] = []
    for number, (function, reached, _) in hops.items():
        file, _, name = function.strip("`").partition(":")
        assert (ROOT / file).is_file(), f"hop {number}: {file}"
        assert _has_function(file, name), f"hop {number}: {file} has no {name}"
        if number != "1":
            code = reached.strip("`")
            assert re.search(rf"(?:^|\W){name.rpartition('.')[2]}$", code), f"hop {number}: {code} does not name {name}"
            places = "\n".join(read(each) for each in (*before, file, *_WIRING))
            assert re.search(rf"(?<!\w){re.escape(code)}\b", places), f"hop {number}: no {code} leads to {name}"
        before.append(file)


def test_every_package_is_in_the_table_of_packages() -> None:
    """In the order in which they may import each other, as the contract in pyproject.toml has it."""
    named = [
        name
        for cell in re.findall(r"^\| (`streams/.+?) \|", read("docs/concepts/how-it-works.md"), re.MULTILINE)
        for name in re.findall(r"`streams/(\w+)/`", cell)
    ]
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "streams").glob("*/__init__.py"))
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if "containers" in each)
    level = {name.strip(): place for place, layer in enumerate(layers) for name in layer.split("|")}
    assert [level[name] for name in named] == sorted(level[name] for name in named)


# Tables ------------------------------------------------------------------------------------------------------------


def _default(value: Any) -> str:
    """A default as the documentation writes it: empty for nothing."""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if value is None or value == ():
        return ""
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value).removesuffix(".0")


def _variables(model: type[BaseSettings]) -> dict[str, str]:
    """Each setting's variables (the preferred one first) and its default."""
    prefix = model.model_config.get("env_prefix", "")
    found = {}
    for name, field in model.model_fields.items():
        choices = [str(choice) for choice in getattr(field.validation_alias, "choices", ())]
        names = [choice for choice in choices if choice.isupper()] or [f"{prefix}{name}".upper()]
        found[", ".join(names)] = _default(field.default)
    return found


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("The engine", Settings),
        ("The database", SqlSettings),
        ("The email processor", EmailSettings),
        ("The inventory processor", InventorySettings),
        ("Files", StorageSettings),
        ("The file processor", FileSettings),
        ("The report processor", ReportSettings),
    ],
)
def test_the_settings_are_the_documented_ones(heading: str, model: type[BaseSettings]) -> None:
    """Every variable with its default, and no other."""
    documented = {name: cells[0].strip("`") for name, cells in rows("docs/operate/settings.md", heading).items()}
    assert documented == _variables(model)


def test_the_keys_are_the_documented_ones() -> None:
    """The table in streams/redis/keys.py is the table in docs/concepts/how-it-works.md."""
    known = dict(re.findall(r"^\| (\{app:[p0]\}\S+) +\| (\w+) ", streams.redis.keys.__doc__ or "", re.MULTILINE))
    documented = {key: cells[0] for key, cells in rows("docs/concepts/how-it-works.md", "The keys").items()}
    assert documented == known


def test_the_fields_of_a_message_are_the_documented_ones() -> None:
    """In the order in which they are written."""
    assert [name.encode() for name in rows("docs/reference/wire-format.md", "The fields")] == FIELDS
    assert [name.encode() for name in rows("docs/reference/wire-format.md", "Redelivered messages")] == CARRIED


def test_the_states_are_the_documented_ones() -> None:
    """In the table of each page, in the docstring of the type, and each of `doctor why` in a test that makes it; the
    same for what keeps an event in a state.
    """
    states, causes = list(get_args(State)), set(get_args(Cause)) - {""}
    pages = {
        "docs/operate/why.md": "The states", "docs/operate/cli.md": "States",
        "docs/reference/glossary.md": "The states of an event in a group",
    }  # fmt: skip
    for page, heading in pages.items():
        assert list(rows(page, heading)) == states, page
    source = Path(states_module.__file__ or "").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+) \|", source, re.MULTILINE)[1:] == states
    assert set(rows("docs/operate/why.md", "The causes")) == causes
    made = {word for state, *_ in test_why.SITUATIONS.values() for word in state.split()}
    assert made | processes.COVERED == {*states, *causes}


def test_the_events_are_the_documented_ones() -> None:
    """Type, stream, version, fields, and which of them are personal."""
    documented = {type: cells[:3] for type, cells in rows("docs/concepts/events.md", "The events").items()}
    known = {}
    public = {name for name in schemas.__all__ if isinstance(getattr(schemas, name), type)}
    for name in public:
        event = getattr(schemas, name)
        personal = marked_fields(event, PII)
        fields = ", ".join(f"`{field}`{' (PII)' if field in personal else ''}" for field in event.model_fields)
        known[event.type] = [f"`{event.stream}`", str(event.version), fields]
    assert documented == known


def _log_lines() -> dict[str, str]:
    """Every log event in the code and its level."""
    found: dict[str, str] = {}
    for file in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[first, *_]):
                    for part in ast.walk(first):
                        match part:
                            case ast.Constant(value=str(name)) if re.fullmatch(r"[a-z]+\.[a-z_]+", name):
                                found[name] = level.replace("exception", "error")
                case ast.Call(
                    func=ast.Attribute(attr="refused"), args=[ast.Name(id="log"), ast.Constant(value=str(name)), *_]
                ):
                    found[name] = "error"  # `Reconnect.refused`, which logs the same refusal once in ten seconds
    return found


def test_the_log_lines_are_the_documented_ones() -> None:
    """Every event that is logged, with its level."""
    documented = {
        name: cells[0] for name, cells in rows("docs/operate/operations.md", "What the log lines mean").items()
    }
    assert documented == _log_lines()
