"""Regions of every kind and size, described and ranked by a frozen score that was learned on other patients.

`grid` brings the search area to a small grid, `tree` proposes nested regions from component trees, `describe` gives
each region its numbers, `score` ranks them by the frozen model in `score.json`, `select` picks those that do not lie on
each other.
"""
