"""The sink as a process: what the demo relies on."""

from __future__ import annotations

import json
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until_sync

ROOT = Path(__file__).parents[3]
MAIL = "From: a@example.com\r\nTo: b@example.com\r\nMessage-ID: <1@example.com>\r\n\r\nHello\r\n"


@contextmanager
def sink_process(directory: Path, script: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "examples.fakes.mail_server",
            "--port", "0", "--dir", str(directory), "--script", str(script),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["port"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors


def send(port: int) -> int:
    """The code with which the mail was taken or refused; 0 when the connection was."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            client.sendmail("a@example.com", "b@example.com", MAIL)
            return 250
    except smtplib.SMTPRecipientsRefused as refused:
        return refused.recipients["b@example.com"][0]
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    except (OSError, smtplib.SMTPServerDisconnected):
        return 0


def rewrite(script: Path, content: object) -> None:
    fresh = script.with_suffix(".new")
    fresh.write_text(content if isinstance(content, str) else json.dumps(content))
    fresh.rename(script)


def test_it_follows_its_script_file_and_stops_on_sigterm(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    rewrite(script, {"recipients": {"b@example.com": {"code": 550}}})
    with sink_process(tmp_path / "mails", script) as (_, port):
        assert send(port) == 550
        rewrite(script, {"recipients": {"*": {"code": 451, "times": 2}}})
        wait_until_sync(lambda: send(port) == 451, message="the script is followed")
        wait_until_sync(lambda: send(port) == 250, message="the second refusal is the last")
        rewrite(script, {"refuse": True})
        wait_until_sync(lambda: send(port) == 421)
        rewrite(script, {"listening": False})
        wait_until_sync(lambda: send(port) == 0, message="the port is closed")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        rewrite(script, "not a script")
        rewrite(script, {})
        wait_until_sync(lambda: send(port) == 250, message="the same port is open again")
    log = [json.loads(line) for line in (tmp_path / "mails" / "log.jsonl").read_text().splitlines()]
    accepted = [line for line in log if line["event"] == "accepted"]
    assert len(accepted) == len(list((tmp_path / "mails").glob("*.eml"))) >= 2
    assert {"time", "event", "message_id", "from", "recipients", "code"} == set(accepted[0])
    assert accepted[0]["message_id"] == "<1@example.com>"
    assert accepted[0]["recipients"] == ["b@example.com"]
    assert [line["code"] for line in log if line["code"] in (451, 550)][-2:] == [451, 451]


def test_a_broken_script_changes_nothing_and_is_said(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    rewrite(script, {"recipients": {"*": {"code": 550}}})
    with sink_process(tmp_path / "mails", script) as (process, port):
        rewrite(script, {"recipients": {"*": {"code": 9000}}})
        assert process.stderr is not None
        assert "not a script" in process.stderr.readline()
        assert send(port) == 550
