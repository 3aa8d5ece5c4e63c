"""What turns a clean image into an MR image: a bias field and Rician noise."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.phantom.texture import Axes, Lattice

BIAS_STEP_MM = 150.0
BIAS_STRENGTH = 0.16
"""Standard deviation of the logarithm of the receive field."""


def bias_field(axes: Axes, seed: int, strength: float = BIAS_STRENGTH) -> FloatArray:
    """A smooth positive field (z, y, x) that multiplies the signal, as a receive coil's sensitivity does."""
    field: FloatArray = np.exp(np.float32(strength) * Lattice((seed, 70), BIAS_STEP_MM).on(axes)).astype(np.float32)
    return field


def rician(signal: FloatArray, sd: float, rng: np.random.Generator) -> FloatArray:
    """The magnitude of `signal` with Gaussian noise in both channels: |s + n₁ + i n₂| (Gudbjartsson and Patz 1995)."""
    real = signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    magnitude: FloatArray = np.hypot(real, imaginary).astype(np.float32)
    return magnitude
