"""Mutants: broken builds of the engine that the soak must catch, each a mistake that somebody has made for real.

`python -m tests.faults.soak.mutants [NAME...]` copies the source, breaks the copy, soaks it for a short time, and
prints which rules noticed. It ends with 1 when one was not caught, or when the text to be broken is not there any more.
Before the first, the source as it is goes through the same: when a rule breaks there, as a time limit may on a machine
that is too busy, what the mutants break says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.redis.embedded import ServerBinary, find_servers
from tests.faults.soak.nemesis import Plan
from tests.faults.soak.run import Soak

ROOT: Final = Path(__file__).parents[3]
PLAN: Final = Plan(seconds=20, kill=10, redis=2, network=4, stop=2, deploy=1)


@dataclass(frozen=True)
class Mutant:
    """One text in one file, and what is there instead."""

    name: str
    file: str
    old: str
    new: str
    test: str = ""  # what catches it when the soak does not come upon it: it needs a moment that few faults hit
    soaked: bool = True  # False: the soak has no such fault, so that whatever it found would be another thing

    def fits(self, text: str) -> bool:
        """Whether the file still has what is to be broken, at one place."""
        return text.count(self.old) == 1


MUTANTS: Final = (
    Mutant(
        "ack before the handler", "streams/executing/handler_pool.py",
        "work = self._suspects.run(delivery) if self._alone else executor.execute(delivery)",
        "delivery.holder.settle(delivery, ACKED)\n                work = executor.execute(delivery)",
    ),
    Mutant(
        "blind XACK", "streams/settling/lua/settle.lua", "return held == count", "return true",
        test="tests/streams/redis/test_scripts.py",
    ),
    Mutant(
        "unfenced renewal", "streams/consuming/lua/renew.lua",
        "if owned[ARGV[at]] == tonumber(ARGV[at + 1]) then", "if true then",
        test="tests/faults/test_processes.py::test_a_stopped_consumer_settles_nothing_it_lost",
    ),
    Mutant(
        "retry added to the shared stream", "streams/settling/settlement.py",
        'operation = [b"w", round(after * 1000), self._waiting_id(delivery)]\n'
        "                operation += _counted([inbox.encode(), *message.encode_back(carried)])\n"
        '                return [*operation, *self._record(delivery, "retried"',
        'operation = [b"w", round(after * 1000), self._waiting_id(delivery)]\n'
        '                shared = delivery.origin.split(" ")[0].encode()\n'
        "                operation += _counted([shared, *message.encode_back(carried)])\n"
        '                return [*operation, *self._record(delivery, "retried"',
    ),
    Mutant(
        "due set emptied before the add, in two calls", "streams/settling/due.py",
        "            moved, next_in, broken, self._head, shown = await scripts.release_due(",
        """            clock = await self._connection.call(b"TIME")
            now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
            due = self._keys.due()
            popped = await self._connection.call(b"ZRANGE", due, b"-inf", now_ms, b"BYSCORE", b"LIMIT", 0, 50)
            if popped:
                await self._connection.call(b"ZREM", due, *popped)
                back = [part for member in popped for part in (now_ms - 1, member)]
                await self._connection.call(b"ZADD", due, *back)
            moved, next_in, broken, self._head, shown = await scripts.release_due(""",
    ),
    Mutant(
        "MAXLEN", "streams/redis/lua/include/append.lua",
        "local id = redis.call('XADD', key, '*', unpack(fields))",
        "local id = redis.call('XADD', key, 'MAXLEN', '=', '100', '*', unpack(fields))",
    ),
    Mutant(
        "DELCONSUMER with pending entries", "streams/consuming/lua/retire_consumer.lua",
        "if not pending.err and #pending > 0 then return 0 end", "",
    ),
    Mutant(
        "group at $", "streams/consuming/lua/ensure_groups.lua",
        "redis.pcall('XGROUP', 'CREATE', KEYS[i], group, '0', 'MKSTREAM')",
        "redis.pcall('XGROUP', 'CREATE', KEYS[i], group, '$', 'MKSTREAM')",
    ),
    Mutant(
        "reclaim of what is being handled", "streams/consuming/reclaimer.py",
        "lease_ms=round(self._lease * 1000),", "lease_ms=0,",
    ),
    Mutant(
        "no reclaim", "streams/consuming/reclaimer.py",
        "            if not self._leases.fresh():", "            if True:",
    ),
    Mutant(
        "reclaim under a lock that has no TTL", "streams/consuming/reclaimer.py",
        "                for source in self._sources:\n                    await self._unless_refused(",
        "                lock = f'{{soak:0}}:inbox:{self._group}:lock'\n"
        "                await self._client.set(lock, self._consumer, nx=True)\n"
        "                if await self._client.get(lock) != self._consumer.encode():\n"
        "                    continue\n"
        "                for source in self._sources:\n                    await self._unless_refused(",
    ),
    Mutant(
        "publishing tried again without a sequence", "streams/publishing/lua/publish.lua",
        "local again = sequence <= last", "local again = false",
        test="tests/streams/publishing/test_publisher.py",
    ),
    Mutant(
        "every scheduler fires", "streams/scheduling/lua/fire.lua",
        "if state[2] or slot <= (tonumber(state[1]) or 0) then return {0, 0} end", "if state[2] then return {0, 0} end",
        test="tests/streams/scheduling/test_scheduler.py",
    ),
    Mutant("no delivery limit", "streams/executing/suspects.py", "if delivery.crashes >= self._limit:", "if False:"),
    Mutant(
        "context not reset", "streams/executing/handler_pool.py", "context = new_context()",
        'context = vars(self).setdefault(f"context {id(slot)}", new_context())',
    ),
    Mutant(
        "cancelled slot ignored", "streams/executing/handler_pool.py",
        "if slot.cancelled or task.cancelling() or getrefcount(task) > references:", "if slot.cancelled:",
        test="tests/user_code/test_cancelling.py",
    ),
    Mutant(
        "READONLY kept", "streams/redis/master_discovery.py",
        "code = error.status_code\n        text = str(error)",
        "if self.masters is None:\n            return False\n"
        "        code = error.status_code\n        text = str(error)",
        test="tests/faults/test_one_name.py::test_a_failover_behind_one_name_is_gone_on_with", soaked=False,
    ),
)  # fmt: skip


def _break(mutant: Mutant, tree: Path) -> bool:
    for name in ("schemas", "streams", "processors", "observability", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tree / mutant.file
    text = path.read_text()
    if not mutant.fits(text):
        return False
    path.write_text(text.replace(mutant.old, mutant.new))
    return True


def main() -> int:
    """Soaks one mutant after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="some of them; all without")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--ls", action="store_true", help="list them")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if options.ls:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    binary = max(find_servers(), key=lambda each: each.version)
    print(f"seed {options.seed}, {binary}, {PLAN}")
    if any(mutant.soaked for mutant in chosen):
        directory = Path(tempfile.mkdtemp(prefix="unbroken-"))
        if broken := _run(ROOT, binary, options.seed, directory):
            print(f"as it is: {_rules(broken)}; journal, logs and data: {directory}")
            return 1
        shutil.rmtree(directory)
        print("as it is: all rules held", flush=True)
    caught = sum(_soak(mutant, binary, options.seed) for mutant in chosen)
    print(f"{caught} of {len(chosen)} caught")
    return int(caught < len(chosen))


def _run(tree: Path, binary: ServerBinary, seed: int, directory: Path) -> Counter[str]:
    """Which rules break, and how often. One message kills its process: of two, five times each, a busy machine is not
    done in the time.
    """
    soak = Soak(seed, 200_000, PLAN, consumers=3, exits=1, tree=tree, told=False, patience=25)
    return asyncio.run(soak.run(binary, directory)).broken()


def _rules(broken: Counter[str]) -> str:
    return ", ".join(f"{rule} x {count}" for rule, count in broken.most_common(4))


def _soak(mutant: Mutant, binary: ServerBinary, seed: int) -> bool:
    tree = Path(tempfile.mkdtemp(prefix="mutant-"))
    try:
        if not _break(mutant, tree):
            print(f"{mutant.name}: {mutant.file} has changed, so the mutant breaks nothing: repair the mutant")
            return False
        broken = _run(tree, binary, seed, tree / "run") if mutant.soaked else Counter()
        if not broken and mutant.test and (failed := _fails(mutant.test, tree)):
            print(f"{mutant.name}: caught by {failed}", flush=True)
            return True
        print(f"{mutant.name}: {'caught: ' + _rules(broken) if broken else 'NOT CAUGHT'}", flush=True)
        return bool(broken)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _fails(test: str, tree: Path) -> str:
    """The first test that fails on the broken copy, if one does."""
    shutil.copy(ROOT / "pyproject.toml", tree)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", test],
        cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return found[0] if found else ""


if __name__ == "__main__":
    sys.exit(main())
