"""What can be seen: spans over real loopback HTTP, and log lines."""
