"""Adapters: each is imported by its own system's worker, in its own environment, and by `publish` there.

An adapter has `AGAIN`, whether the system takes the same publication twice for one, and `publishing()`, a context in
which a token becomes something that can be awaited until it is published, and gives the id.
"""
