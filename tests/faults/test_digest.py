"""The digest and held mails with real processes: a schedule fires, a process is killed, each mail is there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from processors.shared.database.sample_data.seed import seed
from schemas import UserRegistered
from streams import Streams
from tests.faults.test_mail import sink
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

__all__ = ["sink"]

SpawnEmail = Callable[..., Child]

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def spawn_email(spawn: Spawn, sink: MailServer, tmp_path: Path) -> Iterator[SpawnEmail]:
    """Starts `python -m processors.email` for that mail server and a database in a file."""

    def start(**settings: str) -> Child:
        mail = {
            "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
            "EMAIL_FROM": "bord@example.com",
            "DATABASE_URL": f"sqlite:///{tmp_path}/business.db",
        }
        return spawn("processors.email", env=mail | settings)

    return start


async def letters(streams: Streams) -> list[str]:
    """The errors of the email group's dead letters."""
    found = await streams.redis.xrange(streams.keys.dead("email"))
    return [fields[b"error"].decode() for _, fields in found]


@pytest.mark.timeout(90)
async def test_each_digest_is_sent_once_however_processes_die(
    streams: Streams, spawn_email: SpawnEmail, sink: MailServer, tmp_path: Path
) -> None:
    """Three businesses, a schedule that fires every second, and two processes. One is killed while the server has the
    content and has not replied, which nobody can tell from a loss: with `hold`, somebody is asked.
    """
    database = Database(f"sqlite:///{tmp_path}/business.db")
    await upgrade(database.engine)
    await seed(database.engine, skus=30, sold=60)
    await database.aclose()
    slow = Rule(at="data", delay=3600, times=1)  # the mail is taken, and the reply does not come
    sink.follow(MailRules(recipients={"three@example.com": slow}))
    told = {
        "EMAIL_DIGEST_TO": "ada@example.com,3=three@example.com",
        "EMAIL_DIGEST_CRON": "* * * * * *",
        "EMAIL_DIGEST_TZ": "Europe/Berlin",
        "EMAIL_AMBIGUOUS": "hold",
    }
    victim = spawn_email(**told)
    await wait_until(lambda: len(sink.mails()) == 3, timeout=30, message=victim.output)
    other = spawn_email(**told)
    victim.kill()
    await wait_until(lambda: letters(streams), timeout=30, message=other.output)
    fired = len(await streams.redis.xrange(streams.keys.stream("emails")))

    async def more() -> bool:
        return len(await streams.redis.xrange(streams.keys.stream("emails"))) > fired + 8

    await wait_until(more, timeout=20, message=other.output)  # and nothing comes of two more slots
    identities = Counter(str(mail["Message-ID"]).partition("-")[0] for mail in sink.mails())
    assert identities == {"<1": 1, "<2": 1, "<3": 1}
    assert [error for error in await letters(streams) if "may or may not have been sent" not in error] == []
    assert "mail.already_sent" in other.stderr()


@pytest.mark.slow  # the test above kills at the same moment; this one says what becomes of any other mail
@pytest.mark.timeout(60)
@pytest.mark.parametrize("ambiguous", ["hold", "resend"])
async def test_a_process_that_dies_before_the_reply(
    streams: Streams, spawn_email: SpawnEmail, sink: MailServer, ambiguous: str
) -> None:
    """Held, and sent when its dead letter is replayed; or sent again at once."""
    sink.follow(MailRules(recipients={"ada@example.com": Rule(at="data", delay=3600, times=1)}))
    victim = spawn_email(EMAIL_AMBIGUOUS=ambiguous)
    receipt = await streams.publish(UserRegistered(user_id=1, email="ada@example.com", name="Ada"))
    await wait_until(lambda: len(sink.mails()) == 1, timeout=20, message=victim.output)
    victim.kill()
    successor = spawn_email(EMAIL_AMBIGUOUS=ambiguous)
    if ambiguous == "hold":
        (error,) = await wait_until(lambda: letters(streams), timeout=20, message=successor.output)
        assert f"<{receipt.id}.welcome@example.com>" in error
        assert len(sink.mails()) == 1
        assert (await streams.dead_letters("email").replay([receipt.id])).done == 1
    await wait_until(lambda: len(sink.mails()) == 2, timeout=20, message=successor.output)
    assert {str(mail["Message-ID"]) for mail in sink.mails()} == {f"<{receipt.id}.welcome@example.com>"}
