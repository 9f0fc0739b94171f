"""What deployments may name: the processes, variables and ports of the code, each found in the code or in the pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from processors.__main__ import names as processors
from processors.email.settings import _SCHEMES
from processors.shared.storage import StorageSettings
from streams import Settings
from tests.test_docs import rows

ROOT: Final = Path(__file__).parents[2]
LINKS: Final = "processors.shared.storage"
DATABASE: Final = "processors.shared.database"
RELAY: Final = "streams.sql.relay"
CONSUMERS: Final = frozenset(f"processors.{name}" for name in processors())
GRACE: Final = float(Settings.model_fields["grace"].default)
"""Seconds."""
CLOSING: Final = 10.0
"""Seconds that a process may take beside its grace, as the supervisor has it."""
LEAST_WATCHDOG: Final = float(Settings.model_fields["timeout"].default + Settings.model_fields["lease"].default)
"""Seconds after which a process that is blocked ends by itself: what watches it has to wait longer."""

TABLES: Final = (
    "The engine", "The database", "The email processor", "The inventory processor", "Files", "The file processor",
    "The report processor", "Logs and traces",
)  # fmt: skip
SECRETS: Final = (
    "REDIS_URL", "REDIS_PASSWORD", "SENTINEL_PASSWORD", "SMTP_URL", "SMTP_PASSWORD", "LINK_SECRET", "DATABASE_URL",
    "INVENTORY_SUPPLIER_TOKENS",
)  # fmt: skip
"""Those that are read from a file as well (test_secrets_are_read_from_files)."""
PORTS: Final = {
    "redis": int(Settings.model_fields["redis_port"].default),
    "links": int(StorageSettings.model_fields["links_port"].default),
    "postgresql": 5432, "https": 443, "dns": 53, "otlp": 4318,
} | {scheme: port for scheme, (_, port) in _SCHEMES.items()}  # fmt: skip


def variables() -> set[str]:
    """Every documented setting; tests/test_docs.py holds the tables to the code."""
    found = {
        name for table in TABLES for names in rows("docs/operate/settings.md", table) for name in names.split(", ")
    }  # fmt: skip
    found |= {f"{name}_FILE" for name in SECRETS}
    # Of Python, of polars and of S3's tools, which are documented in prose.
    return found | {
        "PYTHONUNBUFFERED",
        "POLARS_SKIP_CPU_CHECK",
        "TMPDIR",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }


def is_there(module: str) -> bool:
    """Whether `python -m MODULE` finds a program."""
    found = importlib.util.find_spec(module)
    if found is None:
        return False
    return found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None
