"""What a scan's own noise and blur are, measured in the scan: `measure_covariance`, `edge_fwhm_mm`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.phantom.scanner import FWHM, noise_of_spectrum

DRIFT_MM = 9.0
"""Slower changes of the grey value than this are anatomy and shading, not noise."""
LARGEST_LAG = 8
"""Voxels over which the noise's covariance is measured; beyond, too few pairs agree."""
LEAST_VOXELS = 300


class NoiseModel(NamedTuple):
    """Standard deviation in grey values, and the covariance by lag: (2 r + 1)³ (z, y, x), the middle is lag 0."""

    sd: float
    covariance: NDArray[np.float64]

    def sample(self, shape: Index3, rng: np.random.Generator) -> FloatArray:
        """Gaussian noise (z, y, x) of this standard deviation and power spectrum."""
        reach = [n // 2 for n in self.covariance.shape]
        sides = [fft.next_fast_len(max(n, 2 * r + 1) + 2 * r, real=True) for n, r in zip(shape, reach, strict=True)]
        grid: Index3 = (sides[0], sides[1], sides[2])
        lags = np.zeros(grid)
        lags[tuple(slice(0, 2 * r + 1) for r in reach)] = self.covariance
        lags = np.roll(lags, [-r for r in reach], axis=(0, 1, 2))
        # what sampling error makes negative is no power
        spectrum = np.maximum(fft.rfftn(lags).real, 0.0)
        field = noise_of_spectrum(grid, spectrum, rng)
        noise: FloatArray = np.float32(self.sd) * field[: shape[0], : shape[1], : shape[2]]
        return noise


def residual(array: NDArray[np.generic], mask: Mask, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """`array` (z, y, x) minus its local mean over `mask` (Gaussian of `DRIFT_MM`); 0 outside the mask."""
    sigma = [DRIFT_MM / s for s in spacing_mm]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="constant")
    grey = np.where(mask, array, 0).astype(np.float32)
    mean = ndimage.gaussian_filter(grey, sigma, mode="constant") / np.maximum(weight, 1e-6)
    left: FloatArray = np.where(mask, grey - mean, 0.0).astype(np.float32)
    return left


def measure_covariance(volume: Volume, mask: Mask, *, erode_mm: float = 4.0) -> NoiseModel:
    """The noise inside an organ (z, y, x), `erode_mm` away from its border, vessels (beyond 3.5 MAD) left out.

    Covariance by lag is the masked autocorrelation Σ r(i) r(i+l) / Σ m(i) m(i+l), tapered to nothing at `LARGEST_LAG`;
    its Fourier transform is the noise power spectrum. Raises `InputError` when too little of the organ is left.
    """
    box = bounding_box(mask)
    inside = np.zeros((1, 1, 1), dtype=bool)
    if box is not None:
        depth = ndimage.distance_transform_edt(np.pad(mask[box.slices], 1), sampling=volume.geometry.spacing_mm)
        inside = depth[1:-1, 1:-1, 1:-1] > erode_mm
    if box is None or int(inside.sum()) < LEAST_VOXELS:
        raise InputError(
            f"noise cannot be measured in {int(inside.sum())} voxels deeper than {erode_mm:g} mm",
            f"At least {LEAST_VOXELS} are needed: name a larger organ.",
        )
    grey = volume.array[box.slices]
    left = residual(grey, inside, volume.geometry.spacing_mm)
    limit = 3.5 * 1.4826 * float(np.median(np.abs(left[inside])))
    inside &= np.abs(left) <= max(limit, 1e-6)
    left = residual(grey, inside, volume.geometry.spacing_mm)
    reach = [min(LARGEST_LAG, (n - 1) // 2) for n in inside.shape]
    grid = [fft.next_fast_len(n + r, real=True) for n, r in zip(inside.shape, reach, strict=True)]
    power = np.abs(fft.rfftn(left.astype(np.float64), grid)) ** 2
    pairs = np.abs(fft.rfftn(inside.astype(np.float64), grid)) ** 2
    sums, counts = fft.irfftn(power, grid), fft.irfftn(pairs, grid)
    ratio = np.where(counts > 50, sums / np.maximum(counts, 1.0), 0.0)
    where = np.ix_(*(np.arange(-r, r + 1) for r in reach))
    tapers = [np.cos(0.5 * np.pi * np.arange(-r, r + 1) / (r + 1)) ** 2 for r in reach]
    taper = tapers[0][:, None, None] * tapers[1][None, :, None] * tapers[2][None, None]
    covariance: NDArray[np.float64] = ratio[where] * taper
    # `residual` takes the share of the noise that its own window explains; what is left is scaled back
    return NoiseModel(sd=float(left[inside].std()), covariance=covariance)


def edge_fwhm_mm(volume: Volume, *, level: float = -450.0, seed: int = 0) -> float | None:
    """In-plane full width at half maximum of a CT's blur, from the skin: the steepest step that every scan has.

    Profiles run along the surface's normal, are shifted so that each crosses `level` at 0 and averaged; the width is
    that of a Gaussian whose integral has their 16 to 84 % rise. None where fewer than 100 clean steps are in view.
    """
    array = volume.array
    spacing = np.asarray(volume.geometry.spacing_mm[1:])
    rng = np.random.default_rng(seed)
    offsets = np.arange(-6.0, 6.01, 0.25)
    profiles = []
    for z in range(0, array.shape[0], max(1, array.shape[0] // 12)):
        grey = array[z].astype(np.float32)
        labels, n = ndimage.label(grey > level)
        if n == 0:
            continue
        body = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))
        smooth = ndimage.gaussian_filter(body.astype(np.float32), 4.0 / spacing)
        g_y, g_x = (np.gradient(smooth, float(s), axis=axis) for axis, s in enumerate(spacing))
        edge = np.argwhere(body & ~ndimage.binary_erosion(body))
        for y, x in edge[rng.permutation(len(edge))[:80]]:
            normal = np.array([g_y[y, x], g_x[y, x]])
            length = float(np.linalg.norm(normal))
            if length < 1e-4:
                continue
            at = np.array([y, x])[:, None] + (normal / length)[:, None] * offsets / spacing[:, None]
            if at.min() < 0 or (at[0] > grey.shape[0] - 1).any() or (at[1] > grey.shape[1] - 1).any():
                continue
            line = ndimage.map_coordinates(grey, at, order=1)
            width = _rise_mm(line, offsets)
            if width is not None:
                profiles.append(width)
    if len(profiles) < 100:
        return None
    return float(np.median(profiles) / 2.0 * FWHM)


def _rise_mm(line: NDArray[np.float32], offsets: NDArray[np.float64]) -> float | None:
    """Distance over which a step from air to skin rises from 16 to 84 % (two standard deviations of a Gaussian)."""
    low, high = float(line[:8].mean()), float(line[-16:].max())
    if low > -900 or high < -150 or float(line[:8].std()) > 60:
        return None
    marks = []
    for share in (0.16, 0.84):
        above = np.flatnonzero(line > low + share * (high - low))
        if above.size == 0 or above[0] == 0:
            return None
        i = int(above[0])
        step = float(line[i] - line[i - 1])
        marks.append(offsets[i] - 0.25 * (float(line[i]) - low - share * (high - low)) / max(step, 1e-6))
    return float(marks[1] - marks[0])
