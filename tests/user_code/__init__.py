"""What people's handlers, fields, exceptions and loops do every day, and what must come of it."""
