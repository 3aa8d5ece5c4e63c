"""Anchors: where the organs are, from one of several sources."""
