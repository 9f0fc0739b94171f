"""systemd units: they are what systemd accepts and calls safe, and each process of the project has one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from streams.errors import EXIT_REFUSED, EXIT_USAGE
from tests.deploy.known import CLOSING, CONSUMERS, GRACE, LEAST_WATCHDOG, LINKS, RELAY, ROOT, is_there, variables

UNITS: Final = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
TIMERS: Final = sorted((ROOT / "deploy" / "systemd").glob("*.timer"))
BIN: Final = "/opt/planning-bord/.venv/bin/"
PR_SET_MDWE: Final = 65  # prctl(2), Linux
NO_MDWE: Final = 77
ROLES: Final = {"redis-password": "processor", "publisher-password": "publisher", "operator-password": "operator"}

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd: apt-get install systemd")
services = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


def read(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Z]\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def _seconds(unit: dict[str, list[str]], name: str) -> float:
    return float(unit[name][-1])


def _environment(unit: dict[str, list[str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in unit["Environment"] for pair in line.split())


def _daemons() -> list[Path]:
    return [unit for unit in UNITS if read(unit)["Type"] == ["notify"]]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they would be installed, with programs and a user that are on this machine."""
    for unit in [*UNITS, *TIMERS]:
        name = unit.name.replace("@.", "@email.")
        text = unit.read_text().replace(f"{BIN}python", "/bin/true").replace(f"{BIN}streams", "/bin/true")
        (tmp_path / name).write_text(re.sub(r"^(User|Group)=.*", r"\1=daemon", text, flags=re.MULTILINE))
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, *TIMERS], ids=lambda path: path.name)
def test_systemd_accepts_the_unit(installed: Path, unit: Path) -> None:
    """Without a word: an unknown setting would be ignored, with a warning in a log that is not read."""
    path = installed / unit.name.replace("@.", "@email.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )

    assert [
        line for line in (done.stdout + done.stderr).splitlines() if str(installed) in line or unit.stem in line
    ] == []
    assert done.returncode == 0


@needs_systemd
def test_an_unknown_setting_is_found(installed: Path) -> None:
    """Of the test above: it can fail."""
    path = installed / "streams-relay.service"
    path.write_text(path.read_text().replace("WatchdogSec=", "WatchdogSeconds="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )

    assert "WatchdogSeconds" in done.stderr


@needs_systemd
@services
def test_systemd_calls_the_unit_safe(installed: Path, unit: Path) -> None:
    """An exposure below 2.5 of 10."""
    path = installed / unit.name.replace("@.", "@email.")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+) OK", done.stdout) or [done.stdout + done.stderr]

    assert float(exposure) < 2.5
    assert done.returncode == 0


def test_each_process_has_a_unit() -> None:
    """The template covers all processors."""
    started = {read(unit)["ExecStart"][0].removeprefix(f"{BIN}python -m ") for unit in _daemons()}

    assert started == {"processors.%i", RELAY, LINKS}
    assert all(is_there(module) for module in (*CONSUMERS, RELAY, LINKS))


@pytest.mark.parametrize("unit", _daemons(), ids=lambda path: path.name)
def test_a_daemon_has_time_to_stop_and_is_restarted_as_its_exit_codes_say(unit: Path) -> None:
    """Also after hours without a database: the limit of starts is off. A process that blocks may end by itself."""
    found = read(unit)

    assert _seconds(found, "TimeoutStopSec") >= GRACE + CLOSING
    assert _seconds(found, "WatchdogSec") > LEAST_WATCHDOG
    assert found["TimeoutStartSec"] == ["infinity"], "while Redis is away it is not ready"
    assert found["KillMode"] == ["mixed"]
    assert found["Restart"] == ["on-failure"]
    assert float(found["RestartSec"][0]) >= 1
    assert found["RestartPreventExitStatus"] == [f"{EXIT_USAGE} {EXIT_REFUSED}"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert found["Wants"] == ["network-online.target"]


@services
def test_a_unit_names_settings_that_there_are_and_reads_secrets_from_credentials(unit: Path) -> None:
    """Each credential is used, each `*_FILE` is a credential, and no secret is in the environment."""
    found = read(unit)
    environment = _environment(found)

    assert set(environment) <= variables()
    credentials = dict(value.split(":") for value in found["LoadCredential"])
    used = {value.removeprefix("%d/") for name, value in environment.items() if name.endswith("_FILE")}
    assert used == set(credentials)
    assert not [name for name in environment if name.endswith(("PASSWORD", "SECRET"))]
    for name in set(credentials) & set(ROLES):
        assert environment["REDIS_USERNAME"] == ROLES[name]
    assert environment["STREAMS_HOME"] == f"/var/lib/{found['StateDirectory'][0]}" == found["WorkingDirectory"][0]
    assert found["User"] == ["planning-bord"]
    assert "u planning-bord -" in (unit.parent / "planning-bord.sysusers.conf").read_text()


@pytest.mark.parametrize("module", sorted({*CONSUMERS, LINKS}))
def test_a_process_starts_where_no_memory_is_writable_and_executable(module: str) -> None:
    """As MemoryDenyWriteExecute= has it, with what the unit sets. A library that makes code would end the process."""
    unit = read(
        ROOT / "deploy/systemd" / ("streams-links.service" if module == LINKS else "streams-processor@.service")
    )
    assert unit["MemoryDenyWriteExecute"] == ["yes"]
    environment = {name: value for name, value in _environment(unit).items() if not value.startswith(("%d/", "/var/"))}
    deny = (
        "import ctypes, os, sys\n"
        f"if ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0): sys.exit({NO_MDWE})\n"
        "os.execv(sys.executable, [sys.executable, '-m', sys.argv[1], '--help'])"
    )
    started = subprocess.run(
        [sys.executable, "-c", deny, module], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if started.returncode == NO_MDWE:
        pytest.skip("this kernel (before Linux 6.3) cannot forbid it without systemd")

    assert started.returncode == 0, started.stderr
    assert f"usage: python -m {module}" in started.stdout


def test_the_links_server_may_write_nothing() -> None:
    """It is what faces outside: it has no login at Redis either."""
    found = read(ROOT / "deploy/systemd/streams-links.service")

    assert found["ReadOnlyPaths"] == ["/var/lib/planning-bord"]
    assert not [name for name in _environment(found) if name.startswith("REDIS_")]


def test_the_timer_runs_a_unit() -> None:
    """Of the same name, that ends by itself."""
    for timer in TIMERS:
        found = read(timer.with_suffix(".service"))
        assert found["Type"] == ["oneshot"]
        assert found["ExecStart"] == [f"{BIN}streams doctor"]
