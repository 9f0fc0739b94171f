"""The guide: what the engine does, feature by feature, as small examples. Read docs/README.md for the order."""
