"""Reason: from a request in words to a plan, organ anchors and regions of interest."""
