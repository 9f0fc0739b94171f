"""What doctor says of the way to Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams import Settings
from streams.cli.reaching import check_connection
from streams.redis.connection import Connections


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost:1", []),
        ("redis://:pw@127.0.0.1:1", []),
        ("redis://:pw@redis:6379", []),
        ("unix:///run/redis.sock", []),
        ("rediss://me:pw@redis.example:1", []),
        ("redis://me:pw@redis.example:1", ["the password goes to redis.example in clear text"]),
        ("redis://:pw@10.0.0.7:1", ["the password goes to 10.0.0.7 in clear text"]),
        ("redis://10.0.0.7:1", ["10.0.0.7 asks for no password"]),
        ("rediss://redis.example:1", ["redis.example asks for no password"]),
        ("redis+cluster://:pw@a.example,b.example", ["the password goes to a.example in clear text"]),
        ("rediss://:pw@redis.example?ssl_cert_reqs=none", ["whatever answers is taken for Redis"]),
        ("redis://localhost:1?protocol=3", ["REDIS_URL: protocol: left out"]),
    ],
)
async def test_what_is_said_of_a_url(url: str, said: list[str]) -> None:
    """A warning for what others on the way could read or take the place of; nothing fails."""
    connections = Connections(Settings(redis_url=url))
    first, *rest = check_connection(connections)
    assert (first.check, first.status) == ("reachable", "ok")
    assert [finding.status for finding in rest] == ["warn"] * len(said)
    assert all(part in finding.text for part, finding in zip(said, rest, strict=True))
    assert "pw" not in "".join(finding.text + finding.remedy for finding in rest)
    await connections.aclose()


async def test_a_password_in_a_file_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes from."""
    (tmp_path / "pw").write_text("hunter2")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "pw"))
    connections = Connections(Settings(redis_url="rediss://redis.example"))
    assert len(list(check_connection(connections))) == 1
    await connections.aclose()
