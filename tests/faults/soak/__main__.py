"""`python -m tests.faults.soak`: breaks everything for as long as it is told to, and ends with 1 when a rule broke."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from streams.redis.embedded import find_servers
from tests.faults.soak.nemesis import Plan
from tests.faults.soak.run import Soak


def main() -> int:
    """Runs one soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--events", type=int, default=200_000, help="the most to publish")
    parser.add_argument("--seconds", type=float, default=180.0, help="over which the faults come")
    for kind, count in (("kill", 100), ("redis", 20), ("network", 20), ("stop", 10), ("deploy", 2)):
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N", help=f"{kind} faults")
    parser.add_argument("--consumers", type=int, default=4)
    parser.add_argument("--exits", type=int, default=4, metavar="N", help="messages that kill their process")
    parser.add_argument("--redis-version", default="", help="7.0 or 8.2; else the newest found")
    parser.add_argument("--keep", type=Path, help="directory to keep journal, logs and data in, whatever the verdict")
    options = parser.parse_args()
    servers = sorted(find_servers(), key=lambda binary: binary.version)
    servers = [each for each in servers if str(each).partition("-")[2].startswith(options.redis_version)]
    if not servers:
        parser.error("no redis-server of that version")
    plan = Plan(options.seconds, options.kill, options.redis, options.network, options.stop, options.deploy)
    soak = Soak(options.seed, options.events, plan, options.consumers, options.exits)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    sys.stderr.write(f"seed {soak.seed}, {servers[-1]}, {plan}\n")
    began = time.monotonic()
    verdict = asyncio.run(soak.run(servers[-1], directory))
    print(f"seed {soak.seed}, {servers[-1]}, {time.monotonic() - began:.0f} s\n{verdict}")
    if verdict.violations:
        print(f"journal, logs and data: {directory}\nagain: SEED={soak.seed} make soak")
        return 1
    if options.keep is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
