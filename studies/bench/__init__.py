"""Benchmarks: speed and memory of every part; `make bench`."""
