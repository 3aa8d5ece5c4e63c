"""BiomedParse v1, the paper's frozen segmenter: text prompts, 2D slices. Importing this loads no torch."""
