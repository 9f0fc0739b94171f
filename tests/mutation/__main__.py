"""`python -m tests.mutation`: draws faults by a seed, and says which of them no test notices. See the package."""

from __future__ import annotations

import argparse
import json
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutation.faults import ROOT, Fault, faults_of, files
from tests.mutation.selection import DATA, HOME, Guess, Selection, record
from tests.mutation.trial import Copy, Trial, Verdict

NOTICED_AT_LEAST: Final = 0.9


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


def missed_before(seed: int) -> list[Fault]:
    """The faults that no test noticed the last time, by their text: the lines above them may be others now."""
    found = []
    for file, line, old, new, kind in json.loads(_missed(seed).read_text()):
        source = (ROOT / file).read_text()
        same = [fault for fault in faults_of(file, source) if (fault.kind, *fault.lines(source)) == (kind, old, new)]
        if not same:
            print(f"gone        {file}:{line} ({kind})", flush=True)
        elif (known := same[0].equivalent(source)) is not None:
            print(f"equivalent  {file}:{line} ({kind}): {known.reason}", flush=True)
        else:
            found.append(min(same, key=lambda fault: abs(fault.line - line)))
    return found


def _missed(seed: int) -> Path:
    return HOME / f"missed-{seed}.json"


def run(faults: list[Fault], jobs: int) -> list[Verdict]:
    """Tries them, some at a time, and prints each as it ends."""
    trial = Trial(Selection() if DATA.exists() else Guess())
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="streams-mutation-") as home:
        copies = [Copy(Path(home) / str(number)) for number in range(jobs)]
        while faults:
            new = _judge(faults, trial, copies)
            unsound = trial.unsound(new, copies[0])
            for test in sorted(unsound):
                print(f"{test} fails on the code as it is: the faults that it noticed are tried again", flush=True)
            verdicts += [verdict for verdict in new if verdict.by not in unsound]
            faults = [verdict.fault for verdict in new if verdict.by in unsound]
        for copy in copies:
            copy.close()
    return verdicts


def _judge(faults: list[Fault], trial: Trial, copies: list[Copy]) -> list[Verdict]:
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
            what += " (it hangs)" if verdict.hung else ""
            what += f" ({verdict.cut_off} batches cut off by the clock)" if verdict.cut_off else ""
            print(f"{verdict.seconds:5.1f} s  {fault.file}:{fault.line} ({fault.kind}): {what}", flush=True)

    threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
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
    parser.add_argument("--again", action="store_true", help="those that no test noticed the last time with this seed")
    options = parser.parse_args()
    if not options.guess:
        record(options.jobs, anew=options.record)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    faults = missed_before(seed) if options.again else list(draw(seed, options.faults, options.only))
    verdicts = run(faults, options.jobs)
    missed = [verdict.fault for verdict in verdicts if not verdict.by]
    left = []
    for fault in sorted(missed, key=lambda fault: (fault.file, fault.start)):
        source = (ROOT / fault.file).read_text()
        print(f"\n{fault.diff(source)}")
        left.append((fault.file, fault.line, *fault.lines(source), fault.kind))
    HOME.mkdir(exist_ok=True)
    _missed(seed).write_text(json.dumps(left))
    rate = 1 - len(missed) / len(verdicts) if verdicts else 1.0
    print(
        f"\nseed {seed}: {len(verdicts) - len(missed)} of {len(verdicts)} noticed ({rate:.1%}), "
        f"{sum(verdict.hung for verdict in verdicts)} of them by a hang, in {time.monotonic() - began:.0f} s"
    )
    return 0 if rate >= NOTICED_AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
