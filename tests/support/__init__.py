"""What tests are made of, and is none: servers, proxies, processes, checkers of leaks."""
