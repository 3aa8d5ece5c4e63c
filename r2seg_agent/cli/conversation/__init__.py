"""The terminal side of `r2seg chat`."""
