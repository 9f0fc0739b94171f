"""Storages of each kind, empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from processors.shared.storage import Storages, StorageSettings
from tests.support.s3 import S3_OPTIONS, s3, s3_client

__all__ = ["S3_OPTIONS", "s3", "s3_client"]

SECRET = SecretStr("a-secret-of-the-tests-0123456789abcdef")


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
