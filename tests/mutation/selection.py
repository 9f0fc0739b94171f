"""Selection: which tests ought to notice a fault, and in which order they are run.

All tests were run once with coverage, each under its own name. Those that executed the changed line are chosen: of the
test file that has the module's name first, then the quickest ones, by turns of every test file, up to a budget of
seconds. A script in Lua is executed where its Python door is. What is executed at import (a class, a constant) is for
all tests that execute anything in the module.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from coverage import CoverageData

from tests.mutation.faults import ROOT, Fault

HOME: Final = ROOT / ".mutation"
DATA: Final = HOME / "coverage"
REPORT: Final = HOME / "tests.xml"
_BUDGET: Final = 25.0  # seconds that the chosen tests of one fault took when they were recorded
_MOST: Final = 80
# Whole processes under faults, the documentation, and what is about the repository: too slow, or about something else.
_IGNORED: Final = (
    "tests/faults", "tests/examples", "tests/mutation", "tests/test_docs.py", "tests/test_packaging.py",
    "tests/test_compose.py",
)  # fmt: skip
_COMMON: Final = (
    "tests/conformance/test_outcomes.py", "tests/conformance/test_moves.py", "tests/streams/test_consumer.py",
    "tests/streams/test_control.py",
)  # fmt: skip
_CONFIG: Final = """
[run]
branch = false
parallel = true
source_pkgs = schemas, streams, processors, observability
data_file = {data}
"""


def record(jobs: int, *tests: str) -> None:
    """Runs all tests once (or some), and keeps which lines each executes, and how long it takes."""
    HOME.mkdir(exist_ok=True)
    for old in HOME.glob("coverage*"):
        old.unlink()
    config = HOME / "coveragerc"
    config.write_text(_CONFIG.format(data=DATA))
    command = [
        sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--dist", "worksteal", "--timeout", "60",
        "--cov", f"--cov-config={config}", "--cov-context=test", "--cov-report=", f"--junit-xml={REPORT}",
        "-k", "not redis-7", *(f"--ignore={path}" for path in _IGNORED), *(tests or ("tests",)),
    ]  # fmt: skip
    print("recording which test executes what; it takes some ten minutes, once", flush=True)
    subprocess.run(command, cwd=ROOT, check=False)
    if not DATA.exists():
        raise SystemExit("nothing was recorded: see the output of pytest above")


class Selection:
    """What was recorded."""

    def __init__(self) -> None:
        self._data = CoverageData(str(DATA))
        self._data.read()
        self._recorded_at = DATA.stat().st_mtime
        self._seconds = dict(_durations())
        self._contexts: dict[str, dict[int, list[str]]] = {}

    def tests(self, fault: Fault) -> list[str]:
        """The tests for a fault, in their order."""
        found: set[str] = set()
        for file, lines in self._lines(fault):
            if (ROOT / file).stat().st_mtime > self._recorded_at:  # its lines may be others now
                found |= self._of(file)
            for line in lines:
                found |= self._at(file, line)
        if not found:  # executed at import
            for file, _ in self._lines(fault):
                found |= self._of(file)
        return self._ordered(found, Path(fault.file).stem)

    def _lines(self, fault: Fault) -> Iterable[tuple[str, list[int]]]:
        """The lines of Python in whose execution the changed line has its part."""
        if not fault.file.endswith(".lua"):
            yield fault.file, _statement(fault)
            return
        for file, line in self._doors[Path(fault.file).stem]:
            yield file, [line]

    def _at(self, file: str, line: int) -> set[str]:
        if file not in self._contexts:
            self._contexts[file] = self._data.contexts_by_lineno(str(ROOT / file))
        contexts = self._contexts[file].get(line, ())
        return {name for context in contexts if (name := context.partition("|")[0]) in self._seconds}

    def _of(self, file: str) -> set[str]:
        self._at(file, 0)
        return {name for line in self._contexts[file] for name in self._at(file, line)}

    def _ordered(self, tests: set[str], stem: str) -> list[str]:
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in sorted(tests, key=lambda name: (self._seconds[name], name)):
            by_file[name.partition("::")[0]].append(name)
        own = [name for name in by_file if stem in Path(name).stem]
        chosen = [name for file in own for name in by_file.pop(file)]
        while by_file:  # one of each file, the quickest ones first
            turn = [names.pop(0) for names in by_file.values()]
            chosen += sorted(turn, key=self._seconds.__getitem__)
            by_file = {file: left for file, left in by_file.items() if left}
        spent = 0.0
        kept: list[str] = []
        for name in chosen:
            if len(kept) < _MOST and (spent + self._seconds[name] <= _BUDGET or not kept):
                spent += self._seconds[name]
                kept.append(name)
        return kept

    @cached_property
    def _doors(self) -> dict[str, list[tuple[str, int]]]:
        """Script -> the lines of Python that call it; of what others include, the lines that call those."""
        doors: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for path in (ROOT / "streams").rglob("*.py"):
            text, file = path.read_text(), str(path.relative_to(ROOT))
            for constant, script in re.findall(r"^(\w+): Final = Script\.load\(\"(\w+)\"\)", text, re.MULTILINE):
                doors[script] += [(file, number) for number in _uses(text, constant)]
        for path in sorted((ROOT / "streams").rglob("*.lua")):
            for included in re.findall(r"^-- include (\w+)\.lua", path.read_text(), re.MULTILINE):
                doors[included] += doors[path.stem]
        return doors


def _uses(text: str, constant: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name) and node.id == constant and isinstance(node.ctx, ast.Load)
    ]


def _statement(fault: Fault) -> list[int]:
    """The lines of the smallest statement that has the changed line: coverage knows a statement by its first line."""
    tree = ast.parse((ROOT / fault.file).read_text())
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= fault.line <= (node.end_lineno or node.lineno)
    ]
    if not inside:
        return [fault.line]
    smallest = min(inside, key=lambda node: (node.end_lineno or node.lineno) - node.lineno)
    return list(range(smallest.lineno, fault.line + 1))


def _durations() -> Iterable[tuple[str, float]]:
    """How long each test took that passed."""
    for case in ET.parse(REPORT).iter("testcase"):
        if len(case.findall("failure") + case.findall("error") + case.findall("skipped")):
            continue
        module = case.attrib["classname"].replace(".", "/") + ".py"
        yield f"{module}::{case.attrib['name']}", float(case.attrib["time"])


class Guess:
    """Tests by names, where nothing was recorded: the files called like the module, then those that import it."""

    def tests(self, fault: Fault) -> list[str]:
        """The test files for a fault, the small ones first."""
        stem = Path(fault.file).stem
        if fault.file.endswith(".lua"):
            wanted = rf"\b{stem}\b|\.lua\b"
        else:
            module = fault.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            wanted = (
                rf"(?:from|import) {re.escape(module)}\b|from {re.escape(module.rpartition('.')[0])} import.*\b{stem}\b"
            )
        found = [
            (stem not in path.stem, path.stat().st_size, str(path.relative_to(ROOT)))
            for path in (ROOT / "tests").rglob("test_*.py")
            if not str(path.relative_to(ROOT)).startswith(_IGNORED)
            and (stem in path.stem or re.search(wanted, path.read_text()))
        ]
        common = [*_COMMON] if fault.file.startswith("streams/") else [str(Path("tests") / Path(fault.file).parent)]
        chosen = [name for _, _, name in sorted(found)[:5]]
        return chosen + [name for name in common if name not in chosen and (ROOT / name).exists()]
