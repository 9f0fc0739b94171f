"""docker-compose.yml, read as text: what it promises about Redis holds on a real server, and nothing is left open."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.exceptions import AuthenticationError

from streams.redis.embedded import ServerBinary
from streams.redis.server import find_problems
from streams.settings import Settings
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONF = dict(
    line.split(maxsplit=1)
    for line in (ROOT / "redis.conf").read_text().splitlines()
    if line and not line.startswith("#")
)


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_there_is_no_default_password() -> None:
    """Whoever starts it chooses one: each use of the variable fails when it is not set."""
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{?REDIS_PASSWORD[^}\s]*[^}]*\}?", text)

    assert len(uses) >= 3
    assert set(uses) == {"${REDIS_PASSWORD:?set REDIS_PASSWORD in .env}"}
    assert re.search(r"^REDIS_PASSWORD=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert "://:" not in text, "a password in a URL"


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
    assert ("image" in service) != ("build" in service)
    if "image" in service:
        assert service["healthcheck"]["test"], "what others depend on says when it is ready"
        assert re.search(r":v?\d", service["image"]), "a version, not `latest`"


def test_every_named_volume_is_declared() -> None:
    """A typo would be a new, empty, anonymous one."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}

    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / name).exists() for name in used if name.startswith("."))


def test_the_email_processor_may_finish_what_it_began() -> None:
    """Docker waits longer than the processor's own grace, signals reach it, and it waits for a Redis that is ready."""
    email = SERVICES["email"]

    assert _seconds(email["stop_grace_period"]) > float(email["environment"]["STREAMS_GRACE"])
    assert email["init"] is True
    assert email["depends_on"]["redis"]["condition"] == "service_healthy"
    assert {"REDIS_URL", "SMTP_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= email["environment"].keys()


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


def test_a_real_redis_takes_the_command_line(redis_binary: ServerBinary, tmp_path: Path) -> None:
    """The same program, file and flags, moved to loopback; what comes up passes the engine's own boot check."""
    program, file, *flags = SERVICES["redis"]["command"]
    assert (program, file) == ("redis-server", "/etc/redis/redis.conf")
    assert f"./redis.conf:{file}:ro" in SERVICES["redis"]["volumes"]
    flags = ["s3cret" if "REDIS_PASSWORD" in flag else flag for flag in flags]

    server = RedisServer(redis_binary, tmp_path, config=ROOT / "redis.conf", args=flags, password="s3cret").start()
    try:
        with server.client() as client:
            info = client.info()
            assert find_problems(info, Settings()) == []
            assert info["maxmemory"] == 1024**3
            assert client.config_get("appendfsync")["appendfsync"] == "everysec"
            assert client.config_get("save")["save"] == ""
        with pytest.raises(AuthenticationError):
            RedisServer.cli(_without_password(server), "PING")
    finally:
        server.stop()


def _without_password(server: RedisServer) -> RedisServer:
    other = RedisServer(server.binary, server.directory)
    other.port = server.port
    return other


def test_env_example_names_only_known_settings() -> None:
    """And gives the defaults that hold."""
    text = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^# ([A-Z_]+)=([^\s#]*)", text, re.MULTILINE))
    settings = Settings.model_fields
    known = {f"STREAMS_{name.upper()}": name for name in settings}
    for name, field in settings.items():
        for alias in getattr(field.validation_alias, "choices", []):
            known[str(alias)] = name

    for variable, value in shown.items():
        if variable.startswith(("STREAMS_", "QUEUE_")):
            assert variable in known, variable
            default = settings[known[variable]].default
            assert value == ("" if default is None else f"{default:g}" if isinstance(default, float) else str(default))
    assert not os.environ.get("REDIS_PASSWORD"), "the developer's environment does not reach the tests"
