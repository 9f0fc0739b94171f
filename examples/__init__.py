"""Programs to start from: each does one thing a service does, and runs with one command. See docs/start/examples.md."""
