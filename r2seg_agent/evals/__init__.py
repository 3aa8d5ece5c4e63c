"""Evaluations and benchmarks, run by make targets."""
