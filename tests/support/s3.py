"""A real S3 server on loopback for the tests of a session. A module that uses the fixture `s3` imports it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

S3_OPTIONS: Final[dict[str, Any]] = {
    "access_key_id": "test", "secret_access_key": "test", "region": "eu-central-1",
    "client_options": {"allow_http": True}, "virtual_hosted_style_request": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of the server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(endpoint: str) -> Any:
    """Another client of that server."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-central-1"}
    return boto3.client("s3", endpoint_url=endpoint, **keys)
