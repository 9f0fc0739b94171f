"""Made-up businesses and their history, the same again from the same seed."""
