"""Segment: frozen models look inside the ROIs; what they mark becomes candidates."""
