"""EgressGuard: where a request may go, before anything is sent."""

from __future__ import annotations

import httpx
import pytest

from processors.inventory.egress_guard import EgressGuard, Forbidden, is_public
from processors.inventory.settings import InventorySettings
from processors.inventory.supplier import _retry_after


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
    guard = EgressGuard(InventorySettings.load(), resolve=_to_this_machine)
    try:
        with pytest.raises(Forbidden, match=told):
            await guard.handle_async_request(httpx.Request("GET", url))
    finally:
        await guard.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "::127.0.0.1", "::a9fe:a9fe", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "fec0::1", "feff::1",
        "192.88.99.1", "2002:7f00:1::", "64:ff9b::7f00:1", "::", "::1", "fe80::1%eth0", "ff0e::1",
    ],
)  # fmt: skip
def test_an_address_that_may_stand_for_one_of_the_inside_is_not_public(address: str) -> None:
    """Whatever form it is written in: a gateway of the network may follow it."""
    assert not is_public(address)


@pytest.mark.parametrize(
    ("header", "longest"), [("9" * 400, True), ("-" + "9" * 400, False), ("9" * 5000, None), ("1e9", None)]
)
def test_a_wait_of_any_length_is_a_wait_or_none(header: str, longest: bool | None) -> None:
    """Never an error: the header is somebody else's."""
    found = _retry_after(header)
    assert found == {True: _retry_after("9" * 9), False: 0.0, None: None}[longest]
