"""The tests: real Redis servers, real processes, real sockets on loopback."""
