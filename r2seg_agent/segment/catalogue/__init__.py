"""Released lesion models by name: what there is, how it is fetched into the cache, and how it becomes a segmenter."""
