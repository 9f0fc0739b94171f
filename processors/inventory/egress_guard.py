"""EgressGuard: lets requests go to listed hosts only, and only to the address that was checked.

The owner of a host name may point it anywhere, and a redirect is a supplier's word: without this, either could read
what only this machine can reach.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from processors.inventory.settings import InventorySettings

Resolve = Callable[[str, int], Awaitable[list[str]]]

# Addresses that carry another one inside, which a gateway of the network may follow into the inside.
_CARRIERS: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
            "::/96", "::ffff:0:0:0/96",  # the forms before IPv4-mapped: compatible, and translated
            "192.88.99.0/24",  # relays to 2002::/16
        ),
    )
)  # fmt: skip
_USUAL_PORTS: Final = {"https": 443, "http": 80}


class Forbidden(httpx.RequestError):
    """A request to where no request may go; nothing was sent."""


class EgressGuard(httpx.AsyncBaseTransport):
    """An HTTP transport that asks `InventorySettings` about each request, those of redirects included.

    The host is resolved once, every address it has is checked, and the connection is made to the checked address
    (TLS still verifies the name): a name that points elsewhere a moment later changes nothing. Raises `Forbidden`.
    """

    def __init__(self, settings: InventorySettings, *, resolve: Resolve | None = None) -> None:
        self._settings = settings
        self._resolve = resolve or _resolve
        self._context = ssl.create_default_context()
        # One pool a host: a pool knows its connections by the address, and two names may share that.
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Checks, resolves, checks what was resolved, and sends."""
        host, scheme = request.url.host, request.url.scheme
        port = request.url.port or _USUAL_PORTS.get(scheme, 0)
        if not self._settings.may_ask(host, port):
            raise Forbidden(f"{host}:{port} is not in INVENTORY_SUPPLIER_HOSTS", request=request)
        private = self._settings.is_private(host, port)
        if scheme != "https" and not private:
            raise Forbidden(f"{host}:{port} would be asked without TLS", request=request)
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(f"{host} has no address", request=request) from error
        for address in addresses:
            if not private and not is_public(address):
                raise Forbidden(f"{host} has the address {address}, which is not public", request=request)
        if host not in self._transports:
            self._transports[host] = httpx.AsyncHTTPTransport(verify=self._context, trust_env=False)
        failed: httpx.ConnectError | None = None
        for address in addresses[:4]:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # its Host is still the name
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._transports[host].handle_async_request(pinned)
            except httpx.ConnectError as error:
                failed = error
        raise failed or httpx.ConnectError(f"{host} has no address", request=request)

    async def aclose(self) -> None:
        """Closes the connections."""
        for transport in self._transports.values():
            await transport.aclose()


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, and does not stand for another one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.is_site_local:  # the inside of networks of long ago, which Python counts as global
            return False
    if any(parsed in carrier for carrier in _CARRIERS):
        return False
    return parsed.is_global and not parsed.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
