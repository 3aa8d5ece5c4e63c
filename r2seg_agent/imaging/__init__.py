"""Scans in, masks out: geometry, volumes, intensity windows, readers and writers."""
