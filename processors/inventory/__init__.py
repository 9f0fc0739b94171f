"""The inventory processor: bulk updates, the periodic stock check, and syncs from suppliers' systems."""

from streams.errors import APPLICATION, extra

with extra("inventory", of=APPLICATION, for_="processors.inventory"):
    from processors.inventory.handlers import inventory

__all__ = ["inventory"]
