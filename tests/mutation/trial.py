"""Trial: one fault at a time in a copy of the source, and the tests that are run on it.

A fault counts as noticed when a test fails on it twice (`again.py`), and passes on the code as it is. A test that hangs
fails by its time limit; it hangs again when it is run alone, or has noticed nothing. Tests that are cut off because the
machine is busy, and names that pytest does not find, notice nothing.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.mutation.faults import PACKAGES, ROOT, Fault
from tests.mutation.warm import Warm

_PER_TEST: Final = 20  # seconds
_AT_ONCE: Final = 15  # tests that are run on the code as it is
_PER_BATCH: Final = 120  # seconds; a hang ends before, by the limit of its test
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (tests/\S.*?)(?: - .*)?$", re.MULTILINE)  # not a log line
_NOT_FOUND: Final = re.compile(r"^ERROR: not found: \S*?(tests/\S+\.py::.+)$", re.MULTILINE)
_HUNG: Final = re.compile(r"Timeout \(>[\d.]+s\)")


class Chooser(Protocol):
    """What chooses the tests of a fault."""

    def tests(self, fault: Fault) -> list[list[str]]:
        """The tests, in batches: those of the first one are the likeliest to notice it."""


@dataclass(frozen=True)
class Run:
    """What a run of tests has come to: the test that failed, if any; whether it hung; whether the run was cut off."""

    failed: str = ""
    hung: bool = False
    cut_off: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: the test that noticed it, empty for none; how many were run; the seconds it took."""

    fault: Fault
    by: str
    hung: bool
    asked: int
    cut_off: int  # batches
    seconds: float


class Copy:
    """A copy of the source in which one fault is at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
        for name in (*PACKAGES, "tests", "examples", "docs", "benchmarks"):
            shutil.copytree(ROOT / name, home / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "redis.conf", "docker-compose.yml", "Makefile"):
            shutil.copy(ROOT / name, home / name)
        self._warm = Warm(home, home / "output")
        self.close = self._warm.close

    def write(self, file: str, text: str) -> None:
        """Writes one file; what was compiled of it goes, since a second is not told from the next one by its time."""
        path = self.home / file
        path.write_text(text)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def run(self, tests: list[str], without: Iterable[str] = ()) -> Run:
        """Runs tests until one fails twice; of a whole file those are left out that are named in `without`."""
        arguments = ["-x", "-p", "no:randomly", "-p", "tests.mutation.again", "--timeout", str(_PER_TEST), *tests]
        arguments += [f"--deselect={test}" for test in sorted(without)]
        code, out, cut_off = self._warm.pytest(arguments, _PER_BATCH)
        if cut_off:
            return Run(cut_off=True)
        if code in (0, 5):  # 5: nothing was collected
            return Run()
        if found := _FAILED.search(out):
            return Run(found[1], hung=_HUNG.search(out) is not None)
        if code == 4:  # a name from the recording that is no test any more: the others
            unknown = set(_NOT_FOUND.findall(out))
            left = [test for test in tests if test not in unknown]
            return self.run(left, without) if left and len(left) < len(tests) else Run()
        return Run(f"(pytest ended with {code}: {out.strip()[-200:]})")


class Trial:
    """Faults, and copies in which they are tried."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._unsound: set[str] = set()  # tests that fail on the code as it is

    def judge(self, fault: Fault, copy: Copy) -> Verdict:
        """Puts the fault in, runs the tests batch by batch until one notices it, takes it out."""
        source = (ROOT / fault.file).read_text()
        began, asked, cut_off = time.monotonic(), 0, 0
        copy.write(fault.file, fault.apply(source))
        try:
            for batch in self._chooser.tests(fault):
                tests = [test for test in batch if test not in self._unsound]
                asked += len(tests)
                while tests:
                    run = copy.run(tests, self._unsound)
                    cut_off += run.cut_off
                    if not run.failed:
                        break
                    once_more = run.hung or "::" not in run.failed
                    if not once_more or copy.run([run.failed] if run.failed in tests else tests).failed:
                        return Verdict(fault, run.failed, run.hung, asked, cut_off, time.monotonic() - began)
                    # It has hung once: the others. Of whole files there are none.
                    tests = [test for test in tests if test != run.failed and run.failed in tests]
        finally:
            copy.write(fault.file, source)
        return Verdict(fault, "", False, asked, cut_off, time.monotonic() - began)

    def unsound(self, verdicts: list[Verdict], copy: Copy) -> set[str]:
        """Those of the tests that have noticed something which fail on the code as it is; they are not run again."""
        left = sorted({verdict.by for verdict in verdicts if "::" in verdict.by})
        found: set[str] = set()
        while left:
            run = copy.run(left[:_AT_ONCE])
            if run.failed in left:
                found.add(run.failed)
                left.remove(run.failed)
            elif run.failed or run.cut_off:  # which of them it is, is not known
                found |= {test for test in left[:_AT_ONCE] if copy.run([test]) != Run()}
                left = left[_AT_ONCE:]
            else:
                left = left[_AT_ONCE:]
        self._unsound |= found
        return found
