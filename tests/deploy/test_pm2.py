"""The PM2 file: read by Node, it starts each process of the project under the guide's names."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from streams.errors import EXIT_REFUSED, EXIT_USAGE
from tests.deploy.known import CLOSING, CONSUMERS, GRACE, LINKS, RELAY, ROOT, variables

FILE = ROOT / "deploy/pm2/ecosystem.config.cjs"


@pytest.fixture(scope="module")
def apps() -> list[dict[str, Any]]:
    """What PM2 would read."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: apt-get install nodejs")
    shown = subprocess.run(
        [node, "-p", f"JSON.stringify(require({str(FILE)!r}))"], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(shown.stdout)["apps"]
    return found


def test_each_process_is_started_under_the_names_of_the_guide(apps: list[dict[str, Any]]) -> None:
    """As `pm2 start ... --only planning-bord-email-worker` has it."""
    assert {tuple(app["args"]) for app in apps} == {("-m", module) for module in (*CONSUMERS, RELAY, LINKS)}
    for module in CONSUMERS:
        name = f"planning-bord-{module.rpartition('.')[2]}-worker"
        assert [app["args"] for app in apps if app["name"] == name] == [["-m", module]]


def test_a_process_has_time_to_stop_and_is_restarted_as_its_exit_codes_say(apps: list[dict[str, Any]]) -> None:
    """PM2's own defaults are 1.6 s, every code, the whole tree, and Node."""
    for app in apps:
        assert app["kill_timeout"] >= 1000 * (GRACE + CLOSING)
        assert {EXIT_USAGE, EXIT_REFUSED} <= set(app["stop_exit_codes"])
        assert 1 not in app["stop_exit_codes"]
        assert app["treekill"] is False
        assert app["interpreter"] == "none"
        assert app["exec_mode"] == "fork"
        assert set(app["env"]) <= variables()
