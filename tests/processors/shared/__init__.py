"""Tests of what the processors share."""
