"""What is installed works: each extra alone starts what it is for, and a project of other people has its own names."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import pytest

from tests.support.installed import Environment, build_wheels
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(180)

ENGINE: Final = "planning-bord-streams"
APPLICATION: Final = "planning-bord"

HARNESS: Final = """
import asyncio
from streams import Event, Processor
from streams.testing import Harness

class Noted(Event, stream="notes", version=1):
    n: int

notes, seen = Processor("notes"), []

@notes.on(Noted)
async def note(event: Noted) -> None:
    seen.append(event.n)

async def main() -> None:
    async with Harness(notes) as streams:
        await streams.publish(Noted(n=1))
        await streams.run()

asyncio.run(main())
assert seen == [1]
"""

# Extra -> a Python program that uses what it brings.
OF_THE_ENGINE: Final = {
    "cli": "import sys; sys.argv = ['streams', '--help']; from streams.cli import main; main()",
    "tracing": "from observability import instrument; assert instrument('probe')",
    "embedded": "from streams.redis.embedded import _in_wheel; assert _in_wheel()",
    "uvloop": "import streams.consuming.runner as r, uvloop; r._loop_factory() is uvloop.new_event_loop or exit(1)",
    "testing": HARNESS,
    "sql": "from streams.sql import Outbox, make_engine; make_engine('sqlite+aiosqlite:///probe.db')",
    "storage": "from streams.messages.claims import ClaimStore; ClaimStore('file:///tmp')",
    "faust": "import faust",
}
# Extra -> the module that it is for.
OF_THE_APPLICATION: Final = {
    "email": ("-m", "processors.email", "--help"),
    "inventory": ("-m", "processors.inventory", "--help"),
    "file": ("-m", "processors.file", "--help"),
    "report": ("-m", "processors.report", "--help"),
    "database": ("-m", "processors.shared.database", "--help"),
    "downloads": ("-m", "processors.shared.storage", "--help"),
    "demo": ("streams", "demo", "--help"),
    "examples": ("-c", "import fastapi, processors.email, processors.file, processors.inventory, processors.report"),
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both wheels."""
    return build_wheels(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def environment(tmp_path: Path, wheels: list[Path]) -> Environment:
    """An empty environment."""
    return Environment(tmp_path, wheels)


def test_every_extra_is_tried_here() -> None:
    """A new one needs its line above."""
    from tests.test_packaging import PROJECTS

    assert set(OF_THE_ENGINE) == set(PROJECTS[ENGINE]["project"]["optional-dependencies"])
    assert set(OF_THE_APPLICATION) == set(PROJECTS[APPLICATION]["project"]["optional-dependencies"])


@pytest.mark.parametrize("extra", OF_THE_ENGINE)
def test_an_extra_of_the_engine_is_enough_for_what_it_is_for(environment: Environment, extra: str) -> None:
    """Alone, in an environment with nothing else."""
    environment.install(ENGINE, extra)
    result = environment.run("-c", OF_THE_ENGINE[extra])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("extra", OF_THE_APPLICATION)
def test_an_extra_of_the_application_is_enough_for_what_it_is_for(environment: Environment, extra: str) -> None:
    """Alone, with the engine that it asks for."""
    environment.install(APPLICATION, extra, beside=(ENGINE,))
    result = environment.run(*OF_THE_APPLICATION[extra])
    assert result.returncode == 0, result.stderr


def test_without_extras_each_part_names_the_one_it_needs(environment: Environment) -> None:
    """In one line, with exit code 2; what needs none works."""
    environment.install(APPLICATION, beside=(ENGINE,))
    needs = {extra: extra for extra in ("email", "inventory", "file", "report")}
    needs |= {"shared.database": "database", "shared.storage": "downloads"}
    for module, needed in needs.items():
        result = environment.run("-m", f"processors.{module}")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), (module, result.stderr)
        assert f"pip install 'planning-bord[{needed}]'" in result.stderr
    for arguments in (("streams", "demo"), ("-m", "streams", "demo")):
        result = environment.run(*arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert "pip install 'planning-bord[demo]'" in result.stderr
    for module, extra in (("streams.testing", "testing"), ("streams.sql", "sql")):
        result = environment.run("-c", f"import {module}")
        assert (
            f"MissingExtra: {module} needs the extra {extra}: pip install 'planning-bord-streams[{extra}]'"
            in result.stderr
        )
    assert environment.run("streams", "schema", "UserRegistered").returncode == 0


def test_the_demo_of_the_wheel_beside_the_examples_of_another_project(environment: Environment, tmp_path: Path) -> None:
    """It is installed under a name that no other project has, as are the fakes; each part finds the others."""
    environment.install(APPLICATION, "demo", beside=(ENGINE,))
    (tmp_path / "project" / "examples").mkdir(parents=True)
    (tmp_path / "project" / "examples" / "__init__.py").write_text(
        "raise SystemExit('the examples of another project')"
    )
    for program in (
        ("streams", "demo"),
        ("-m", "streams", "demo"),
        ("-m", "planning_bord_examples.demo"),
        ("-m", "planning_bord_examples.fakes.mail_server"),
        ("-m", "planning_bord_examples.fakes.supplier"),
    ):
        result = environment.run(*program, "--help", cwd=tmp_path / "project")
        assert (result.returncode, result.stderr) == (0, ""), program
    code = (
        "import planning_bord_examples.demo.command, planning_bord_examples.demo.scenario_mail as s, sys; "
        "from planning_bord_examples.demo import environment; print(environment.FAKES, 'examples' in sys.modules)"
    )
    result = environment.run("-c", code, cwd=tmp_path / "project")
    assert result.stdout.split() == ["planning_bord_examples.fakes", "False"], result.stderr


FOREIGN: Final = {
    "schemas.py": "class OrderIn: ...\n",
    "processors/__init__.py": "",
    "observability/__init__.py": "",
    "shop.py": """
from streams import Event, Processor, run

class UserRegistered(Event, stream="accounts", version=1):
    id: int

billing = Processor("billing")

@billing.on(UserRegistered)
async def open_account(event: UserRegistered) -> None:
    print(f"account {event.id}", flush=True)

if __name__ == "__main__":
    run(billing)
""",
    "publish.py": """
import asyncio
from shop import UserRegistered
from streams import Streams

async def main() -> None:
    async with Streams() as streams:
        print((await streams.publish(UserRegistered(id=1))).id)

asyncio.run(main())
""",
    "unit.py": """
import asyncio
from shop import UserRegistered, billing
from streams.testing import Harness

async def main() -> None:
    async with Harness(billing) as streams:
        await streams.publish(UserRegistered(id=7))
        await streams.run()

asyncio.run(main())
""",
}


@pytest.mark.newest_redis
def test_a_project_with_names_of_its_own(
    environment: Environment, tmp_path: Path, redis_server: RedisServer, app: str
) -> None:
    """`schemas.py`, `processors/`, `observability/`, an event `UserRegistered`: publishing, consuming, the command
    line and the harness work, and no event of Planning Bord is registered.
    """
    environment.install(ENGINE, "cli", "testing")
    project = tmp_path / "project"
    for name, text in FOREIGN.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    env = {"REDIS_URL": redis_server.url, "QUEUE_PREFIX": app, "STREAMS_EVENTS": "shop", "PYTHONPATH": str(project)}

    def run(*arguments: str) -> str:
        result = environment.run(*arguments, cwd=project, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout

    log = tmp_path / "shop.log"
    process = environment.start("shop.py", cwd=project, env=env, output=log)
    try:
        id = run("publish.py")
        wait_until_sync(lambda: "account 1" in log.read_text(), 20, log.read_text)
        wait_until_sync(lambda: "acked" in run("streams", "event", id.strip()), 20)
        run("streams", "publish", "UserRegistered", "id=2")
        wait_until_sync(lambda: "account 2" in log.read_text(), 20, log.read_text)
        (row,) = run("streams", "schema").splitlines()[1:]  # the only event
        assert row.split()[:2] == ["UserRegistered", "accounts"]
        assert run("unit.py").endswith("account 7\n")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
