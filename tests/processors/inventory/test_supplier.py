"""What a supplier's system may answer, and what becomes of it; where requests may go, and where not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from examples.fakes.supplier import FakeSupplier, Fault
from processors.inventory.egress_guard import is_public
from processors.inventory.settings import InventorySettings
from processors.inventory.supplier import Suppliers, _retry_after
from processors.inventory.supplier_page import SupplierPage, read_supplier_page
from streams import DeadLetter, Retry, StreamsError


@pytest.fixture
async def suppliers(supplier: FakeSupplier, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Suppliers]:
    """The client of `acme`, which has no patience."""
    monkeypatch.setenv("INVENTORY_PAGE_TIMEOUT", "2")
    suppliers = Suppliers(InventorySettings.load())
    for number in range(25):
        supplier.stock(f"S{number:02d}", number)
    yield suppliers
    await suppliers.aclose()


async def test_a_page_and_the_one_after_it(suppliers: Suppliers) -> None:
    """By cursor; the mark and the ETag come with the first."""
    page = await suppliers.fetch("acme", 1)
    assert isinstance(page, SupplierPage)
    assert (len(page.items), page.next, page.since, page.total, page.etag) == (10, "S09", "25", 25, '"25"')
    page = await suppliers.fetch("acme", 1, cursor="S19")
    assert isinstance(page, SupplierPage)
    assert [item.sku for item in page.items] == ["S20", "S21", "S22", "S23", "S24"]
    assert page.next is None
    assert await suppliers.fetch("acme", 1, etag='"25"') == "unchanged"
    assert isinstance(await suppliers.fetch("acme", 1, cursor="S09", etag='"25"'), SupplierPage)


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ("broken", Retry, "500"),
        ("unchanged", Retry, "304, which was not asked for"),
        ("away", Retry, "RemoteProtocolError"),
        ("drip", Retry, "no page in 2 s"),
        ("huge", DeadLetter, "more than 1048576 bytes"),
        ("nonsense", DeadLetter, "no page"),
        ("too_many", DeadLetter, "where 10 were asked for"),
    ],
)
async def test_a_bad_answer_is_a_typed_error(
    suppliers: Suppliers, supplier: FakeSupplier, fault: str, kind: type[Exception], text: str
) -> None:
    """Worth another try, or not; and the next answer is read as if nothing had been."""
    supplier.misbehave([fault])  # type: ignore[list-item]
    with pytest.raises(kind, match=text):
        await suppliers.fetch("acme", 1)
    assert isinstance(await suppliers.fetch("acme", 1), SupplierPage)


async def test_busy_says_for_how_long(suppliers: Suppliers, supplier: FakeSupplier) -> None:
    """Retry-After in seconds or as a date, within reason; nonsense is left to the policy."""
    supplier.misbehave([Fault("busy", after="17")])
    with pytest.raises(Retry) as caught:
        await suppliers.fetch("acme", 1)
    assert caught.value.after == 17
    assert 50 < (_retry_after(format_datetime(datetime.now(UTC) + timedelta(minutes=1))) or 0) <= 60
    assert _retry_after("999999999") == 3600
    assert _retry_after("-5") == 0
    assert _retry_after("Wed, 99 Foo") is None
    assert _retry_after(None) is None


async def test_nobody_is_away_for_ever(suppliers: Suppliers, supplier: FakeSupplier) -> None:
    """A supplier that is not there is tried again, and does not stop the processor as `Unavailable` would."""
    await supplier.aclose()
    with pytest.raises(Retry, match="ConnectError"):
        await suppliers.fetch("acme", 1)


async def test_a_wrong_token_is_no_use_to_repeat(supplier: FakeSupplier, monkeypatch: pytest.MonkeyPatch) -> None:
    """401, and the message names what to look at, not the token."""
    monkeypatch.setenv("INVENTORY_SUPPLIER_TOKENS", "acme=wrong")
    suppliers = Suppliers(InventorySettings.load())
    with pytest.raises(DeadLetter, match="401; check INVENTORY_SUPPLIERS and its token") as caught:
        await suppliers.fetch("acme", 1)
    assert "wrong" not in str(caught.value)
    with pytest.raises(DeadLetter, match="not in INVENTORY_SUPPLIERS"):
        await suppliers.fetch("other", 1)
    await suppliers.aclose()


async def test_what_cannot_be_true_is_left_out_and_named(suppliers: Suppliers, supplier: FakeSupplier) -> None:
    """NaN, an overflow, less than nothing, a price that is none, a SKU twice; the rest of the page counts."""
    supplier.misbehave(["bad_items"])
    page = await suppliers.fetch("acme", 1)
    assert isinstance(page, SupplierPage)
    assert [item.sku for item in page.items] == [f"S{number:02d}" for number in range(5, 9)]
    assert [(item.sku, item.reason) for item in page.refused] == [
        ("S00", "invalid"), ("S01", "invalid"), ("S02", "invalid"), ("S03", "invalid"), ("S04", "duplicate"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"items": 3}', b'{"items": [], "next": ""}', b'{"items": [], "total": -1}',
     b'{"items": [], "next": "a\\u0000b"}', b"[" * 10_000, b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_page(body: bytes) -> None:
    """Whatever it is."""
    with pytest.raises(ValueError):
        read_supplier_page(body, most=10)


# Where requests may go ---------------------------------------------------------------------------------------------


@pytest.fixture
async def canary() -> AsyncIterator[tuple[int, list[str]]]:
    """A port of this machine that nobody may reach, and who has connected to it."""
    seen: list[str] = []

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()
    await server.wait_closed()


HOSTS = (
    "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0.0.0.0",
    "acme@127.0.0.1", "127.0.0.1.", "LOCALHOST",
)  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_a_redirect_leads_to_no_host_that_is_not_listed(
    suppliers: Suppliers, supplier: FakeSupplier, canary: tuple[int, list[str]], host: str
) -> None:
    """However it is written."""
    port, seen = canary
    supplier.misbehave([Fault("redirect", to=f"http://{host}:{port}/items")])
    with pytest.raises((DeadLetter, Retry)):  # Retry: what httpx takes for no URL at all
        await suppliers.fetch("acme", 1)
    assert seen == []


async def test_a_host_that_is_not_listed_is_not_even_looked_up(supplier: FakeSupplier) -> None:
    """A name can carry what somebody wants to know; and a public address is no permission."""
    looked_up: list[str] = []

    async def look_up(host: str, _: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    suppliers = Suppliers(InventorySettings.load(), resolve=look_up)
    supplier.misbehave([Fault("redirect", to="https://elsewhere.example/items")])
    with pytest.raises(DeadLetter, match="not in INVENTORY_SUPPLIER_HOSTS"):
        await suppliers.fetch("acme", 1)
    assert looked_up == ["localhost"]
    await suppliers.aclose()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_listed_host_at_a_private_address_is_refused_all_the_same(
    supplier: FakeSupplier, canary: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch, scheme: str, name: str
) -> None:
    """The list says who may be asked; that their name leads into this network is a lie, or an accident."""
    port, seen = canary
    monkeypatch.setenv("INVENTORY_SUPPLIER_HOSTS", f"{name}:{port}")
    suppliers = Suppliers(InventorySettings.load())
    supplier.misbehave([Fault("redirect", to=f"{scheme}://{name}:{port}/items")])
    with pytest.raises(DeadLetter, match=r"not public|without TLS"):
        await suppliers.fetch("acme", 1)
    assert seen == []
    await suppliers.aclose()


async def test_a_name_that_points_elsewhere_a_moment_later_changes_nothing(
    canary: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resolved once, and the connection is made to what was checked; a mixture is refused as a whole."""
    port, seen = canary
    monkeypatch.setenv("INVENTORY_SUPPLIERS", f"acme=https://rebound.example:{port}/items")
    monkeypatch.setenv("INVENTORY_PAGE_TIMEOUT", "0.5")
    asked: list[str] = []

    async def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return {1: ["192.0.2.1", "93.184.216.34"], 2: ["93.184.216.34", "127.0.0.1"]}.get(len(asked), ["127.0.0.1"])

    suppliers = Suppliers(InventorySettings.load(), resolve=rebinding)
    for _ in range(3):
        with pytest.raises(DeadLetter, match="not public"):
            await suppliers.fetch("acme", 1)
    assert asked == ["rebound.example"] * 3
    assert seen == []
    await suppliers.aclose()


async def test_the_connection_is_made_to_the_address_that_was_checked(
    supplier: FakeSupplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is only in the request: nobody resolves it a second time, where it could have another address."""
    port = InventorySettings.load().access()["acme"].url.partition("localhost:")[2].partition("/")[0]
    monkeypatch.setenv("INVENTORY_SUPPLIERS", f"acme=http://nowhere.example:{port}/items")
    monkeypatch.setenv("INVENTORY_PRIVATE_HOSTS", f"nowhere.example:{port}")

    async def here(host: str, _: int) -> list[str]:
        assert host == "nowhere.example"
        return ["127.0.0.1"]

    suppliers = Suppliers(InventorySettings.load(), resolve=here)
    assert isinstance(await suppliers.fetch("acme", 1), SupplierPage)
    await suppliers.aclose()


async def test_a_supplier_that_redirects_in_circles(suppliers: Suppliers, supplier: FakeSupplier) -> None:
    """Three redirects are enough for anybody."""
    here = suppliers._access["acme"].url.replace("{business_id}", "1")
    supplier.misbehave([Fault("redirect", to=here)] * 9)
    with pytest.raises(DeadLetter, match="redirects"):
        await suppliers.fetch("acme", 1)
    assert len(supplier.faults) == 5


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "127.9.9.9", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:a00:1::", "2001::1", "192.0.2.1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, local, shared, of a cloud's metadata, multicast, reserved, or one of those inside another."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are(address: str) -> None:
    """The internet."""
    assert is_public(address)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"INVENTORY_SUPPLIERS": "acme"}, "name=value"),
        ({"INVENTORY_SUPPLIERS": "acme=ftp://x/"}, "https://"),
        ({"INVENTORY_SUPPLIERS": "acme=https://user:pw@x/"}, "https://"),
        ({"INVENTORY_SUPPLIERS": "acme=http://x/"}, "must be https"),
        ({"INVENTORY_SUPPLIERS": "acme=https://{business_id}.x/"}, "in its host"),
        ({"INVENTORY_SUPPLIERS": "a=https://x/,a=https://y/"}, "twice"),
        ({"INVENTORY_SUPPLIER_TOKENS": "acme=hunter2"}, "does not"),
        ({"INVENTORY_PAGE_ITEMS": "501"}, "INVENTORY_PAGE_ITEMS"),
        ({"INVENTORY_SUPPLIER_TOKENS_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(
    variables: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable's name, and without a secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StreamsError, match=text) as caught:
        InventorySettings.load()
    assert "hunter2" not in str(caught.value)
    assert "pw" not in str(caught.value)
