"""Alembic's environment and the versions; run them with `python -m processors.shared.database upgrade`."""
