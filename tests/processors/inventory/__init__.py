"""Tests of the inventory processor."""
