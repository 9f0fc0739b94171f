"""`python -m processors.inventory`: runs one consumer of the inventory processor until SIGTERM."""

from observability import instrument
from processors.inventory import inventory
from processors.inventory.settings import InventorySettings
from processors.shared.database.startup import prepare_or_exit
from streams import run
from streams.errors import exit_on_error

if __name__ == "__main__":
    with exit_on_error():
        InventorySettings.load()  # a wrong setting is said here, in one line, rather than with the first sync
        prepare_or_exit()
        middleware = instrument("planning-bord-inventory")
    run(inventory, middleware=middleware)
