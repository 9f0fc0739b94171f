"""Whole-process tests: real processes that are killed, stopped and drained."""
