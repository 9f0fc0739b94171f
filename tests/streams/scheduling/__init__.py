"""Tests of `streams/scheduling`."""
