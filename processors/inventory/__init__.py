"""The inventory processor."""
