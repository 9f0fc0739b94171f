"""Tests of `streams/inspecting`."""
