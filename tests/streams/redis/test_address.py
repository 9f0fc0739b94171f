"""Redis URLs: what they may say, what is left out, and what is refused without a word of the password."""

from __future__ import annotations

import string
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streams import Consumer, Processor, Settings, Streams
from streams.errors import ConfigurationError
from streams.redis.address import Address
from streams.redis.connection import _named
from streams.settings import place
from tests.conftest import RedisFactory
from tests.support.events import Noted
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"hosts": (("h", 6379),), "db": 0}),
        ("redis://", {"hosts": (("localhost", 6379),)}),
        ("redis://:7", {"hosts": (("localhost", 7),)}),
        ("redis://h:7/3", {"hosts": (("h", 7),), "db": 3}),
        ("redis://h/3?db=4", {"db": 4}),
        ("redis://h?db=4", {"db": 4}),
        ("redis://[::1]", {"hosts": (("::1", 6379),)}),
        ("rediss://[fe80::1]:7/2", {"hosts": (("fe80::1", 7),), "db": 2, "tls": True}),
        ("redis://me@h", {"username": "me", "password": None}),
        ("redis://me:a%2Fb%40c+d@h", {"username": "me", "password": "a/b@c+d"}),
        ("redis://:p%20w@h", {"username": None, "password": "p w"}),
        ("redis://h?password=p%2Bw&username=me", {"username": "me", "password": "p+w"}),
        ("redis://h?client_name=shop", {"client_name": "shop"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
        ("unix://me:pw@/run/a%20b.sock?db=2", {"path": "/run/a b.sock", "db": 2, "username": "me", "password": "pw"}),
        ("unix:///run/r.sock?db=1&password=pw", {"path": "/run/r.sock", "db": 1, "password": "pw"}),
        ("redis+sentinel://a,b:7/main/3", {"hosts": (("a", 26379), ("b", 7)), "service": "main", "db": 3}),
        ("rediss+cluster://a:1,[::2]:2?ssl_check_hostname=no", {"hosts": (("a", 1), ("::2", 2)), "kind": "cluster"}),
        ("redis://h?protocol=3&decode_responses=true", {"ignored": ("decode_responses", "protocol")}),
        ("redis://h?socket_timeout=1&health_check_interval=5&max_connections=1&retry_on_timeout=1", {"db": 0}),
    ],
)
def test_what_a_url_says(url: str, expected: dict[str, Any]) -> None:
    """Each part of it."""
    found = Address.parse(url)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/prod", "must be the number of a database"),
        ("redis://h?db=x", "must be the number of a database"),
        ("redis://h/-1", "must be the number of a database"),
        ("redis://h:0", "cannot be read"),
        ("redis://h:65536", "cannot be read"),
        ("redis://h:abc", "cannot be read"),
        ("redis://::1:6379", "cannot be read"),
        ("redis://[::1", "cannot be read"),
        ("redis://:hunter2/x@h:1", "percent-encode"),
        ("redis://:hunter2#x@h:1", "percent-encode"),
        ("redis://:hunter2?x@h:1", "percent-encode"),
        ("redis://a:1,b:2", "several hosts: use redis[+]cluster"),
        ("redis://h?ssl_cert_reqs=none", "which is for rediss://"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "which is for rediss://"),
        ("redis://h?ssl=true", "use rediss:// for TLS"),
        ("rediss://h?ssl_cert_req=none", "did you mean ssl_cert_reqs"),
        ("redis://h?family=0", "unknown option family; leave it out"),
        ("redis://h?db=1&db=2", "twice"),
        ("redis://h?client_name=a%20b", "client_name"),
        ("redis+cluster://h/2", "must look like"),
        ("redis+cluster://h?db=2", "the database 0 only"),
        ("redis+sentinel://h", "must look like"),
        ("http://h", "use redis://, rediss://, unix://"),
        ("unix://", "must look like unix://"),
        ("", "use redis://"),
    ],
)
def test_what_is_refused(url: str, said: str) -> None:
    """One line, without what may belong to a password."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


def refused(url: str) -> str:
    """Why a URL is refused; nothing when it is read."""
    try:
        Address.parse(url)
    except ConfigurationError as error:
        return str(error)
    return ""


@given(st.text(min_size=1, max_size=40))
def test_every_password_that_is_encoded_is_the_password(password: str) -> None:
    """And none that is not shows in an error, or in the name of the place."""
    try:
        encoded = quote(password, safe="")
    except UnicodeEncodeError:
        return
    assert Address.parse(f"redis://me:{encoded}@h:1/2").password == password
    assert Address.parse(Settings(redis_host="h", redis_password=password).url() or "").password in (password, None)
    secret = f"hunter2{password}hunter2"
    url = f"redis://:{secret}@h:1/2"
    assert "hunter2" not in (refused(url) or place(url))


@given(st.text(alphabet=string.printable, max_size=60))
def test_no_url_crashes(text: str) -> None:
    """It is read, or refused in one line."""
    for url in (text, f"redis://{text}", f"unix://{text}", f"redis+sentinel://{text}"):
        assert "\n" not in refused(url)


@pytest.mark.parametrize("host", ["::1", "[::1]", "fe80::1", "127.0.0.1", "redis.example", "redis"])
def test_hosts(host: str) -> None:
    """Names, and addresses of both kinds."""
    ((found, port),) = Address.parse(Settings(redis_host=host).url() or "").hosts
    assert (found, port) == (host.strip("[]"), 6379)


@pytest.mark.parametrize("host", ["h:6379", "redis://h", "user@h", "a b", ":::"])
def test_what_is_no_host(host: str) -> None:
    """REDIS_HOST is a host alone."""
    with pytest.raises(ValidationError, match="the port is REDIS_PORT"):
        Settings(redis_host=host)


@pytest.mark.newest_redis
async def test_options_of_the_url_change_nothing_of_the_engines(
    redis_factory: RedisFactory, app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publishing and consuming with options that would break either in redis-py; they are named once, on stderr."""
    server = redis_factory(password="p+w d")
    for kind in (server.url, redis_factory(unix=True).url):
        _named.clear()
        both = "&" if "?" in kind else "?"
        url = f"{kind}{both}decode_responses=true&protocol=3&socket_timeout=0.01&max_connections=1&client_name=shop"
        seen: list[int] = []
        probe = Processor("probe")

        @probe.on(Noted)
        async def note(event: Noted, seen: list[int] = seen) -> None:
            seen.append(event.n)

        settings = Settings(redis_url=url, app=app, block=0.2)
        consumer = Consumer(probe, Streams(settings=settings))
        await consumer.start()
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=1))
            await wait_until(lambda seen=seen: seen == [1])  # type: ignore[misc]
            await wait_until(partial(_all_named, streams, "shop"))
        await consumer.stop()
        said = capsys.readouterr().err
        assert said.count("REDIS_URL: decode_responses, max_connections, protocol, socket_timeout: left out") == 1


async def _all_named(streams: Streams, name: str) -> bool:
    """Whether each connection has this name; one that is being opened has none yet."""
    return {client["name"] for client in await streams.redis.client_list()} == {name}
