"""The report processor, with real databases, files, readers and processes."""
