"""Smooth random fields in the patient's frame: the same tissue at any spacing and in any view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import FloatArray

LOW_XYZ_MM = (-320.0, -220.0, -260.0)
"""Corner of the frame that every field covers (x, y, z); beyond it a field continues as at its edge."""
HIGH_XYZ_MM = (320.0, 220.0, 360.0)
_SPREAD = 0.481**1.5
"""Standard deviation of white noise through a cubic B-spline in three dimensions (mean over positions)."""

Axes = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Coordinates (x, y, z) in mm along the three axes of a grid."""


@dataclass(frozen=True)
class Lattice:
    """White noise on a lattice of `step_mm`, smoothed by cubic B-splines: mean 0, standard deviation 1."""

    seed: tuple[int, ...]
    step_mm: float

    def on(self, axes: Axes) -> FloatArray:
        """The field on a grid (z, y, x). A point's value depends on seed and position only."""
        weights, ranges = [], []
        for axis, low, high in zip(axes, LOW_XYZ_MM, HIGH_XYZ_MM, strict=True):
            n = int(np.ceil((high - low) / self.step_mm)) + 3
            first, matrix = _spline(np.clip(axis, low, high - 1e-3), low, self.step_mm)
            weights.append(matrix)
            ranges.append((first, first + matrix.shape[1], n))
        (x0, x1, nx), (y0, y1, ny), (z0, z1, nz) = ranges
        rng = np.random.default_rng(self.seed)
        # slices of the lattice are drawn in order, so that a view may skip what lies above it
        knots = rng.standard_normal((min(z1, nz), ny, nx), dtype=np.float32)[z0:, y0:y1, x0:x1]
        wx, wy, wz = weights
        field = np.einsum("zk,kyx->zyx", wz[:, : knots.shape[0]], knots, optimize=True)
        field = np.einsum("yk,zkx->zyx", wy, field, optimize=True)
        field = field @ wx.T
        result: FloatArray = (field / np.float32(_SPREAD)).astype(np.float32)
        return result


def _spline(at_mm: NDArray[np.float64], low: float, step_mm: float) -> tuple[int, NDArray[np.float32]]:
    """Cubic B-spline weights (points, knots) and the first knot that they start from."""
    place = (at_mm - low) / step_mm
    cell = np.floor(place).astype(np.int64)
    t = place - cell
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    first = int(cell.min())
    matrix = np.zeros((len(at_mm), int(cell.max()) - first + 4), dtype=np.float32)
    rows = np.arange(len(at_mm))
    for offset, part in enumerate(parts):
        matrix[rows, cell - first + offset] += (part / 6).astype(np.float32)
    return first, matrix
