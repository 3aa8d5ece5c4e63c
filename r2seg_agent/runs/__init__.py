"""A run's life: options, checked inputs, a session over the graph, results, resume and replay."""
