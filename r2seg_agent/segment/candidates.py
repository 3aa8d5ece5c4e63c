"""Candidates: connected components of the segmenter's probability, merged over the ROI scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Mask


@dataclass(frozen=True, eq=False)
class Region:
    """One candidate in memory: `mask` and `probability` (z, y, x) cover `box` of the image grid."""

    box: Box
    mask: Mask
    probability: FloatArray
    scale: float
    """The smallest ROI scale that proposed it."""


class CandidateFeatures(Frozen):
    """Numbers that describe a candidate against its anchor; gates read these, reports show them."""

    n_voxels: int
    volume_mm3: float
    mean_probability: float
    max_probability: float
    anchor_overlap: float
    """|C ∩ M*| / |C|."""
    mean_intensity: float
    sd_intensity: float
    anchor_median: float
    anchor_mad: float
    """Median absolute deviation × 1.4826 of the anchor's grey values."""
    contrast: float
    """(mean of C − anchor median) / anchor_mad; its sign says brighter or darker."""
    sphericity: float
    """Volume of C over the volume of the ball of its longest radius, cube-rooted, in (0, 1]; 1 = ball."""
    elongation: float
    """√(largest / second largest principal moment) ≥ 1, in mm; a vessel segment is long."""
    exterior_contact: float
    """Share of the candidate's face neighbours that lie outside the anchor, in [0, 1]."""


Decision = Literal["pending", "survived", "rejected"]
