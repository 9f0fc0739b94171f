"""Peers: other queues on Redis under the faults of the soak, side by side with this project.

`python -m tests.faults.peers` runs them. `adapters` holds one module a system, written as its own documentation has
it, which runs in an environment of its own; `load` is what their handlers do, `publish` what is published, `run` one
bout of one system under one plan of faults, `judge` reads what was written down. `peer` says how each is started.
"""
