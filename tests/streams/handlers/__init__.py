"""Tests of `streams/handlers`."""
