"""Synthetic organs for the validity study: correlated noise of a known scanner, and a lesion of known contrast.

The organ fills the volume. The noise is Gaussian and stationary (filtered by FFT, so it wraps around), its standard
deviation is the scanner's own and not the sample's, and every case draws from a random stream of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Float3, Geometry, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.reject.features import stream

FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
MARGIN_MM = 2.0
"""A lesion's surface keeps this distance from the border of the volume."""
VESSELS = 4
VESSEL_RADII_MM = (2.0, 3.5)

Spectrum = Literal["gaussian", "ramp"]
"""gaussian: white noise smoothed by a Gaussian. ramp: filtered back-projection with a sharp kernel, in-plane power
∝ f · exp(−(f / f₀)²) (its noise is anticorrelated at some distance), Gaussian across the slices."""
RAMP_CUTOFF_PER_MM = 0.25
"""f₀: the power then peaks at 0.18 cycles per mm."""


class Scanner(Frozen):
    """What a lesion-free scan looks like. `fwhm_vox` is the smoothing of the noise in voxels, on all axes.

    `made_on_mm` (z, y, x): the noise is made on this spacing and interpolated linearly to `spacing_mm`, as a resampled
    scan is. `vessels_hu`: bright tubes through the organ, as in a later contrast phase.
    """

    name: str
    fwhm_vox: float
    shape: Index3 = (20, 48, 48)
    spacing_mm: Float3 = (2.5, 1.0, 1.0)
    mean_hu: float = 60.0
    sd_hu: float = 15.0
    spectrum: Spectrum = "gaussian"
    made_on_mm: Float3 | None = None
    vessels_hu: float = 0.0


class LesionKind(Frozen):
    """A ball of `volume_ml` whose grey value differs by `cnr` noise standard deviations, brighter or darker by chance.

    sharp: the ball as it is (comparable with method.md's plain simulation). blurred: smoothed like the noise, as the
    scanner that smoothed the noise would have done; `cnr` is the contrast before that.
    """

    volume_ml: float
    cnr: float
    edge: Literal["sharp", "blurred"]

    @property
    def radius_mm(self) -> float:
        """Radius of the ball."""
        return math.cbrt(3.0 * self.volume_ml * 1000.0 / (4.0 * math.pi))


@dataclass(frozen=True, eq=False)
class Scene:
    """One case: the scan, the organ to search, and the lesion's voxels where there is one (all (z, y, x))."""

    volume: Volume
    organ: Mask
    truth: Mask | None = None


def make_scene(scanner: Scanner, lesion: LesionKind | None, rng: np.random.Generator) -> Scene:
    """A new organ by `scanner`, with `lesion` at a random place."""
    geometry = Geometry(shape=scanner.shape, spacing_mm=scanner.spacing_mm)
    grey = scanner.mean_hu + scanner.sd_hu * noise(scanner, rng)
    if scanner.vessels_hu:
        grey += np.float32(scanner.vessels_hu) * _vessels(geometry, rng)
    truth = None
    if lesion is not None:
        truth = _ball(geometry, lesion.radius_mm, rng)
        added = truth.astype(np.float32)
        if lesion.edge == "blurred":
            added = ndimage.gaussian_filter(added, scanner.fwhm_vox * FWHM_TO_SIGMA)
        grey += np.float32(rng.choice([-1.0, 1.0]) * lesion.cnr * scanner.sd_hu) * added
    volume = Volume(array=np.rint(grey).astype(np.int16), geometry=geometry, modality="CT", unit="HU", name="synthetic")
    return Scene(volume=volume, organ=np.ones(scanner.shape, dtype=bool), truth=truth)


def case_stream(key: str, index: int) -> np.random.Generator:
    """The random stream of case `index` of the cell called `key`: it never depends on the other cases."""
    return stream(index, "fdr-study", key)


def noise(scanner: Scanner, rng: np.random.Generator) -> FloatArray:
    """(z, y, x) Gaussian noise of the scanner's spectrum, standard deviation 1 (before any interpolation)."""
    if scanner.made_on_mm is None:
        return _filtered(scanner.shape, scanner.spacing_mm, scanner.fwhm_vox, scanner.spectrum, rng)
    factors = [s / m for s, m in zip(scanner.spacing_mm, scanner.made_on_mm, strict=True)]
    z, y, x = (math.ceil((n - 1) * f) + 2 for n, f in zip(scanner.shape, factors, strict=True))
    fine = _filtered((z, y, x), scanner.made_on_mm, scanner.fwhm_vox, scanner.spectrum, rng)
    coarse: FloatArray = ndimage.affine_transform(fine, np.diag(factors), output_shape=scanner.shape, order=1)
    return coarse


def _filtered(
    shape: Index3, spacing_mm: Float3, fwhm_vox: float, spectrum: Spectrum, rng: np.random.Generator
) -> FloatArray:
    white = rng.standard_normal(shape, dtype=np.float32)
    field: FloatArray = fft.irfftn(fft.rfftn(white) * _amplitude(shape, spacing_mm, fwhm_vox, spectrum), s=shape)
    return field


@lru_cache(maxsize=32)
def _amplitude(shape: Index3, spacing_mm: Float3, fwhm_vox: float, spectrum: Spectrum) -> NDArray[np.float32]:
    """√(noise power) on the grid of `rfftn`, mean power 1, so that filtered white noise keeps its variance."""
    z, y, x = (fft.fftfreq(n).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, n in enumerate(shape))
    sigma = fwhm_vox * FWHM_TO_SIGMA
    if spectrum == "gaussian":
        amplitude = np.exp(-2.0 * (math.pi * sigma) ** 2 * (z**2 + y**2 + x**2))
    else:
        per_mm = np.sqrt((y / spacing_mm[1]) ** 2 + (x / spacing_mm[2]) ** 2)
        in_plane = np.sqrt(per_mm * np.exp(-((per_mm / RAMP_CUTOFF_PER_MM) ** 2)))
        amplitude = in_plane * np.exp(-2.0 * (math.pi * sigma) ** 2 * z**2)
    amplitude = amplitude / math.sqrt(float(np.mean(amplitude**2)))
    half: NDArray[np.float32] = amplitude[..., : shape[2] // 2 + 1].astype(np.float32)
    return half


def _positions_mm(geometry: Geometry) -> tuple[NDArray[np.float32], ...]:
    return tuple(
        (np.arange(n, dtype=np.float32) * np.float32(s)).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, s) in enumerate(zip(geometry.shape, geometry.spacing_mm, strict=True))
    )


def _ball(geometry: Geometry, radius_mm: float, rng: np.random.Generator) -> Mask:
    sizes = [(n - 1) * s for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)]
    margin = radius_mm + MARGIN_MM
    if min(sizes) <= 2.0 * margin:
        raise ValueError(f"a ball of radius {radius_mm:.1f} mm does not fit a volume of {sizes} mm (z, y, x)")
    centre = [rng.uniform(margin, size - margin) for size in sizes]
    squared = sum((p - c) ** 2 for p, c in zip(_positions_mm(geometry), centre, strict=True))
    ball: Mask = np.asarray(squared <= radius_mm**2)
    return ball


def _vessels(geometry: Geometry, rng: np.random.Generator) -> FloatArray:
    """Straight tubes in random directions through random points; 1 inside, slightly blurred."""
    positions = _positions_mm(geometry)
    inside = np.zeros(geometry.shape, dtype=bool)
    for _ in range(VESSELS):
        way = rng.standard_normal(3)
        way /= np.linalg.norm(way)
        through = [rng.uniform(0, (n - 1) * s) for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)]
        offset = [p - np.float32(t) for p, t in zip(positions, through, strict=True)]
        along = sum(o * np.float32(w) for o, w in zip(offset, way, strict=True))
        squared = sum(o**2 for o in offset) - along**2
        inside |= squared <= rng.uniform(*VESSEL_RADII_MM) ** 2
    blurred: FloatArray = ndimage.gaussian_filter(inside.astype(np.float32), 0.5)
    return blurred
