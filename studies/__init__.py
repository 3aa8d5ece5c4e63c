"""The laboratory: validity study, benchmarks, planner evaluation, recorded pages. Not part of the wheel."""
