"""`python -m tests.mutation`: draws faults by a seed, and says which of them no test notices. See the package."""

from __future__ import annotations

import argparse
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutation.faults import PACKAGES, ROOT, Fault, faults_of, files
from tests.mutation.selection import DATA, Guess, Selection, record

NOTICED_AT_LEAST: Final = 0.9
_PER_TEST: Final = 20  # seconds
_PER_FAULT: Final = 90  # seconds; what goes in circles is noticed before, by the limit of its test
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: the test that noticed it, empty for none; how many were asked; the seconds it took."""

    fault: Fault
    by: str
    asked: int
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

    def write(self, file: str, text: str) -> None:
        """Writes one file; what was compiled of it goes, since a second is not told from the next one by its time."""
        path = self.home / file
        path.write_text(text)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def run(self, tests: list[str]) -> str:
        """Runs tests until one fails; names it, or is empty."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            [
                sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider",
                "--timeout", str(_PER_TEST), "-k", "not redis-7", *tests,
            ],
            cwd=self.home, env=environment | {"PYTHONPATH": str(self.home)}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=_PER_FAULT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: pytest, and what the tests have started
            process.communicate()
            return ""  # too many tests for a busy machine: nobody has noticed
        if process.returncode == 0:
            return ""
        found = _FAILED.search(out)
        if found is None and process.returncode == 5:  # nothing was collected
            return ""
        return found[1] if found else f"(pytest ended with {process.returncode}: {out.strip()[-200:]})"


class Trial:
    """Faults, and copies in which they are tried."""

    def __init__(self, selection: Selection | Guess) -> None:
        self._selection = selection
        self._sound: dict[str, bool] = {}  # test -> whether it passes on the code as it is
        self._lock = threading.Lock()

    def judge(self, fault: Fault, copy: Copy) -> Verdict:
        """Puts the fault in, asks the tests, takes it out."""
        source = (ROOT / fault.file).read_text()
        tests, began = self._selection.tests(fault), time.monotonic()
        by = ""
        while tests:
            copy.write(fault.file, fault.apply(source))
            by = copy.run(tests)
            copy.write(fault.file, source)
            if "::" not in by or self._is_sound(by, copy):
                break
            # It fails by itself, so it has noticed nothing: the others. Of whole files there are none.
            tests, by = [test for test in tests if test != by and by in tests], ""
        return Verdict(fault, by, len(tests), time.monotonic() - began)

    def _is_sound(self, test: str, copy: Copy) -> bool:
        with self._lock:
            known = self._sound.get(test)
        if known is None:
            known = copy.run([test]) == ""
            with self._lock:
                self._sound[test] = known
        return known


def draw(seed: int, count: int, only: str) -> Iterator[Fault]:
    """Faults by a seed, without those that are known to change nothing."""
    every = [fault for file in files(only) for fault in faults_of(file, (ROOT / file).read_text())]
    if not every:
        raise SystemExit(f"no fault can be put into {only}")
    print(f"{len(every):,} faults in {len({fault.file for fault in every})} files; seed {seed}", flush=True)
    random.Random(seed).shuffle(every)
    for fault in every:
        if count == 0:
            return
        source = (ROOT / fault.file).read_text()
        if not fault.is_program(source):
            continue
        if (known := fault.equivalent(source)) is not None:
            print(f"equivalent  {fault.file}:{fault.line} ({fault.kind}): {known.reason}", flush=True)
            continue
        count -= 1
        yield fault


def run(faults: list[Fault], jobs: int) -> list[Verdict]:
    """Tries them, some at a time, and prints each as it ends."""
    trial = Trial(Selection() if DATA.exists() else Guess())
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        waiting.put(fault)
    verdicts: list[Verdict] = []

    def work(copy: Copy) -> None:
        while True:
            try:
                fault = waiting.get_nowait()
            except queue.Empty:
                return
            verdict = trial.judge(fault, copy)
            verdicts.append(verdict)
            what = f"noticed by {verdict.by}" if verdict.by else f"NOT NOTICED by {verdict.asked}"
            print(f"{verdict.seconds:5.1f} s  {fault.file}:{fault.line} ({fault.kind}): {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="streams-mutation-") as home:
        threads = [threading.Thread(target=work, args=(Copy(Path(home) / str(number)),)) for number in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return verdicts


def main() -> int:
    """Draws, tries, prints; 0 when enough was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what is drawn (default: another one each time)")
    parser.add_argument("--faults", type=int, default=60, help="how many (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--only", default="", metavar="PATH", help="in files whose path begins so")
    parser.add_argument("--record", action="store_true", help="record anew which test executes which line")
    parser.add_argument("--guess", action="store_true", help="choose tests by names where nothing is recorded")
    options = parser.parse_args()
    if options.record or not (DATA.exists() or options.guess):
        record(options.jobs)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    verdicts = run(list(draw(seed, options.faults, options.only)), options.jobs)
    missed = [verdict.fault for verdict in verdicts if not verdict.by]
    for fault in sorted(missed, key=lambda fault: (fault.file, fault.start)):
        print(f"\n{fault.diff((ROOT / fault.file).read_text())}")
    rate = 1 - len(missed) / len(verdicts)
    print(
        f"\nseed {seed}: {len(verdicts) - len(missed)} of {len(verdicts)} noticed ({rate:.0%}) "
        f"in {time.monotonic() - began:.0f} s"
    )
    return 0 if rate >= NOTICED_AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
