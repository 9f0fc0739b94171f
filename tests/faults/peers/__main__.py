"""`python -m tests.faults.peers`: each system under the same faults, with default and with tuned settings.

It ends with 1 when this project, tuned or not, lost an event or handled one again without a reason.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import orjson

from streams.redis.embedded import find_servers
from tests.faults.peers import venv
from tests.faults.peers.peer import PEERS, SETTINGS
from tests.faults.peers.run import Bout
from tests.faults.peers.table import Row, table
from tests.faults.soak.nemesis import Plan


def main() -> int:
    """Runs one bout after the other: on one machine they would be each other's faults."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}; all without")
    parser.add_argument("--settings", choices=SETTINGS, help="one of them; both without")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--events", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="over which the faults come")
    for kind, count in (("kill", 6), ("redis", 2), ("network", 4), ("stop", 1)):
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N", help=f"{kind} faults")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--patience", type=float, default=75.0, help="seconds that each has after the last fault")
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("--keep", type=Path, help="directory to keep journals, logs and data in")
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    servers = sorted(find_servers(), key=lambda binary: binary.version)
    if not servers:
        parser.error("no redis-server found")
    chosen = [peer for peer in PEERS if not options.names or peer.name in options.names]
    for peer in chosen:
        venv.binaries(peer.name)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))  # to end what runs in any case
    plan = Plan(options.seconds, options.kill, options.redis, options.network, options.stop, deploy=0)
    bout = Bout(options.seed, options.events, plan, options.workers, options.patience)
    sys.stderr.write(f"seed {bout.seed}, {servers[-1]}, {bout.events} events, {plan}\n")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="peers-"))
    rows = []
    for settings in [options.settings] if options.settings else SETTINGS:
        for peer in chosen:
            score = asyncio.run(bout.run(peer, settings, servers[-1], directory / f"{peer.name}-{settings}"))
            rows.append(Row(peer, settings, score))
            sys.stderr.write(" ".join(rows[-1].cells()) + "\n")
    print(orjson.dumps([row.data() for row in rows]).decode() if options.json else table(rows))
    if options.keep is None:
        shutil.rmtree(directory)
    ours = [row.score for row in rows if row.peer.name == "ours"]
    return int(any(score.lost or score.again_without_reason for score in ours))


if __name__ == "__main__":
    sys.exit(main())
