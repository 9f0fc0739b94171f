"""Links: addresses under which one file can be fetched until a moment, by any holder of it."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_name import safe_file_name
from processors.shared.storage.settings import AREAS, Area
from streams import StreamsError

_LONGEST_NAME: Final = 1000


class LinkRefused(StreamsError):
    """A link that does not work; `status` is what HTTP calls it: 403 it was not made here, 410 it has expired."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """The file a link leads to, and what it is called."""

    area: Area
    key: FileKey
    name: str


class Links:
    """Makes and checks links with one secret. `url` is what they begin with."""

    def __init__(self, secret: bytes, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._url, self._clock = secret, url.rstrip("/"), clock

    def make(self, area: Area, key: FileKey, name: str, seconds: float) -> str:
        """An address that works for so many seconds."""
        until, shown = str(int(self._clock() + seconds)), safe_file_name(name)
        query = urlencode({"name": shown, "until": until, "signature": self._sign(area, key, shown, until)})
        return f"{self._url}/files/{area}/{quote(key)}?{query}"

    def check(self, area: str, key: str, query: Mapping[str, str]) -> Target:
        """Where a link leads; raises `LinkRefused` for one that was not made with this secret, or is over.

        The signature is looked at first: what it does not cover says nothing, not even when it ends.
        """
        name, until = query.get("name", "")[:_LONGEST_NAME], query.get("until", "")
        signature = query.get("signature", "")
        # As bytes, because compare_digest refuses text that is not ASCII.
        if not hmac.compare_digest(signature.encode(), self._sign(area, key, name, until).encode()):
            raise LinkRefused(403, "this link is not valid")
        if self._clock() >= int(until):
            raise LinkRefused(410, "this link has expired")
        if area not in AREAS:
            raise LinkRefused(403, "this link is not valid")
        return Target(area, FileKey.checked(key), name)

    def _sign(self, area: str, key: str, name: str, until: str) -> str:
        # Lengths keep two different links from having the same text.
        text = "".join(f"{len(part)}:{part}" for part in ("v1", area, key, name, until))
        return (
            urlsafe_b64encode(hmac.digest(self._secret, text.encode(errors="replace"), "sha256")).rstrip(b"=").decode()
        )
