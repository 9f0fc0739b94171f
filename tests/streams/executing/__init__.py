"""Tests of `streams/executing`."""
