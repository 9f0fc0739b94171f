"""Tests of `streams/messages`."""
