"""`python -m processors.inventory` as a process: how it starts, and how it refuses to."""

from __future__ import annotations

from pathlib import Path

from tests.support.child import Spawn

ROOT = str(Path(__file__).parents[3])


def test_a_wrong_setting_ends_it_at_once_with_one_line(spawn: Spawn) -> None:
    """Which names the variable, and shows no secret."""
    child = spawn("processors.inventory", env={"PYTHONPATH": ROOT, "INVENTORY_SUPPLIER_TOKENS": "acme=hunter2"})
    assert child.wait() == 2
    assert child.stderr() == "error: INVENTORY_SUPPLIER_TOKENS names ['acme'], which INVENTORY_SUPPLIERS does not\n"


def test_a_server_without_its_tables_is_not_changed(spawn: Spawn, postgres_url: str) -> None:
    """Its operator is told how to."""
    child = spawn("processors.inventory", env={"PYTHONPATH": ROOT, "DATABASE_URL": postgres_url})
    assert child.wait() == 2
    assert child.stderr() == (
        "error: the business database is empty: run python -m processors.shared.database upgrade\n"
    )


def test_a_database_that_is_away_is_said_in_one_line(spawn: Spawn, tmp_path: Path) -> None:
    """With a code that asks to be started again."""
    url = f"postgresql://streams:hunter2@/none?host={tmp_path}"
    child = spawn("processors.inventory", env={"PYTHONPATH": ROOT, "DATABASE_URL": url})
    assert child.wait() == 1
    assert child.stderr().startswith("error: the business database does not answer: ")
    assert "hunter2" not in child.stderr()
    assert child.stderr().count("\n") == 1
