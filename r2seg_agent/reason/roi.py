"""Regions of interest B_σ around the anchors (method.md §1)."""

from __future__ import annotations

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box


class ROI(Frozen):
    """One box to segment in: `box` on the image grid, grown from `anchors` by `padding_mm * scale`."""

    box: Box
    scale: float
    padding_mm: float
    square: bool
    anchors: tuple[str, ...]
