"""Tests of the business database."""
