"""Benchmarks: the engine beside a hand-written loop on the same Redis, in one run. Only the ratios mean anything."""
