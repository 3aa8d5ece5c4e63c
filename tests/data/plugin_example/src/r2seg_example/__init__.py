"""A segmenter and an anchor source of one's own, as small as they can be."""
