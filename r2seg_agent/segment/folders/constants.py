"""What the description of a model folder and its runner share."""

from __future__ import annotations

from typing import Final

ONNX_INSTALL: Final = 'pip install "r2seg-agent[onnx]"'
MONAI_INSTALL: Final = 'pip install "r2seg-agent[vista3d]"'
PROBABILITY_LEVELS: Final = 255
"""Steps in which TotalSegmentator's probabilities are kept: one byte a voxel."""
STEP_SIZE: Final = 0.5
"""nnU-Net's step between tiles, as a share of the tile."""
