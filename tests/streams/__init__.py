"""Tests of the engine, on every Redis found."""
