"""Tests of `streams/publishing`."""
