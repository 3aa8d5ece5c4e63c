"""A fuzzer of every entrance: files, tables, plans, calibrations, traces, workspaces, requests, replies of models.

`make fuzz` runs it; docs/evidence/reliability.md says how, and what it found.
"""
