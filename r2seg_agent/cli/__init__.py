"""The `r2seg` command, one file per verb."""
