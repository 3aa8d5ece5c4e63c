"""Demo scans: fetched by package name, checked by sha256, cached; never in the repository."""
