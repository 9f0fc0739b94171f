"""Tests of `streams/admin`."""
