"""One suite for the harness and for Redis: what a user's test sees is what production does."""
