"""Certificates: made for a test by the openssl program, and a TLS port in front of a plain server."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


_AUTHORITY: Final = """
[ca]
default_ca = here
[here]
new_certs_dir = {0}
database = {0}/index
serial = {0}/serial
default_md = sha256
policy = names
x509_extensions = names_too
[names]
commonName = supplied
[names_too]
subjectAltName = {1}
"""


def make_certificate(
    directory: Path, name: str, *, host: str = "localhost", expired: bool = False
) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key; of this machine unless another host is named."""
    file, key = directory / f"{name}.pem", directory / f"{name}.key"
    names = f"DNS:{host}" + (",IP:127.0.0.1" if host == "localhost" else "")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-keyout", str(key)]
    if not expired:
        _run(*new, "-x509", "-days", "2", "-addext", f"subjectAltName={names}", "-out", str(file))
        return file, key
    authority = directory / f"{name}-authority"  # the only way of the program to say when it begins and ends
    authority.mkdir()
    (authority / "index").touch()
    (authority / "serial").write_text("01")
    (authority / "config").write_text(_AUTHORITY.format(authority, names))
    _run(*new, "-out", str(authority / "request"))
    _run(
        "openssl", "ca", "-batch", "-config", str(authority / "config"), "-selfsign", "-keyfile", str(key), "-notext",
        "-in", str(authority / "request"), "-out", str(file),
        "-startdate", "200101000000Z", "-enddate", "200102000000Z",
    )  # fmt: skip
    return file, key


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@asynccontextmanager
async def tls_port(port: int, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """A port on loopback that speaks TLS and passes on to a plain one; the `redis-server` of the wheel has no TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
