"""Tests of the fakes: what others are tested with is tested itself."""
