"""Download: the ASGI application behind links to files in directories. S3 serves its own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import escape
from string import Template
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from processors.shared.storage.file_name import as_attachment
from processors.shared.storage.links import LinkRefused
from processors.shared.storage.storage import Found, Storage
from processors.shared.storage.storages import Storages
from streams import StreamsError, Unavailable

log = structlog.get_logger(__name__)

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_HEADERS: Final = {
    # Whatever a file holds, a browser saves it: it is never a page of this host.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",  # the address is the right to fetch
}

_REMEDIES: Final = {
    410: "Links end after some days. Ask for the file once more: a new link comes by mail.",
    503: "Try again in some minutes: the link is in order.",
}
_PAGE: Final = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #eef1f5; color: #3c4858;
  font: 16px/1.6 -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { box-sizing: border-box; width: min(480px, 100vw - 32px); padding: 32px; border-radius: 14px; background: #fff; }
h1 { margin: 0 0 8px; color: #16202e; font-size: 24px; line-height: 1.3; overflow-wrap: anywhere; }
p { margin: 0; }
@media (prefers-color-scheme: dark) {
  body { background: #0f141b; color: #c3ccd8; } main { background: #18202a; } h1 { color: #e8edf4; }
}
</style>
</head>
<body><main><h1>$title</h1><p>$remedy</p></main></body>
</html>
""")


def download_app(storages: Storages) -> Starlette:
    """Answers GET and HEAD for links that were signed, and for nothing else."""

    async def fetch(request: Request) -> Response:
        try:
            target = storages.links.check(request.path_params["area"], request.path_params["key"], request.query_params)
            storage = storages[target.area]
            found = await storage.find(target.key)
        except LinkRefused as refusal:
            return _refused(request, refusal.status, str(refusal))
        except (StreamsError, FileNotFoundError):
            return _refused(request, 404, "the file is gone")
        except Unavailable as error:
            log.warning("download.unavailable", error=str(error)[:300])
            return _refused(request, 503, "the file cannot be read now")
        headers = {
            **_HEADERS,
            "Content-Disposition": as_attachment(target.name),
            "Content-Type": target.key.media_type,
            "Accept-Ranges": "bytes",
            "ETag": found.mark,
        }
        wanted = request.headers.get("range", "")
        if request.headers.get("if-range", found.mark) != found.mark:
            wanted = ""
        try:
            start, end = _span(wanted, found.bytes)
        except ValueError:
            return _refused(request, 416, "there is no such part", {"Content-Range": f"bytes */{found.bytes}"})
        if wanted and (start, end) != (0, found.bytes):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.bytes}"
        headers["Content-Length"] = str(end - start)
        status = 206 if "Content-Range" in headers else 200
        if request.method == "HEAD" or start == end:
            return Response(status_code=status, headers=headers)
        return StreamingResponse(_blocks(storage, found, start, end), status_code=status, headers=headers)

    return Starlette(routes=[Route("/files/{area}/{key:path}", fetch, methods=["GET", "HEAD"])])


async def _blocks(storage: Storage, found: Found, start: int, end: int) -> AsyncIterator[bytes]:
    async for block in storage.read(found.key, start, end):
        yield block


def _span(header: str, size: int) -> tuple[int, int]:
    """The bytes that a Range header asks for; all of them where it asks for what is not offered (several parts)."""
    match = _RANGE.fullmatch(header)
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise ValueError("nothing of the file is in the range")
    return start, end


def _refused(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """The reason, as a page for a person who has followed a link, and as a line for a program."""
    headers = {**_HEADERS, **(headers or {})}
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(f"{text}\n", status, headers)
    headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    title = f"{text[0].upper()}{text[1:]}"
    remedy = _REMEDIES.get(status, "Open the newest mail about it, or ask for the file once more.")
    return HTMLResponse(_PAGE.substitute(title=escape(title), remedy=remedy), status, headers)
