"""What the demo and the tests need around the processors: a mail server that can be told how to misbehave."""
