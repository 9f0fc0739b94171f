"""The inventory processor: bulk updates, the periodic stock check, and syncs from suppliers' systems."""

from processors.inventory.handlers import inventory

__all__ = ["inventory"]
