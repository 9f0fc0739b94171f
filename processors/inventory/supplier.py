"""Supplier: asks a supplier's system for a page of its items, and trusts nothing that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import httpx

from processors.inventory.egress_guard import EgressGuard, Forbidden, Resolve
from processors.inventory.settings import PLACE, InventorySettings
from processors.inventory.supplier_page import SupplierPage, read_supplier_page
from streams import DeadLetter, Retry

_LONGEST_WAIT: Final = 3600.0
"""Seconds: a Retry-After of a week is a mistake, and would look like a sync that is lost."""

_REDIRECTS: Final = 3

Unchanged = Literal["unchanged"]
Expired = Literal["expired"]


class Suppliers:
    """The suppliers' systems of the settings.

    A system that is away is not `Unavailable`: that would stop the whole processor, and stock can be counted without
    it. The page is tried again by its own policy.
    """

    def __init__(self, settings: InventorySettings, *, resolve: Resolve | None = None) -> None:
        self.settings = settings
        self._access = settings.access()
        self._client = httpx.AsyncClient(
            transport=EgressGuard(settings, resolve=resolve),
            follow_redirects=True,
            max_redirects=_REDIRECTS,
            trust_env=False,
            timeout=settings.inventory_page_timeout,
            # Compressed, a megabyte could become a gigabyte before it is counted.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "planning-bord"},
        )

    def known(self, system: str) -> bool:
        """Whether the settings name the system."""
        return system in self._access

    async def fetch(
        self, system: str, business_id: int, *, cursor: str = "", since: str | None = None, etag: str | None = None
    ) -> SupplierPage | Unchanged | Expired:
        """Fetches a page: the first one, or the one at `cursor`; with `since`, of what has changed since that mark.

        `unchanged` is the answer to an `etag` that still holds, `expired` to a cursor or a mark that holds no more.
        Raises `Retry` when another try may help (busy, broken, slow, away), `DeadLetter` when none will.
        """
        access = self._access.get(system)
        if access is None:
            raise DeadLetter(f"supplier {system}: not in INVENTORY_SUPPLIERS")
        parameters = {"limit": str(self.settings.inventory_page_items)}
        parameters |= {"cursor": cursor} if cursor else {}
        parameters |= {"since": since} if since else {}
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        # Of the whole list, so only with its first page: the list has changed, or it has not.
        is_conditional = bool(etag) and not cursor
        headers |= {"If-None-Match": etag} if is_conditional and etag else {}
        url = httpx.URL(access.url.replace(PLACE, str(business_id))).copy_merge_params(parameters)
        try:
            # httpx's own limits are for one read each: a byte every nine seconds would pass them for ever.
            async with asyncio.timeout(self.settings.inventory_page_timeout):
                async with self._client.stream("GET", url, headers=headers) as response:
                    return await self._read(system, response, is_conditional=is_conditional)
        except TimeoutError:
            raise Retry(f"supplier {system}: no page in {self.settings.inventory_page_timeout:g} s") from None
        except (Forbidden, httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise DeadLetter(f"supplier {system}: {error}") from None
        except httpx.HTTPError as error:
            raise Retry(f"supplier {system}: {error.__class__.__name__}") from None

    async def _read(
        self, system: str, response: httpx.Response, *, is_conditional: bool
    ) -> SupplierPage | Unchanged | Expired:
        code = response.status_code
        if code == httpx.codes.NOT_MODIFIED and is_conditional:
            return "unchanged"
        if code == httpx.codes.NOT_MODIFIED:
            # A cache on the way has answered for it; it may not the next time.
            raise Retry(f"supplier {system}: 304, which was not asked for")
        if code == httpx.codes.GONE:
            return "expired"
        if code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            raise Retry(f"supplier {system}: {code}", after=_retry_after(response.headers.get("Retry-After")))
        if code in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY) or code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise Retry(f"supplier {system}: {code}")
        if code != httpx.codes.OK:
            raise DeadLetter(f"supplier {system}: {code}; check INVENTORY_SUPPLIERS and its token")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DeadLetter(f"supplier {system}: the page is compressed, which was not asked for")
        body, most = bytearray(), self.settings.inventory_page_bytes
        async for part in response.aiter_raw():
            body += part
            if len(body) > most:
                raise DeadLetter(f"supplier {system}: the page has more than {most} bytes")
        try:
            return read_supplier_page(
                bytes(body), most=self.settings.inventory_page_items, etag=response.headers.get("ETag")
            )
        except ValueError as error:
            raise DeadLetter(f"supplier {system}: no page: {_short(error)}") from None

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


@asynccontextmanager
async def open_suppliers() -> AsyncIterator[Suppliers]:
    """The suppliers of the environment's settings, for `Shared(open_suppliers)`."""
    suppliers = Suppliers(InventorySettings.load())
    try:
        yield suppliers
    finally:
        await suppliers.aclose()


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either of the two forms of the header; None for neither (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        wait = min(float(int(value)), _LONGEST_WAIT)
    except OverflowError:  # more digits than a float has
        wait = _LONGEST_WAIT if not value.lstrip().startswith("-") else 0.0
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        wait = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait, 0.0), _LONGEST_WAIT)


def _short(error: ValueError) -> str:
    return str(error).partition("\n")[0][:300]
