"""Selection: which tests ought to notice a fault, and in which order they are run.

All tests were run once with coverage, each under its own name. Those that executed the changed line are chosen: of the
test file that has the module's name first, then the quickest ones, by turns of every test file, in batches up to a
budget of seconds. A script in Lua is executed where its Python door is. What is executed at import (a class, a
constant) is for all tests that execute anything in the module. What child processes execute is recorded of no test: for
the commands the tests of commands are chosen too, and others by their names.

Test files that were written or changed since are recorded anew before they are used. Of a source file that was changed
since, all tests are chosen that executed any of it, since its lines may be others now.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from coverage import CoverageData

from tests.mutation.faults import ROOT, Fault, files
from tests.mutation.warm import Warm

HOME: Final = ROOT / ".mutation"
DATA: Final = HOME / "coverage"
_STATE: Final = HOME / "recorded.json"
_BATCH: Final = 25.0  # seconds that the tests of one batch took when they were recorded
_BUDGET: Final = 150.0  # seconds for all batches of one fault
_MOST: Final = 80  # tests in a batch
_PER_FILE: Final = 240.0  # seconds in which a test file is recorded; the rest of it is left out
# Whole processes under faults, the documentation, and what is about the repository: too slow, or about something else.
_IGNORED: Final = (
    "tests/faults", "tests/examples", "tests/mutation", "tests/test_docs.py", "tests/test_packaging.py",
    "tests/test_compose.py",
)  # fmt: skip
_COMMON: Final = (
    "tests/conformance/test_outcomes.py", "tests/conformance/test_moves.py", "tests/streams/consuming/test_consumer.py",
    "tests/streams/admin/test_cancel_and_pause.py",
)  # fmt: skip
_CONFIG: Final = """
[run]
branch = false
parallel = true
source_pkgs = schemas, streams, processors, observability
data_file = {data}
"""


@dataclass
class Recorded:
    """What is kept beside the coverage: the digest of each file as it was, and how long each test took that passed."""

    files: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Recorded:
        """The last one, or an empty one."""
        return cls(**json.loads(_STATE.read_text())) if _STATE.exists() else cls()

    def add(self, name: str, digest: str, seconds: dict[str, float], data: CoverageData) -> None:
        """Keeps what was recorded of a test file."""
        kept = CoverageData(str(DATA))
        kept.read()
        kept.update(data)
        kept.write()
        self.seconds = {test: took for test, took in self.seconds.items() if test.partition("::")[0] != name} | seconds
        self.files[name] = digest
        _STATE.write_text(json.dumps({"files": self.files, "seconds": self.seconds}))


def record(jobs: int, *, anew: bool = False) -> None:
    """Runs the test files that are not recorded as they are now; keeps which lines each test executes, and how long.

    One file at a time, each kept when it ends: a recording that is interrupted goes on with the next one. A file that
    takes long is cut off: what has run until then is kept.
    """
    HOME.mkdir(exist_ok=True)
    if anew:
        for old in (*HOME.glob("coverage*"), _STATE):
            old.unlink(missing_ok=True)
    recorded = Recorded.read()
    recorded.files |= {name: _digest(name) for name in files() if name not in recorded.files}
    left = sorted(name for name in _test_files() if recorded.files.get(name) != _digest(name))
    if not left:
        return
    random.Random(0).shuffle(left)  # when it is interrupted, no package has been left out
    print(f"recording which test of {len(left)} files executes what; all of them take some ten minutes", flush=True)
    lock = threading.Lock()

    def work(number: int) -> None:
        warm = Warm(ROOT, HOME / f"output-{number}")
        while True:
            with lock:
                if not left:
                    break
                name = left.pop()
            digest = _digest(name)
            data, seconds = _run(warm, HOME / f"coverage-{number}", HOME / f"tests-{number}.xml", name)
            with lock:
                if data is not None:  # otherwise the next run tries again, and until then it is chosen by its name
                    recorded.add(name, digest, seconds, data)
                print(f"  {len(seconds)} tests of {name}", flush=True)
        warm.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run(warm: Warm, data: Path, report: Path, name: str) -> tuple[CoverageData | None, dict[str, float]]:
    """Runs a test file with coverage; returns what was covered, and how long each test took that passed."""
    config = data.with_suffix(".ini")
    config.write_text(_CONFIG.format(data=data))
    for old in (data, report):
        old.unlink(missing_ok=True)
    warm.pytest(
        [
            "--timeout", "30", "--cov", f"--cov-config={config}", "--cov-context=test", "--cov-report=",
            f"--junit-xml={report}", name,
        ],
        _PER_FILE,
    )  # fmt: skip
    if not data.exists() or not report.exists():
        return None, {}
    covered = CoverageData(str(data))
    covered.read()
    return covered, dict(_durations(report))


def _test_files() -> list[str]:
    found = (str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py")))
    return [name for name in found if not name.startswith(_IGNORED)]


def _digest(name: str) -> str:
    return hashlib.blake2b((ROOT / name).read_bytes(), digest_size=16).hexdigest()


class Selection:
    """What was recorded."""

    def __init__(self) -> None:
        self._data = CoverageData(str(DATA))
        self._data.read()
        recorded = Recorded.read()
        self._files, self._seconds = recorded.files, recorded.seconds
        self._contexts: dict[str, dict[int, list[str]]] = {}
        self._unrecorded = {name for name in _test_files() if name not in recorded.files}

    def tests(self, fault: Fault) -> list[list[str]]:
        """The tests for a fault, in their order, in batches."""
        found: set[str] = set()
        for file, lines in self._lines(fault):
            if _digest(file) != self._files.get(file):  # its lines may be others now
                found |= self._of(file)
            for line in lines:
                found |= self._at(file, line)
        if not found:  # executed at import, and so for no test in particular
            for file, _ in self._lines(fault):
                found |= self._of(file)
            named = tuple(name for batch in Guess().tests(fault) for name in batch)
            found |= {name for name in self._seconds if name.startswith(named)}
        if fault.file.startswith("streams/cli/"):  # tests run commands as processes of their own
            found |= {name for name in self._seconds if name.startswith("tests/cli/")}
        batches = self._batches(found, Path(fault.file).stem) if found else Guess().tests(fault)
        by_name = [name for batch in Guess().tests(fault) for name in batch if name in self._unrecorded]
        return [*batches, by_name] if found and by_name else batches

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

    def _batches(self, tests: set[str], stem: str) -> list[list[str]]:
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in sorted(tests, key=lambda name: (self._seconds[name], name)):
            by_file[name.partition("::")[0]].append(name)
        own = [name for name in by_file if stem in Path(name).stem]
        chosen = [name for file in own for name in by_file.pop(file)]
        while by_file:  # one of each file, the quickest ones first
            turn = [names.pop(0) for names in by_file.values()]
            chosen += sorted(turn, key=self._seconds.__getitem__)
            by_file = {file: left for file, left in by_file.items() if left}
        batches: list[list[str]] = [[]]
        spent = total = 0.0
        for name in chosen:
            took = self._seconds[name]
            if total and total + took > _BUDGET:
                continue
            if batches[-1] and (spent + took > _BATCH or len(batches[-1]) == _MOST):
                batches.append([])
                spent = 0.0
            batches[-1].append(name)
            spent, total = spent + took, total + took
        return batches

    @cached_property
    def _doors(self) -> dict[str, list[tuple[str, int]]]:
        """Script -> the lines of Python that call it; of what others include, the lines that call those."""
        doors: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for path in (ROOT / "streams").rglob("*.py"):
            text, file = path.read_text(), str(path.relative_to(ROOT))
            for constant, script in re.findall(r"^(\w+): Final = Script\.load\(\"\w+/(\w+)\"\)", text, re.MULTILINE):
                doors[script] += [(file, number) for number in _uses(text, constant)]
        for path in sorted((ROOT / "streams").rglob("*.lua")):
            for included in re.findall(r"^-- include \w+/(\w+)\.lua", path.read_text(), re.MULTILINE):
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


def _durations(report: Path) -> Iterable[tuple[str, float]]:
    """How long each test took that passed."""
    for case in ET.parse(report).iter("testcase"):
        if len(case.findall("failure") + case.findall("error") + case.findall("skipped")):
            continue
        module = case.attrib["classname"].replace(".", "/") + ".py"
        yield f"{module}::{case.attrib['name']}", float(case.attrib["time"])


class Guess:
    """Tests by names, where nothing was recorded: the files called like the module, then those that import it."""

    def tests(self, fault: Fault) -> list[list[str]]:
        """The test files for a fault, the small ones first: one batch."""
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
        return [chosen + [name for name in common if name not in chosen and (ROOT / name).exists()]]
