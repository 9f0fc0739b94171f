"""Storages of each kind, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pydantic import SecretStr

from processors.shared.storage import Storages, StorageSettings

S3_OPTIONS: dict[str, Any] = {
    "access_key_id": "test", "secret_access_key": "test", "region": "eu-central-1",
    "client_options": {"allow_http": True}, "virtual_hosted_style_request": False,
}  # fmt: skip
SECRET = SecretStr("a-secret-of-the-tests-0123456789abcdef")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A real S3 server on loopback; its address."""
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


@pytest.fixture
def local(tmp_path: Path) -> Storages:
    """In directories."""
    return Storages(StorageSettings(storage_url=SecretStr(f"file://{tmp_path}/files"), link_secret=SECRET))


@pytest.fixture
def in_s3(request: pytest.FixtureRequest, app: str) -> Storages:
    """In a bucket."""
    endpoint = request.getfixturevalue("s3")
    client = s3_client(endpoint)
    client.create_bucket(Bucket=app, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.close()
    settings = StorageSettings(storage_url=SecretStr(f"s3://{app}/files"), link_secret=SECRET)
    return Storages(settings, endpoint=endpoint, **S3_OPTIONS)


@pytest.fixture(params=["local", "in_s3"])
def storages(request: pytest.FixtureRequest) -> Storages:
    """Of each kind."""
    found: Storages = request.getfixturevalue(request.param)
    return found
