"""Content-addressed artifacts and the index of runs."""
