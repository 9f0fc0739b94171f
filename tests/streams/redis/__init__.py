"""Tests of `streams/redis`."""
