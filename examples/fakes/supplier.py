"""FakeSupplier: a small supplier's system to sync from, for the demo and the tests; it misbehaves on request.

`GET /items?limit=&cursor=&since=` answers `{"items": [{"sku", "name", "price", "quantity"}], "next", "since", "total"}`
and an ETag. `python -m examples.fakes.supplier` serves one; `POST /faults {"kind": "busy", "times": 2}`
makes it misbehave.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import h11
import orjson

Kind = Literal[
    "busy",  # 429 and Retry-After
    "broken",  # 500
    "away",  # the connection is cut
    "drip",  # one byte at a time
    "huge",  # a page that does not end
    "nonsense",  # no JSON
    "circle",  # the next page is this one
    "too_many",  # more items than were asked for
    "bad_items",  # NaN, an overflow, a SKU twice, a negative number
    "miscount",  # a total that is not true
    "expired",  # 410
    "unchanged",  # 304, whether it was asked for or not
    "redirect",  # 302 to `to`
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the next answer; `after` is the Retry-After of `busy`, `to` where `redirect` leads."""

    kind: Kind
    after: str = "0"
    to: str = ""


@dataclass(slots=True)
class Stocked:
    """A product, and the number of the change that made it what it is."""

    name: str
    price: float
    quantity: Any
    change: int


class FakeSupplier:
    """A catalogue behind HTTP on a port of this machine. `faults` are taken one for each answer."""

    def __init__(self, token: str = "") -> None:
        self.items: dict[str, Stocked] = {}
        self.faults: deque[Fault] = deque()
        self.asked: list[dict[str, str]] = []  # the query of each request for items
        self._token = token
        self._change = 0
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def stock(self, sku: str, quantity: int, *, name: str = "", price: float = 1.0) -> None:
        """Adds a product or changes it."""
        self._change += 1
        self.items[sku] = Stocked(name or f"Supplier's {sku}", price, quantity, self._change)

    def misbehave(self, kinds: Iterable[Kind | Fault]) -> None:
        """Adds faults, one for each of the next answers."""
        self.faults.extend(Fault(kind) if isinstance(kind, str) else kind for kind in kinds)

    async def start(self, port: int = 0) -> int:
        """Listens, on this machine only; returns the port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        """Stops listening and cuts what is open."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._serve(reader, writer)
        except (OSError, h11.ProtocolError):
            pass  # the other side has had enough
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            del self._connections[task]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        request: h11.Request | None = None
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                await self._answer(http, writer, request, body)
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    return
                http.start_next_cycle()
            else:  # the connection is closed
                return

    async def _answer(
        self, http: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
    ) -> None:
        parts = urlsplit(request.target.decode())
        headers = {name.decode(): value.decode() for name, value in request.headers}
        if request.method == b"POST" and parts.path == "/faults":
            asked = orjson.loads(body)
            times = int(asked.pop("times", 1))
            self.misbehave([Fault(**asked)] * times)
            return await _send(http, writer, 204)
        if not parts.path.endswith("/items"):
            return await _send(http, writer, 404)
        if self._token and headers.get("authorization") != f"Bearer {self._token}":
            return await _send(http, writer, 401)
        query = dict(parse_qsl(parts.query))
        self.asked.append(query)
        fault = self.faults.popleft() if self.faults else None
        match fault.kind if fault is not None else None:
            case "away":
                http.send_failed()
                return None
            case "busy":
                return await _send(http, writer, 429, after=fault.after)  # type: ignore[union-attr]
            case "broken":
                return await _send(http, writer, 500)
            case "expired":
                return await _send(http, writer, 410)
            case "unchanged":
                return await _send(http, writer, 304)
            case "redirect":
                return await _send(http, writer, 302, location=fault.to)  # type: ignore[union-attr]
            case "nonsense":
                return await _send(http, writer, 200, b"<html>oops")
            case "drip" | "huge" as kind:
                return await _drip(http, writer, chunk=b" " * (1 if kind == "drip" else 65_536), slow=kind == "drip")
        etag = f'"{self._change}"'
        if headers.get("if-none-match") == etag:
            return await _send(http, writer, 304, etag=etag)
        page = self._page(query)
        return await _send(http, writer, 200, _spoilt(page, query, fault), etag=etag)

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        limit, cursor, since = int(query.get("limit", 100)), query.get("cursor", ""), int(query.get("since", 0))
        listed = sorted(sku for sku, item in self.items.items() if item.change > since)
        shown = [sku for sku in listed if sku > cursor][:limit]
        return {
            "items": [
                {"sku": sku, "name": item.name, "price": item.price, "quantity": item.quantity}
                for sku in shown
                for item in [self.items[sku]]
            ],
            "next": shown[-1] if shown and shown[-1] != listed[-1] else None,
            "since": str(self._change),
            "total": len(listed),
        }


def _spoilt(page: dict[str, Any], query: dict[str, str], fault: Fault | None) -> bytes:
    items = page["items"]
    match fault.kind if fault is not None else None:
        case "circle":
            page["next"] = query.get("cursor") or "1"
        case "too_many":
            page["items"] = items * (int(query.get("limit", 100)) // max(1, len(items)) + 2)
        case "miscount":
            page["total"] += 7
        case "bad_items" if len(items) > 5:
            items[0]["quantity"] = math.nan
            items[1]["quantity"] = 10**30
            items[2]["quantity"] = -1
            items[3]["price"] = "free"
            items[-1] = dict(items[4])
            return json.dumps(page).encode()  # which writes NaN: that is no JSON, but some suppliers send it
    return orjson.dumps(page)


async def _send(
    http: h11.Connection,
    writer: asyncio.StreamWriter,
    code: int,
    body: bytes = b"",
    *,
    etag: str = "",
    after: str = "",
    location: str = "",
) -> None:
    named = {"ETag": etag, "Retry-After": after, "Location": location, "Content-Type": "application/json"}
    headers = [(name, value) for name, value in named.items() if value]
    if code not in (204, 304):
        headers.append(("Content-Length", str(len(body))))
    writer.write(http.send(h11.Response(status_code=code, headers=headers)) or b"")
    if body:
        writer.write(http.send(h11.Data(data=body)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    await writer.drain()


async def _drip(http: h11.Connection, writer: asyncio.StreamWriter, *, chunk: bytes, slow: bool) -> None:
    """Writes until the other side has had enough."""
    writer.write(http.send(h11.Response(status_code=200, headers=[("Content-Type", "application/json")])) or b"")
    while not writer.is_closing():
        writer.write(http.send(h11.Data(data=chunk)) or b"")
        await writer.drain()
        await asyncio.sleep(0.05 if slow else 0)


async def serve(port: int, count: int) -> None:
    """Serves a catalogue of made-up products until it is cancelled."""
    supplier = FakeSupplier()
    for number in range(1, count + 1):
        supplier.stock(f"SUP-{number:05d}", number * 7 % 90, name=f"Supplied item {number}", price=number % 50 + 0.99)
    print(f"http://127.0.0.1:{await supplier.start(port)}/items", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await supplier.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.supplier", description=serve.__doc__)
    parser.add_argument("--port", type=int, default=8100, help="on 127.0.0.1 (0: any that is free)")
    parser.add_argument("--items", type=int, default=500, help="how many products it has")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.items))
