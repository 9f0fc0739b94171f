"""Tests of the examples, which run as their readers run them."""
