"""Tests of `streams/testing`."""
