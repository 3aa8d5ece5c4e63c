"""Runs over data sets: many cases, each isolated, resumable, on one machine."""
