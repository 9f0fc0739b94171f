"""The file processor, with real files, databases and processes."""
