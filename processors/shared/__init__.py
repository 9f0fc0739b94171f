"""What the processors share, and what is no processor: the business database, the files, and the texts they show.

It knows none of them. `python -m processors.shared.database` and `python -m processors.shared.storage` are commands.
"""
