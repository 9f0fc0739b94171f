"""The demo as its users run it: a child process of its own, with everything that it starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from examples.demo import reaper
from streams.redis.embedded import EmbeddedRedis, find_servers
from tests.processors.shared.storage.conftest import s3, s3_client
from tests.sql.conftest import postgres, postgres_url
from tests.support.waiting import wait_until_sync

ROOT = Path(__file__).parents[3]
PROCESSORS = ("email-4", "email-5", "inventory-2", "file-2", "report-2")
SERVERS = ("mail-server", "supplier", "links")

__all__ = ["postgres", "postgres_url", "s3"]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not find_servers(), reason="no redis-server 7.0 or newer: apt-get install redis-server"),
]


class Demo:
    """One demo that writes to files."""

    def __init__(self, directory: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._out, self._err = directory.with_suffix(".out"), directory.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "examples.demo", "--dir", str(directory), *options],
                cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def wait(self) -> int:
        try:
            return self.process.wait(280)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still playing:\n{self.out}\n{self.err}")

    def reach(self, text: str) -> None:
        """Waits until the demo has said this."""
        wait_until_sync(lambda: text in self.out or self.process.poll() is not None, 60, lambda: self.out + self.err)
        assert text in self.out, self.out + self.err

    def left(self) -> list[str]:
        """Every process that has anything to do with the demo's directory."""
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdecimal() and int(place.name) != os.getpid():
                try:
                    told = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
                except (OSError, PermissionError):
                    continue
                if str(self.directory).encode() in told:
                    found.append(f"{place.name} {(place / 'cmdline').read_bytes()!r}")
        if EmbeddedRedis(self.directory / "redis").is_running():
            found.append("redis")
        return found


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts a demo in an empty directory, and ends what is left of it."""
    demos: list[Demo] = []

    def start(*options: str, env: Mapping[str, str] | None = None) -> Demo:
        demos.append(Demo(tmp_path / f"demo-{len(demos)}", *options, env=env))
        return demos[-1]

    yield start
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
        if (demo.directory / "running.json").exists():
            reaper.stop(demo.directory)
            wait_until_sync(lambda demo=demo: not demo.left(), 20)  # type: ignore[misc]


def test_it_shows_everything_and_is_kept_up_to_be_looked_at_and_stopped(play: Callable[..., Demo]) -> None:
    """With `--json` what is seen goes to stderr."""
    demo = play("--keep", "--json")
    assert demo.wait() == 0, demo.err
    for line in (
        r"email-1 is a process of its own \(pid \d+\)",
        r"gone@example\.com: refused for good, a dead letter: .*550",
        r"email-1 \(pid \d+\) killed with SIGKILL; it held [1-9]\d* deliveries",
        r"email-3 \(pid \d+\) starts in its place",
        r"all 200 mails have arrived, \d+ of them twice",
        r"busy@example\.com: 451 at \d+\.\d s, 451 at \d+\.\d s, 250 at \d+\.\d s",
        r"1 dead letter replayed, to the group email alone",
        r"UserRegistered +busy@example\.com +3 +1 +sent \(451 451 250\)",
        r"UserRegistered +gone@example\.com +2 +1 +dead, replayed, sent",
        r"StockBelowThreshold +stock@example\.com +1 +0 +no mail",
        r"10 spans in 3 traces",
        r"publish users +PRODUCER planning-bord-demo",
        r"process users +CONSUMER email-\d .*attempt 3, acked",
        r"3 businesses, 2000 products, 200000 sales in",
        r"248 rows written, 3 refused; a mail says so",
        r"\S+ has fallen below its threshold: \d+ alerts",
        r"six of five are refused \(negative\)",
        r"429, asked to come back in 1 s; then 500 items in 3 pages",
        r"[\d,]+ bytes of HTML with its charts, and a mail",
        r"\d+ products, [\d,]+ bytes of Parquet; the link is mailed",
        r"ticking\.tick fired [3-9]\d* times, once a second",
        r"What came of one file: from its upload to the mails",
        r"publish files +PRODUCER planning-bord-demo",
        r"process files +CONSUMER file-1",
        r"process inventory +CONSUMER inventory-1",
        r"the export +\S+\.parquet",
        r"the report +\S+\.html",
        r"mail: the import +\S+\.eml",
        r"All 20 checks held",
    ):
        assert re.search(line, demo.err), f"{line} is not in\n{demo.err}"
    mails = len(list((demo.directory / "mails").glob("*.eml")))
    assert re.search(rf"{mails} mails \(\.eml\) +\S+mails", demo.err)
    assert mails >= 206 + 5, "an import, two alerts, a report and an export at least"
    downloads = {file.suffix for file in (demo.directory / "downloads").iterdir()}
    assert downloads == {".csv", ".html", ".parquet"}
    assert "\x1b" not in demo.err, "a pipe gets no escape sequences"
    result = json.loads(demo.out)
    assert result["ok"] is True
    assert all(check["held"] for check in result["checks"])
    assert result["duplicates"] <= result["in_flight_at_the_kill"]
    running = {name.partition(" ")[0] for name in result["running"]}
    assert running == {*PROCESSORS, *SERVERS, "redis"}
    for link in result["links"].values():
        assert httpx.get(link, trust_env=False).status_code == 200
    env = {**os.environ, "REDIS_URL": result["redis_url"], "QUEUE_PREFIX": "demo"}
    publish = ["publish", "UserRegistered", "user_id=5", "email=you@example.com", "name=You"]
    subprocess.run([sys.executable, "-m", "streams", *publish], cwd=ROOT, env=env, check=True, capture_output=True)
    log = demo.directory / "mails" / "log.jsonl"
    wait_until_sync(lambda: b"you@example.com" in log.read_bytes(), 20, "the consumers are at work")
    stop = [sys.executable, "-m", "examples.demo", "--stop", str(demo.directory)]
    first = subprocess.run(stop, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert first == f"ended {', '.join((*PROCESSORS, *SERVERS, 'redis'))}\n"
    assert demo.left() == []
    again = subprocess.run(stop, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert again == "nothing was running any more\n"


def test_the_same_on_a_database_server_and_a_bucket(play: Callable[..., Demo], postgres_url: str, s3: str) -> None:
    """`--with-env`: the business is in PostgreSQL, its files are in S3, whose own links lead to them."""
    client = s3_client(s3)
    client.create_bucket(Bucket="demo", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    env = {
        "DATABASE_URL": postgres_url, "STORAGE_URL": "s3://demo/files", "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false", "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    demo = play("--json", "--with-env", env=env)
    assert demo.wait() == 0, demo.err
    result = json.loads(demo.out)
    assert [check for check in result["checks"] if not check["held"]] == []
    assert len(result["checks"]) == 21, "with nothing left running"
    assert all(link.startswith(s3) for link in result["links"].values())
    stored = [found["Key"] for found in client.list_objects_v2(Bucket="demo")["Contents"]]
    client.close()
    assert {key.split("/")[1] for key in stored} == {"uploads", "exports", "reports"}
    assert not (demo.directory / "home" / "business.db").exists()
    assert demo.left() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_running(play: Callable[..., Demo], number: int, code: int) -> None:
    demo = play()
    demo.reach("published in one go")
    demo.process.send_signal(number)
    assert demo.wait() == code
    assert "interrupted" in demo.out
    assert "Traceback" not in demo.err
    assert demo.left() == []


def test_killed_it_leaves_nothing_running_either(play: Callable[..., Demo]) -> None:
    """Its reaper sees it go."""
    demo = play()
    demo.reach("published in one go")
    assert len(demo.left()) > 3
    demo.process.kill()
    wait_until_sync(lambda: demo.left() == [], 30, lambda: repr(demo.left()))


def test_what_does_not_hold_is_named(play: Callable[..., Demo]) -> None:
    demo = play()
    demo.reach("both are in the group")
    note = json.loads((demo.directory / "running.json").read_bytes())
    os.kill(next(entry["pid"] for entry in note if entry["name"] == "mail-server"), signal.SIGKILL)
    assert demo.wait() == 1
    assert "This did not hold: the demo plays to its end (mail-server ended by itself (exit -9)" in demo.out
    assert f"The logs are in {demo.directory / 'logs'}" in demo.out
    assert demo.left() == []


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "-m", "examples.demo", "--dir", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"error: {tmp_path} is not empty; name a new directory\n"
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
