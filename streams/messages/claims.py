"""ClaimStore: data over the size cap, kept as an object in a file system or S3; the message carries a claim on it.

The reference is what `data` holds instead: `{"$claim":{"key":...,"sha256":...,"bytes":...}}`
(docs/reference/wire-format.md). It comes from outside, so its key is believed only if it is the one this message's
object would have: no message reads or removes the object of another one, or a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from streams.errors import StreamsError
from streams.messages.error_text import describe
from streams.messages.message import DATA, ID, Message
from streams.messages.object_store import open_store, store_errors

MARK: Final = b'{"$claim":'
"""What the data of a message begins with when it is a reference."""

MOST: Final = 64 * 1024 * 1024

_PLAIN_ID: Final = re.compile(rb"[A-Za-z0-9-]{1,64}")
_STORED: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}-([A-Za-z0-9-]{1,64})")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: `event_id` is empty when its key does not have it, `size` in bytes."""

    key: str
    event_id: str
    at: datetime
    size: int


class ClaimStore:
    """Objects under a URL: `s3://bucket/prefix` or `file:///directory` (made if it is missing).

    `most` is the cap of one event's data in bytes; a consumer holds that much per handler. `options` go to
    `obstore.store.from_url`; S3 also reads `AWS_*` from the environment. Needs the extra `storage`. Raises
    `StreamsError` for a URL that is none.
    """

    def __init__(self, url: str, *, most: int = MOST, **options: Any) -> None:
        self.most = most
        self._store = open_store(url, user="the claim store", **options)

    async def check_in(self, messages: Sequence[Message], over: int) -> None:
        """Stores the data of those messages that have more than `over` bytes, and leaves the reference in its place.

        Raises `StreamsError` when the store does not take it: nothing has been published then.
        """
        from obstore.exceptions import BaseError

        for message in messages:
            data = message.values[DATA]
            if len(data) <= over or data.startswith(MARK):
                continue
            digest = hashlib.sha256(data).hexdigest()
            key = _key(digest, message)
            try:
                await self._store.put_async(key, data)
            except (BaseError, OSError) as error:
                raise StreamsError(f"the claim store does not take {len(data)} bytes: {describe(error)}") from error
            message.values[DATA] = orjson.dumps({"$claim": {"key": key, "sha256": digest, "bytes": len(data)}})

    async def fetch(self, message: Message) -> bytes:
        """Reads the data that a message has a claim on.

        Raises `ValueError` for a reference that is wrong or does not fit the object, `FileNotFoundError` when there is
        no such object (yet: another try may find it), `Unavailable` when the store does not answer.
        """
        key, digest, size = _claim(message)
        if size > self.most:
            raise ValueError(f"the claim is on {size} bytes, over the cap of {self.most}")
        with store_errors(f"no object {key} in the claim store: it was removed, or STORAGE_URL is another"):
            found = await self._store.get_async(key)
            if found.meta["size"] != size:
                raise ValueError(f"the object has {found.meta['size']} bytes, the claim is on {size}: {key}")
            data = bytes(await found.bytes_async())
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"the object is not the one that was stored, its sha256 differs: {key}")
        return data

    async def remove(self, message: Message) -> bool:
        """Removes the object of a message that is removed for good; False if the message has none of its own.

        Raises `Unavailable` when the store does not answer.
        """
        if not message.values[DATA].startswith(MARK):
            return False
        try:
            key, _, _ = _claim(message)
        except ValueError:
            return False
        await self._delete(key)
        return True

    async def ls(self) -> AsyncIterator[Stored]:
        """Every object, in no order. Raises `Unavailable` when the store does not answer."""
        with store_errors():
            async for page in self._store.list():
                for found in page:
                    named = _STORED.fullmatch(found["path"])
                    event_id = named[1] if named and not _DIGEST.fullmatch(named[1]) else ""
                    yield Stored(found["path"], event_id, found["last_modified"], found["size"])

    async def drop(self, stored: Stored) -> None:
        """Removes an object of the listing. Raises `Unavailable` when the store does not answer."""
        await self._delete(stored.key)

    async def _delete(self, key: str) -> None:
        # S3 does not say whether there was one; a directory does.
        with contextlib.suppress(FileNotFoundError), store_errors("no such object"):
            await self._store.delete_async(key)


def _key(digest: str, message: Message) -> str:
    event_id = message.values[ID]
    name = event_id.decode() if _PLAIN_ID.fullmatch(event_id) else hashlib.sha256(event_id).hexdigest()
    return f"{digest[:2]}/{digest}-{name}"


def _claim(message: Message) -> tuple[str, str, int]:
    """The key, the sha256 and the size of a reference, if they are what they can be."""
    match orjson.loads(message.values[DATA]):
        case {"$claim": {"key": str(key), "sha256": str(digest), "bytes": int(size)}}:
            if re.fullmatch(r"[0-9a-f]{64}", digest) and key == _key(digest, message) and size >= 0:
                return key, digest, size
    raise ValueError("the data is no claim on an object of this event")
