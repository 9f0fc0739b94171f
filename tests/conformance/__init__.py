"""The conformance suite: what an event may count on, once on the harness and once on each Redis."""
