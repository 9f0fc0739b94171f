"""The command line, run as child processes against a real Redis."""
