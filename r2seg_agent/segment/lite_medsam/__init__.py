"""LiteMedSAM (Ma et al., Nature Communications 2024), rewritten in plain PyTorch for its released weights."""

NAME = "lite-medsam"
"""Of the segmenter, and of its entry in `segment/weights.py`."""
