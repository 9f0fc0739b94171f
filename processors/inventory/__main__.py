"""`python -m processors.inventory`: runs one consumer of the inventory processor until SIGTERM."""

import sys

from observability import instrument
from processors.inventory import inventory
from processors.inventory.settings import InventorySettings
from processors.shared.database.startup import prepare_or_exit
from streams import StreamsError, run

if __name__ == "__main__":
    try:
        InventorySettings.load()  # a wrong setting is said here, in one line, rather than with the first sync
        prepare_or_exit()
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)  # wrong usage, as `run` says it
    run(inventory, middleware=instrument("planning-bord-inventory"))
