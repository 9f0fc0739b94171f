"""Address: a Redis URL that names several servers, of a cluster or of sentinels, taken apart.

    redis+cluster://[user:password@]host:port[,host:port...]
    redis+sentinel://[user:password@]host:port[,host:port...]/service[/db]

`rediss+...` is the same over TLS. User and password are those of the servers with the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from streams.errors import StreamsError

_PORTS = {"cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Address:
    """What such a URL says. `service` and `db` are of sentinels only."""

    kind: Literal["cluster", "sentinel"]
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0

    @classmethod
    def parse(cls, url: str) -> Address | None:
        """Takes a URL apart; None for one that names a single server. Raises `StreamsError` for a wrong one."""
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in ("redis", "rediss") or kind not in ("cluster", "sentinel"):
            return None
        form = f"{parts.scheme}://host:port,host:port" + ("/service" if kind == "sentinel" else "")
        login, _, places = parts.netloc.rpartition("@")
        name, _, password = login.partition(":")
        try:
            hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
            service, _, db = parts.path.strip("/").partition("/")
            number = int(db or 0)
        except ValueError:
            raise StreamsError(f"REDIS_URL must look like {form}") from None
        if parts.query or bool(service) != (kind == "sentinel"):
            raise StreamsError(f"REDIS_URL must look like {form}, without more")
        return cls(
            "cluster" if kind == "cluster" else "sentinel",
            scheme == "rediss",
            hosts,
            unquote(name) or None,
            unquote(password) or None,
            unquote(service),
            number,
        )


def _host(place: str, port: int) -> tuple[str, int]:
    host, colon, given = place.rpartition(":")
    if place.startswith("[") and place.endswith("]"):
        host, colon = place, ""
    if not colon:
        host, given = place, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < int(given) < 65536:
        raise ValueError(place)
    return host, int(given)
