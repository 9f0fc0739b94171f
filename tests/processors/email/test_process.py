"""`python -m processors.email` as a real process: from a published event to a mail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import HttpUrl

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from schemas import PasswordResetRequested, ReportGenerated, StockBelowThreshold, UserRegistered
from streams import Settings, Streams
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
ADA = "ada@example.com"


@contextmanager
def email_process(sink: MailServer, streams: Streams, redis_url: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "STREAMS_APP": streams.keys.app,
        "STREAMS_ACCEPT_RISK": "no-aof",  # this server is gone after the tests
        "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
        "EMAIL_FROM": "no-reply@bord.example",
        "EMAIL_STOCK_ALERTS_TO": "stock@example.com",
        "EMAIL_RETRY_FIRST": "1",
        "EMAIL_STOCK_GATHER": "0",
        "OTEL_SDK_DISABLED": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "processors.email"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
        assert process.returncode == 0, errors


@pytest.fixture
async def publisher(streams: Streams, own_redis: str) -> Streams:
    """The client of the shared key prefix, told that this Redis may forget."""
    return Streams(
        settings=Settings(redis_url=own_redis, app=streams.keys.app, accept_risk="no-aof")  # type: ignore[arg-type]
    )


async def test_the_four_events_become_four_mails(
    sink: MailServer, streams: Streams, publisher: Streams, own_redis: str
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=451, times=1)}))
    async with publisher:
        receipts = [
            await publisher.publish(event)
            for event in (
                UserRegistered(user_id=1, email=ADA, name="Ada"),
                PasswordResetRequested(
                    user_id=1,
                    email="bob@example.com",
                    reset_id="reset-12345",
                    expires_at=datetime.now(UTC) + timedelta(hours=1),
                ),
                StockBelowThreshold(business_id=1, sku="OAK-1", quantity=3, threshold=10),
                ReportGenerated(
                    report_id="r-1", url=HttpUrl("https://files.example.com/r"), user_email="eve@example.com"
                ),
            )
        ]
    with email_process(sink, streams, own_redis):
        await wait_until(lambda: len(sink.mails()) == 4, 20, lambda: repr(sink.events()))
    identities = {str(mail["Message-ID"]) for mail in sink.mails()}
    templates = ("welcome", "password_reset", "stock_alert", "report_ready")
    assert identities == {
        f"<{receipt.id}.{template}@bord.example>" for receipt, template in zip(receipts, templates, strict=True)
    }


def test_a_wrong_setting_ends_it_at_once_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "processors.email"],
        cwd=ROOT,
        env={**os.environ, "SMTP_URL": "smtp://user:hunter2@mail.example"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 2
    assert done.stderr == "error: SMTP_URL would send a password in clear text: use smtp+starttls:// or smtps://\n"
