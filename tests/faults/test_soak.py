"""A short soak: a kill of everything there is, in half a minute; `make soak` takes three."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.redis.embedded import ServerBinary
from tests.faults.soak.check import Violation
from tests.faults.soak.journal import Line, read
from tests.faults.soak.mutants import MUTANTS, ROOT, Mutant
from tests.faults.soak.nemesis import Plan
from tests.faults.soak.run import Soak


def evidence(journal: list[Line], violation: Violation) -> list[str]:
    """What the journal says of the event and the processes of a violation, and of all faults: directories are lost."""
    numbers = set(map(int, re.findall(r"\d+", violation.about)))
    return [
        str(line)
        for line in journal
        if line.get("n") in numbers
        or line["what"] in ("redis_kill", "redis_up", "network", "heal")
        or (line.get("pid") in numbers and line["what"] not in ("start", "end", "failed"))
    ]


@pytest.mark.newest_redis
@pytest.mark.timeout(240)
async def test_all_rules_hold(redis_binary: ServerBinary, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The seed of the run is the seed of the faults; journal, logs and data of a failure are in its directory."""
    seed: int = request.config.getoption("randomly_seed", 0)
    plan = Plan(15, kill=6, redis=2, network=2, stop=1, deploy=1)
    soak = Soak(seed, 4000, plan, consumers=3, exits=1, told=False)
    verdict = await soak.run(redis_binary, tmp_path / "soak")
    print(f"seed {seed}\n{verdict}")
    if verdict.violations:
        print("\n".join(evidence(read(tmp_path / "soak" / "journal.jsonl"), verdict.violations[0])))
    assert not verdict.violations, f"SEED={seed} make soak; journal, logs and data: {tmp_path}\n{verdict}"
    figures = verdict.figures
    done = [figures[kind] for kind in ("consumers_killed", "redis_killed", "network_faults", "consumers_stopped")]
    assert done == [6, 2, 2, 1], "a fault found nobody to hurt"
    assert figures["published"] > 100
    assert figures["effects"] > 0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_the_source_of_today(mutant: Mutant) -> None:
    """A text that has moved is noticed here, and not in the hour when the mutants are soaked."""
    assert mutant.fits((ROOT / mutant.file).read_text())
    assert not mutant.test or (ROOT / mutant.test.partition("::")[0]).is_file()
