"""Tests of `streams/consuming`."""
