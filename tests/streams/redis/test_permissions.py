"""What a consumer's user must be allowed to do: it is found out at the start, in one line."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.conftest import RedisFactory
from tests.faults.conftest import ROOT
from tests.support.child import Spawn


@pytest.mark.single("its server has users")
@pytest.mark.parametrize("missing", ["xpending", "xrange", "client|id", "client|unblock", "client"])
def test_a_command_that_is_missing_is_named(
    spawn: Spawn, redis_factory: RedisFactory, streams_env: Mapping[str, str], missing: str
) -> None:
    """Not after the first events have been handled twice: the process ends with 78, and names the command."""
    server = redis_factory()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">password", "~*", "&*", "+@all", f"-{missing}")
    url = f"redis://limited:password@127.0.0.1:{server.port}"
    child = spawn("tests.support.programs.probe", env={"REDIS_URL": url, "PYTHONPATH": str(ROOT)})
    assert child.wait() == 78
    (line,) = [line for line in child.stderr().splitlines() if line.startswith("error: ")]
    assert missing.partition("|")[0] in line
    assert "ACL" in line
