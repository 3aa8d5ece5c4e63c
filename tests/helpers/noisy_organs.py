"""Made-up images of an organ of correlated noise with a ball in it, for the regions and the study of their score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.segment.regions.describe import Prior

PRIOR = Prior(volumes_mm3=(20.0, 2e6), sign=0, modality="MR")


@dataclass(frozen=True, eq=False)
class NoisyOrgan:
    """A volume with its organ and its ball, masks (z, y, x)."""

    volume: Volume
    organ: Mask
    truth: Mask


def noisy_organ(seed: int, *, sign: int = 1, solid: bool = False, lesion: bool = True, factor: int = 1) -> NoisyOrgan:
    """A ball that is brighter (or darker) by three standard deviations of the noise.

    `solid`: a volume and not a slice. `factor`: every voxel drawn so many times along x and y.
    """
    rng = np.random.default_rng(seed)
    shape = (24, 48, 48) if solid else (1, 96, 96)
    grey = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5 if solid else (0, 1.5, 1.5)).astype(np.float32)
    grey /= grey.std()
    centre = [int(n * rng.uniform(0.35, 0.65)) if n > 1 else 0 for n in shape]
    squares = [(x - c) ** 2 for x, c in zip(np.indices(shape), centre, strict=True)]
    ball = np.sum(squares, axis=0) <= (5 if solid else 9) ** 2
    organ = np.zeros(shape, dtype=bool)
    organ[tuple(slice(n // 8, n - n // 8) for n in shape)] = True
    truth = ball & organ if lesion else np.zeros_like(organ)
    grey = 100.0 + 10.0 * (grey + 3.0 * sign * truth)
    arrays = [np.repeat(np.repeat(a, factor, axis=1), factor, axis=2) for a in (grey.astype(np.float32), organ, truth)]
    geometry = Geometry(
        shape=arrays[0].shape, spacing_mm=(1.0, 1.0 / factor, 1.0 / factor), known_spacing="zyx" if solid else "yx"
    )
    return NoisyOrgan(Volume(arrays[0], geometry, "MR", "arbitrary"), arrays[1], arrays[2])
