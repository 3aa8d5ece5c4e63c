"""The ablation in one command: the method part by part on the same cases (`r2seg ablate`, docs/results.md)."""
