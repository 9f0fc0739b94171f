"""Guard: where a request may go, before anything is sent."""

from __future__ import annotations

import httpx
import pytest

from processors.inventory.guard import Forbidden, Guard
from processors.inventory.settings import InventorySettings


async def _to_this_machine(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://supplier.example/items", "supplier.example:80 would be asked without TLS"),
        ("http://supplier.example:443/items", "supplier.example:443 would be asked without TLS"),
        ("https://supplier.example/items", "has the address 127.0.0.1, which is not public"),
        ("https://elsewhere.example/items", "elsewhere.example:443 is not in INVENTORY_SUPPLIER_HOSTS"),
        ("https://supplier.example:8443/items", "supplier.example:8443 is not in INVENTORY_SUPPLIER_HOSTS"),
    ],
)
async def test_what_may_not_be_asked_is_not_asked(url: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is listed and public is asked with TLS or not at all; one that is listed by its port only there."""
    monkeypatch.setenv("INVENTORY_SUPPLIERS", "acme=https://supplier.example/items")
    monkeypatch.setenv("INVENTORY_SUPPLIER_HOSTS", "supplier.example:80,supplier.example:443")
    guard = Guard(InventorySettings.load(), resolve=_to_this_machine)
    try:
        with pytest.raises(Forbidden, match=told):
            await guard.handle_async_request(httpx.Request("GET", url))
    finally:
        await guard.aclose()
