"""Tests of `streams/settling`."""
