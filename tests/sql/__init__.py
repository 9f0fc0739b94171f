"""Tests of streams.sql, on SQLite and on a real PostgreSQL."""
