"""InventorySettings: what the inventory processor reads from the environment."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, model_validator

from streams.settings import CommaSeparated, EnvironmentSettings, comma_separated

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_USUAL_PORTS: Final = {"https": 443, "http": 80}
_TOKENS: Final = "INVENTORY_SUPPLIER_TOKENS"
PLACE: Final = "{business_id}"


Hosts = CommaSeparated[frozenset[str]]


class Access(NamedTuple):
    """How a supplier's system is asked. `token` is a secret: never log a whole Access."""

    system: str
    url: str  # of the list of items; {business_id} stands for the business
    token: str

    def __repr__(self) -> str:
        return f"<Access {self.system}>"


class InventorySettings(EnvironmentSettings):
    """The inventory processor's settings; every field is the environment variable of the same name in capitals.

    `INVENTORY_SUPPLIER_TOKENS` is also read from the file that `INVENTORY_SUPPLIER_TOKENS_FILE` names.
    """

    secret_variables = (_TOKENS,)

    # Suppliers' systems, comma separated: acme=https://api.acme.example/v1/{business_id}/items
    inventory_suppliers: CommaSeparated[tuple[str, ...]] = ()
    inventory_supplier_tokens: SecretStr = SecretStr("")  # bearer tokens, comma separated: acme=...
    # Further hosts that may be asked when a supplier redirects there, as host or host:port.
    inventory_supplier_hosts: Hosts = frozenset()
    # Hosts (host or host:port) that may be asked without TLS and at a private address: for development.
    inventory_private_hosts: Hosts = frozenset()
    inventory_page_items: int = Field(200, ge=1, le=500)  # items that are asked for at a time
    inventory_page_bytes: int = Field(1_048_576, ge=1024)  # the most that one page may have
    inventory_page_timeout: float = Field(10.0, gt=0, le=50)  # seconds one page may take in all; below the handler's
    inventory_pages_most: int = Field(10_000, ge=1)  # pages of one sync, before it is called endless
    inventory_inbox_days: int = Field(
        90, ge=1
    )  # that a row of the SQL inbox is kept: see docs/concepts/transactions.md

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.access()
        return self

    def access(self) -> dict[str, Access]:
        """The suppliers' systems by name; raises `ValueError` when one is invalid."""
        tokens = dict(_named(_TOKENS, comma_separated(self.inventory_supplier_tokens.get_secret_value())))
        found: dict[str, Access] = {}
        for name, url in _named("INVENTORY_SUPPLIERS", self.inventory_suppliers):
            parts = urlsplit(url.replace(PLACE, "0"))
            if parts.scheme not in _USUAL_PORTS or not parts.hostname or parts.username or parts.fragment:
                raise ValueError(f"INVENTORY_SUPPLIERS: {name} needs an address like https://api.example.com/items")
            if PLACE in urlsplit(url).netloc:
                raise ValueError(f"INVENTORY_SUPPLIERS: {name} has {PLACE} in its host")
            if parts.scheme == "http" and not self.is_private(*_place(parts)):
                raise ValueError(f"INVENTORY_SUPPLIERS: {name} must be https (or in INVENTORY_PRIVATE_HOSTS)")
            found[name] = Access(name, url, tokens.pop(name, ""))
        if tokens:
            raise ValueError(f"{_TOKENS} names {sorted(tokens)}, which INVENTORY_SUPPLIERS does not")
        return found

    def may_ask(self, host: str, port: int) -> bool:
        """Whether requests may go to a host: a supplier's own, or one that is listed."""
        own = {_place(urlsplit(access.url.replace(PLACE, "0"))) for access in self.access().values()}
        return (host, port) in own or _listed(host, port, self.inventory_supplier_hosts | self.inventory_private_hosts)

    def is_private(self, host: str, port: int) -> bool:
        """Whether a host may be asked without TLS and at a private address."""
        return _listed(host, port, self.inventory_private_hosts)


def _named(variable: str, parts: Any) -> list[tuple[str, str]]:
    pairs = [part.partition("=") for part in parts]
    for name, _, value in pairs:
        if not _NAME.fullmatch(name) or not value:
            raise ValueError(f"{variable} is written as name=value,name=value; names are of a-z 0-9 _ . -")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError(f"{variable} has a name twice")
    return [(name, value) for name, _, value in pairs]


def _place(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or _USUAL_PORTS[parts.scheme]


def _listed(host: str, port: int, hosts: frozenset[str]) -> bool:
    return f"{host}:{port}" in hosts or (port in _USUAL_PORTS.values() and host in hosts)
