"""Soak: real processes, a real Redis and a network that fail by a seed, and a judge who reads what was written down.

`python -m tests.faults.soak` runs it: `journal` is written by everybody, `load` is what runs, `nemesis` breaks it,
`check` judges the journal and nothing else, so that it can be tested with journals that are wrong on purpose.
"""
