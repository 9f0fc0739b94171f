"""From publish to mail with real processes: kills, a mail server that refuses or is down, and the trace of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from examples.fakes.otlp_collector import OtlpCollector, Span
from observability.tracing import TracingMiddleware
from schemas import UserRegistered
from streams import Settings, Streams
from tests.support.child import Child, Spawn
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

SpawnEmail = Callable[..., Child]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailServer]:
    """The mail server."""
    with MailServer(tmp_path / "mails") as sink:
        yield sink


@pytest.fixture
def spawn_email(spawn: Spawn, sink: MailServer) -> SpawnEmail:
    """Starts `python -m processors.email` for that mail server."""

    def start(**settings: str) -> Child:
        mail = {
            "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
            "EMAIL_RETRY_FIRST": "2",
            "EMAIL_FROM": "bord@example.com",
            "QUEUE_DEFAULT_BACKOFF": "2000",
        }
        return spawn("processors.email", env=mail | settings)

    return start


def person(number: int) -> UserRegistered:
    """Somebody to welcome."""
    return UserRegistered(user_id=number, email=f"user{number}@example.com", name=f"User {number}")


async def drained(streams: Streams) -> bool:
    """Whether the email group has nothing unread, pending or waiting."""
    for key in (*streams.keys.by_priority("users"), streams.keys.inbox("email")):
        for info in await streams.redis.xinfo_groups(key):
            if info["pending"] or info["lag"]:
                return False
    return not await streams.redis.zcard(streams.keys.due())


async def held_by(streams: Streams, pid: int) -> int:
    """How many deliveries a consumer process holds."""
    held = 0
    for key in (*streams.keys.by_priority("users"), streams.keys.inbox("email")):
        summary = await streams.redis.xpending(key, "email")
        held += sum(c["pending"] for c in summary["consumers"] if f"-{pid}-" in c["name"].decode())
    return held


@pytest.mark.newest_redis
@pytest.mark.timeout(240)
async def test_2000_registrations_and_five_kills_give_2000_mails(
    streams: Streams,
    spawn_email: SpawnEmail,
    sink: MailServer,
    streams_env: Mapping[str, str],
    redis_server: RedisServer,
) -> None:
    """1,000 published by the command line and 1,000 by raw `redis-cli XADD`; two consumers, one of them killed with
    SIGKILL five times: 2,000 distinct Message-IDs, no more duplicates than were in flight at the kills, nothing
    pending.
    """
    key = streams.keys.stream("users")
    commands = "".join(
        f"XADD {key} * type UserRegistered data "
        f'"{{\\"user_id\\":{n},\\"email\\":\\"raw{n}@example.com\\",\\"name\\":\\"Raw {n}\\"}}"\n'
        for n in range(1000)
    )
    redis_cli = shutil.which("redis-cli")
    assert redis_cli, "apt-get install redis-tools"
    said = subprocess.run(
        [redis_cli, "-s", str(redis_server.socket)], input=commands, capture_output=True, text=True, check=True
    )
    assert said.stdout.count("-") == 1000, said.stdout[-300:]
    subprocess.run(
        [sys.executable, "-m", "streams", "publish", "UserRegistered", "user_id={n}", "email=cli{n}@example.com",
         "name=Cli {n}", "--count", "1000"],
        env=dict(streams_env), check=True, capture_output=True,
    )  # fmt: skip
    assert await streams.redis.xlen(key) == 2000
    # Slow enough that the fifth victim still finds something to hold: a mail takes a consumer about 2 ms else.
    sink.follow(MailRules(recipients={"*": Rule(at="data", delay=0.05)}))
    spawn_email()
    in_flight = 0
    for kill in range(5):
        victim = spawn_email()
        await wait_until(lambda kill=kill: len(sink.events("accepted")) > 300 * (kill + 1), timeout=60)  # type: ignore[misc]
        await wait_until(lambda victim=victim: held_by(streams, victim.pid), timeout=20)  # type: ignore[misc]
        victim.signal(signal.SIGSTOP)
        in_flight += await held_by(streams, victim.pid)
        victim.kill()
    spawn_email()
    await wait_until(lambda: drained(streams), timeout=120, message=lambda: f"{len(sink.events('accepted'))} mails")
    ids = Counter(line["message_id"] for line in sink.events("accepted"))
    duplicates = sum(ids.values()) - len(ids)
    print(
        f"mails {sum(ids.values())}, distinct {len(ids)}, duplicates {duplicates}, in flight at the kills {in_flight}"
    )
    assert len(ids) == 2000
    assert duplicates <= in_flight
    assert len(list(sink.directory.glob("*.eml"))) == sum(ids.values())
    assert await streams.redis.xlen(streams.keys.dead("email")) == 0


@pytest.mark.newest_redis
@pytest.mark.timeout(60)
async def test_a_mail_server_that_refuses_for_now_and_one_for_good(
    streams: Streams, spawn_email: SpawnEmail, sink: MailServer
) -> None:
    """451 twice, then 250: three attempts, about 2 s and 4 s apart with jitter. 550: a dead letter after one."""
    sink.follow(
        MailRules(recipients={"user1@example.com": Rule(code=451, times=2), "user2@example.com": Rule(code=550)})
    )
    spawn_email()
    await streams.publish_many([person(1), person(2)])
    await wait_until(lambda: sink.events("accepted"), timeout=30)
    times = [line["time"] for line in sink.events("rcpt") if "user1@example.com" in line["recipients"]]
    assert len(times) == 3
    first, second = times[1] - times[0], times[2] - times[1]
    print(f"attempts at 0 s, {first:.2f} s, {first + second:.2f} s")
    assert 1.0 <= first <= 3.6
    assert 2.0 <= second <= 6.6
    ((_, letter),) = await streams.redis.xrange(streams.keys.dead("email"))
    assert (letter[b"reason"], letter[b"attempts"]) == (b"rejected", b"1")
    assert b"550" in letter[b"error"]
    assert len([line for line in sink.events("rcpt") if "user2@example.com" in line["recipients"]]) == 1


@pytest.mark.newest_redis
@pytest.mark.timeout(120)
async def test_a_mail_server_that_is_down_for_20_seconds(
    streams: Streams, spawn_email: SpawnEmail, sink: MailServer
) -> None:
    """200 events meanwhile: all delivered once it is back, no dead letters."""
    sink.stop_listening()
    consumer = spawn_email()
    down_since = os.times().elapsed
    await streams.publish_many([person(n) for n in range(200)])
    await wait_until(lambda: os.times().elapsed - down_since > 20, timeout=25)
    assert "breaker.opened" in consumer.stdout() + consumer.stderr()
    sink.listen()
    await wait_until(lambda: len(sink.events("accepted")) >= 200, timeout=60)
    await wait_until(lambda: drained(streams), timeout=20)
    assert len({line["message_id"] for line in sink.events("accepted")}) == 200
    assert await streams.redis.xlen(streams.keys.dead("email")) == 0


@pytest.mark.newest_redis
async def test_an_event_is_one_trace_from_publish_to_smtp(
    streams_env: Mapping[str, str], app: str, spawn_email: SpawnEmail, sink: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRODUCER publish -> CONSUMER process -> CLIENT smtp send, with links and attributes, received over OTLP; no
    address, name or payload anywhere in it.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    with OtlpCollector() as receiver:
        spawn_email(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="100")
        provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.endpoint}/v1/traces")))
        settings = Settings(redis_url=streams_env["REDIS_URL"], app=app)
        async with Streams(settings=settings, middleware=[TracingMiddleware(provider)]) as client:
            receipt = await client.publish(person(7))
            await wait_until(
                lambda: {"publish users", "process users", "smtp send"} <= {s.name for s in receiver.spans}
            )
        provider.shutdown()
        spans = {span.name: span for span in receiver.spans}
        publish, process, smtp = spans["publish users"], spans["process users"], spans["smtp send"]
        assert len({span.trace_id for span in (publish, process, smtp)}) == 1
        assert (publish.kind, process.kind, smtp.kind) == ("PRODUCER", "CONSUMER", "CLIENT")
        assert (process.parent_id, smtp.parent_id) == (publish.span_id, process.span_id)
        assert [link.span_id for link in process.links] == [publish.span_id]
        assert process.attributes["messaging.system"] == "redis"
        assert process.attributes["messaging.operation.name"] == "process"
        assert process.attributes["messaging.destination.name"] == "users"
        assert process.attributes["messaging.consumer.group.name"] == "email"
        assert process.attributes["messaging.message.id"] == receipt.id
        assert process.attributes["cloudevents.event_type"] == "UserRegistered"
        assert process.attributes["messaging.redis.outcome"] == "acked"
        assert smtp.attributes["server.port"] == sink.port
        assert not leaks(receiver.spans)


@pytest.mark.newest_redis
async def test_with_the_sampler_off_the_message_still_carries_a_traceparent(
    streams_env: Mapping[str, str], app: str, spawn_email: SpawnEmail, sink: MailServer
) -> None:
    """Somebody downstream may sample: the context is there, valid and unsampled, and no span is exported."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    with OtlpCollector() as receiver:
        spawn_email(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="100")
        settings = Settings(redis_url=streams_env["REDIS_URL"], app=app)
        provider = TracerProvider(sampler=ALWAYS_OFF)
        async with Streams(settings=settings, middleware=[TracingMiddleware(provider)]) as client:
            await client.publish(person(8))
            ((_, fields),) = await client.redis.xrange(client.keys.stream("users"))
            version, trace_id, span_id, flags = fields[b"traceparent"].decode().split("-")
            assert (version, len(trace_id), len(span_id), int(flags, 16) & 1) == ("00", 32, 16, 0)
            assert int(trace_id, 16)
            assert int(span_id, 16)
            await wait_until(lambda: sink.events("accepted"))
            await wait_until(lambda: drained(client))
        assert receiver.spans == []


def leaks(spans: list[Span]) -> list[str]:
    """What of the event's personal data stands in the spans."""
    return [word for word in ("user7@example.com", "User 7") if word in repr(spans)]
