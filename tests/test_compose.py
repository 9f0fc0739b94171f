"""docker-compose.yml, read as text: what it promises about Redis holds on a real server, and nothing is left open."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError

from processors.__main__ import names as processors
from streams.errors import EXIT_REFUSED
from streams.redis.embedded import ServerBinary
from streams.redis.server import find_problems
from streams.settings import Settings
from tests.support.waiting import wait_until_sync
from tests.test_docs import rows

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONF = dict(
    line.split(maxsplit=1)
    for line in (ROOT / "redis.conf").read_text().splitlines()
    if line and not line.startswith("#")
)

OWN = {name: service for name, service in SERVICES.items() if "build" in service}
LINKS: Final = "processors.shared.storage"
SECRETS: Final = ("REDIS_PUBLISHER_PASSWORD", "REDIS_PROCESSOR_PASSWORD", "REDIS_OPERATOR_PASSWORD", "LINK_SECRET")
PASSWORDS: Final = {name: f"{name.lower()}-of-a-test" for name in SECRETS[:3]}
READ: Final = {
    "processors.email": ("The engine", "The database", "The email processor", "Files"),
    "processors.inventory": ("The engine", "The database", "The inventory processor"),
    "processors.file": ("The engine", "The database", "The file processor", "Files"),
    "processors.report": ("The engine", "The database", "The report processor", "Files"),
    "streams.sql.relay": ("The engine", "The database"),
    LINKS: ("Files",),
}
"""The tables of docs/operate/settings.md whose settings a process reads."""
NOT_GIVEN: Final = {
    **dict.fromkeys(("REDIS_HOST", "REDIS_PORT", "REDIS_DB"), "REDIS_URL is set"),
    **dict.fromkeys(("SENTINEL_USERNAME", "SENTINEL_PASSWORD"), "there are no sentinels"),
    **dict.fromkeys(("STREAMS_REDIS_CA", "STREAMS_REDIS_CERT", "STREAMS_REDIS_KEY"), "a network of this machine"),
    **dict.fromkeys(("STREAMS_REDIS_SERVER", "STREAMS_ACCEPT_RISK"), "Redis is a service here, and a safe one"),
    "STREAMS_EVENTS": "the application is installed in the image",
    "EMAIL_SMTP_CA": "a file, which needs a mount of its own",
    "STREAMS_HOME": "set where something is kept in it",
    "LINKS_HOST": "set for the server", "LINKS_PORT": "the container's own port", "LINKS_CONNECTIONS": "the server's",
}  # fmt: skip

FOR_CONSUMERS: Final = {
    "STREAMS_GRACE", "STREAMS_CONCURRENCY", "STREAMS_PREFETCH", "STREAMS_LEASE", "STREAMS_BLOCK", "STREAMS_TIMEOUT",
    "STREAMS_DELIVERIES", "STREAMS_UNSUPPORTED_FOR", "STREAMS_UNSUPPORTED_EVERY", "STREAMS_KEEP", "STREAMS_KEEP_FOR",
    "STREAMS_ABANDONED_AFTER", "STREAMS_DEAD_MOST", "STREAMS_PARK_AFTER", "QUEUE_DEFAULT_ATTEMPTS",
    "QUEUE_DEFAULT_BACKOFF",
}  # fmt: skip
"""Settings of the engine that the relay does not read."""


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_there_is_no_default_password() -> None:
    """Each use of a secret fails when it is not set, and names it; none is in a command line or in a URL."""
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    for name in SECRETS:
        uses = re.findall(rf"\$\{{?{name}\b[^}}\s]*[^}}\n]*\}}?", text.replace("$$", ""))
        assert uses, name
        assert {use for use in uses if use.startswith("${")} == {f"${{{name}:?set {name} in .env}}"}
        assert re.search(rf"^{name}=$", example, re.MULTILINE), name
    assert "://:" not in text, "a password in a URL"
    assert not any("PASSWORD" in part for service in SERVICES.values() for part in service.get("command", []))


def test_redis_keeps_what_it_is_given() -> None:
    """Append-only file on and nothing evicted, in the shipped redis.conf and on the command line."""
    command = SERVICES["redis"]["command"]
    flags = dict(zip(command[2::2], command[3::2], strict=True))

    assert flags["--appendonly"] == CONF["appendonly"] == "yes"
    assert flags["--maxmemory-policy"] == CONF["maxmemory-policy"] == "noeviction"
    assert "redis-data:/data" in SERVICES["redis"]["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_comes_back_and_is_reachable_from_here_only(name: str) -> None:
    """After a crash or a reboot, without opening a port to the network."""
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["healthcheck"]["test"], "what others depend on says when it is ready"
    if "build" not in service:
        assert re.search(r":v?\d", service["image"]), "a version, not `latest`"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_few_rights_and_limits(name: str) -> None:
    """What breaks into one of them may do little, and one that grows does not take the machine with it."""
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert {"pids_limit", "mem_limit", "cpus"} <= service.keys()
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & service.keys()
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


def test_every_process_of_the_project_is_run() -> None:
    """A processor that is added is missing here until it has a service."""
    run = {service["command"][-1] for service in OWN.values()}

    assert run == {*(f"processors.{name}" for name in processors()), "streams.sql.relay", LINKS}


@pytest.mark.parametrize("name", OWN)
def test_a_process_reports_its_state_and_has_time_to_stop(name: str) -> None:
    """The health check reads the file that the process writes, on a tmpfs; Docker waits longer than its grace."""
    service = OWN[name]
    file = service["environment"]["STREAMS_STATE_FILE"]

    assert file in service["healthcheck"]["test"][1]
    assert f"{Path(file).parent}:mode=1777" in service["tmpfs"]
    grace = float(service["environment"].get("STREAMS_GRACE", Settings.model_fields["grace"].default))
    assert _seconds(service["stop_grace_period"]) > grace + 10
    assert service["init"] is True


@pytest.mark.parametrize(("content", "age", "healthy"), [
    ("ready\n", 0, True), ("ready\n", 300, False), ("starting\n", 0, False), ("stopping\n", 0, False), (None, 0, False),
])  # fmt: skip
def test_the_health_check_means_something(tmp_path: Path, content: str | None, age: float, healthy: bool) -> None:
    """Healthy while it is ready and its event loop runs, and at no other time."""
    file = tmp_path / "state"
    if content is not None:
        file.write_text(content)
        os.utime(file, (time.time() - age,) * 2)
    kind, line = OWN["email"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    line = line.replace("$$", "$").replace(OWN["email"]["environment"]["STREAMS_STATE_FILE"], str(file))

    assert (subprocess.run(["sh", "-c", line], check=False).returncode == 0) is healthy


@pytest.mark.parametrize("name", OWN)
def test_a_process_has_a_redis_user_with_the_rights_it_needs(name: str) -> None:
    """The links server, which faces outside, has none, neither the database, nor a place where it may write."""
    environment, command = OWN[name]["environment"], OWN[name]["command"][-1]
    if command == LINKS:
        assert not [variable for variable in environment if variable.startswith(("REDIS_", "DATABASE_"))]
        assert all(volume.endswith(":ro") for volume in OWN[name]["volumes"])
        return
    role = "publisher" if command == "streams.sql.relay" else "processor"
    assert environment["REDIS_USERNAME"] == role
    assert environment["REDIS_PASSWORD"].startswith(f"${{REDIS_{role.upper()}_PASSWORD:?")
    assert OWN[name]["depends_on"]["redis"]["condition"] == "service_healthy"


def test_every_named_volume_is_declared() -> None:
    """A typo would be a new, empty, anonymous one."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}

    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / name).exists() for name in used if name.startswith("."))


def test_the_image_runs_as_nobody_in_particular() -> None:
    """Not as root, and with everything that is copied into it let through by .dockerignore."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    copied = {
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert users
    assert users[-1] not in ("root", "0")
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_is_compiled_when_it_is_built() -> None:
    """Its user may write nothing into it: else each start would compile all libraries anew."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    installs = [number for number, line in enumerate(lines) if line.startswith("RUN uv sync")]

    assert lines.index("ENV UV_COMPILE_BYTECODE=1") < min(installs)


def test_the_compose_password_reaches_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one with characters that mean something in a URL."""
    monkeypatch.setenv("REDIS_URL", SERVICES["email"]["environment"]["REDIS_URL"])
    monkeypatch.setenv("REDIS_PASSWORD", "p@ss/w:rd#?%")

    url = Settings().url()

    assert url == "redis://:p%40ss%2Fw%3Ard%23%3F%25@redis:6379/0"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command of the service, with its files where they are here."""
    files = {
        volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in SERVICES["redis"]["volumes"] if "./" in volume
    }
    files["/run/streams/users.acl"] = tmp_path / "made.acl"
    return [str(files.get(part, part)) for part in SERVICES["redis"]["command"]]


def test_a_real_redis_takes_the_command_line(redis_binary: ServerBinary, command: list[str], tmp_path: Path) -> None:
    """The same program, script, file and flags, on loopback: each role logs in with its password, `default` does not,
    and what comes up passes the engine's own boot check.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command[command.index("redis-server")] = str(redis_binary.path)
    more = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--daemonize", "no"]
    environ = {"PATH": os.environ["PATH"], "QUEUE_PREFIX": "shop", **PASSWORDS}
    process = subprocess.Popen([*command, *more], env=environ, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, username="operator", password=PASSWORDS["REDIS_OPERATOR_PASSWORD"]) as client:
            wait_until_sync(lambda: _pings(client), 10)
            assert find_problems(client.info(), Settings()) == []
            assert client.config_get("appendfsync")["appendfsync"] == "everysec"
            assert client.info()["maxmemory"] == 1024**3
        for role in ("publisher", "processor"):
            password = PASSWORDS[f"REDIS_{role.upper()}_PASSWORD"]
            with redis.Redis(port=port, username=role, password=password) as client:
                assert client.xadd("{shop:0}:stream:users", {"type": "A"})
                with pytest.raises(NoPermissionError):
                    client.xadd("{planning-bord:0}:stream:users", {"type": "A"})
                with pytest.raises(NoPermissionError):
                    client.flushall()
        for login in (
            {},
            {"password": PASSWORDS["REDIS_OPERATOR_PASSWORD"]},
            {"username": "operator", "password": "x"},
        ):
            with redis.Redis(port=port, **login) as client, pytest.raises(AuthenticationError):
                client.ping()
        made = tmp_path / "made.acl"
        assert made.stat().st_mode & 0o077 == 0
        assert not any(password in made.read_text() for password in PASSWORDS.values())
        assert b"PASSWORD" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(("changed", "problem"), [
    *(({name: ""}, f"{name} is missing") for name in PASSWORDS),
    ({"REDIS_OPERATOR_PASSWORD": "short"}, "REDIS_OPERATOR_PASSWORD is missing or shorter than 16"),
    ({"REDIS_OPERATOR_PASSWORD": PASSWORDS["REDIS_PROCESSOR_PASSWORD"]}, "two roles have the same password"),
])  # fmt: skip
def test_redis_is_not_started_without_its_passwords(
    command: list[str], changed: dict[str, str], problem: str, tmp_path: Path
) -> None:
    """It ends with a line that names the variable, and no user is made."""
    command[command.index("redis-server")] = "true"
    ended = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **PASSWORDS, **changed}, capture_output=True, text=True, check=False
    )

    assert ended.returncode == EXIT_REFUSED
    assert problem in ended.stderr
    assert not (tmp_path / "made.acl").exists()


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


# Settings ---------------------------------------------------------------------------------------------------------


def _read_by(service: dict[str, Any]) -> set[str]:
    """The settings that the process of a service reads, by their preferred name of the guide or of the page."""
    command = service["command"][-1]
    found = set()
    for heading in READ[command]:
        for names in rows("docs/operate/settings.md", heading):
            found.add(names.split(", ")[-1] if heading == "The engine" else names.split(", ")[0])
    return found - FOR_CONSUMERS if command == "streams.sql.relay" else found


@pytest.mark.parametrize("name", OWN)
def test_a_service_is_given_every_setting_that_it_reads(name: str) -> None:
    """What is set in .env and is not passed on would be ignored in silence."""
    given = set(OWN[name]["environment"])

    assert sorted(_read_by(OWN[name]) - given - NOT_GIVEN.keys()) == []


def test_env_example_names_what_compose_takes_and_nothing_else() -> None:
    """And what it names is documented."""
    text = (ROOT / "docker-compose.yml").read_text()
    taken = set(re.findall(r"\$\{([A-Z_]+)", text))
    for service in SERVICES.values():
        taken |= {name for name, value in service.get("environment", {}).items() if value is None}
    shown = re.findall(r"^(?:# )?([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert sorted(shown) == sorted(taken)
    page = (ROOT / "docs/operate/settings.md").read_text()
    assert [name for name in shown if f"`{name}`" not in page and not name.startswith("AWS_")] == []


def test_env_example_shows_the_defaults() -> None:
    """Those of the code, unless compose has one of its own."""
    text = (ROOT / "docker-compose.yml").read_text()
    own = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    shown = dict(re.findall(r"^# ([A-Z_]+)=\"?([^\s#\"]*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    documented = {
        name: cells[0].strip("`") for heading in {*itertools.chain(*READ.values()), "Logs and traces"}
        for names, cells in rows("docs/operate/settings.md", heading).items() for name in names.split(", ")
    }  # fmt: skip
    for name, value in shown.items():
        if not name.startswith("AWS_"):
            assert own.get(name, documented[name]).split(" ")[0] == value, name
    assert not os.environ.get("REDIS_PASSWORD"), "the developer's environment does not reach the tests"
