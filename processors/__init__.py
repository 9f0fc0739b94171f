"""The processors: one package and one consumer group per concern. None imports another."""
