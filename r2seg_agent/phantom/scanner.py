"""What a CT scanner does to a clean image: point spread and noise with its power spectrum (`Scanner`).

Filtered backprojection weights the noise of every projection by the ramp |f|, rolled off by the reconstruction kernel,
so in a slice NPS(f) ∝ |f| A(f)² (f in cycles per mm; Riederer, Pelc and Chesler 1978; Kijewski and Judy 1987). Along z
neighbouring slices share what the slice profile spans. Sampling folds what lies above the Nyquist frequency back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray

KernelName = Literal["soft", "standard", "sharp"]
FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


class Kernel(NamedTuple):
    """A reconstruction kernel: in-plane blur, roll-off of the ramp, edge enhancement, usual noise."""

    fwhm_mm: float
    cutoff_per_mm: float
    """A(f) = exp(-(f / cutoff)²): the noise is strongest at half of it."""
    enhancement: float
    """Share of an unsharp mask of 1.2 mm that is added."""
    noise_sd: float
    """HU in the middle of a mean body at the usual dose."""


KERNELS: dict[KernelName, Kernel] = {
    "soft": Kernel(1.5, 0.45, 0.0, 9.0),
    "standard": Kernel(1.2, 0.62, 0.0, 13.0),
    "sharp": Kernel(0.8, 1.1, 0.5, 42.0),
}
"""Ours, near what is published of soft-tissue (noise peak at 0.2 to 0.25 per mm), standard and lung kernels."""
UNSHARP_MM = 1.2
_WATER_PER_MM = 0.019
"""Linear attenuation of water at the mean energy of a 120 kV beam."""
_DAMPING = 0.35
"""Exponent of the detector's variance that is left behind tube-current modulation and the bow-tie filter."""


@dataclass(frozen=True)
class Scanner:
    """How a phantom is scanned. `noise_sd` (HU, None: the kernel's usual) is the mean over the inside of the trunk.

    Noise falls with the square root of the dose. `slice_mm` (None: the spacing of slices) is the slice profile's full
    width at half maximum; `shading_hu` the standard deviation of slow drifts of the grey value (scatter, beam
    hardening). `gantry_mm` is the diameter of the reconstructed circle; outside it CT holds -1024.
    """

    kernel: KernelName = "standard"
    noise_sd: float | None = None
    slice_mm: float | None = None
    shading_hu: float = 2.0
    gantry_mm: float | None = None

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise InputError(f"there is no kernel `{self.kernel}`", f"Kernels: {', '.join(get_args(KernelName))}.")
        if (self.noise_sd is not None and self.noise_sd < 0) or (self.slice_mm is not None and self.slice_mm <= 0):
            raise InputError(f"noise {self.noise_sd} and slice {self.slice_mm} mm must not be negative")

    @property
    def mean_noise_sd(self) -> float:
        """Standard deviation of the noise in HU, mean over the inside of the trunk."""
        return KERNELS[self.kernel].noise_sd if self.noise_sd is None else self.noise_sd


def blur(clean: FloatArray, spacing_mm: Float3, scanner: Scanner, slice_mm: float) -> FloatArray:
    """`clean` through the kernel's point spread in the slice and the slice profile along z; same shape."""
    kernel = KERNELS[scanner.kernel]
    # the grid itself cannot show more than about a voxel, so a coarse one gets no less blur than that
    in_plane = [max(kernel.fwhm_mm, 0.9 * s) / FWHM / s for s in spacing_mm[1:]]
    along = max(slice_mm, 0.9 * spacing_mm[0]) / FWHM / spacing_mm[0]
    blurred = ndimage.gaussian_filter(clean, [along, *in_plane], mode="nearest", truncate=3.0)
    if kernel.enhancement:
        wide = [0.0, *(UNSHARP_MM / s for s in spacing_mm[1:])]
        blurred += np.float32(kernel.enhancement) * (blurred - ndimage.gaussian_filter(blurred, wide, mode="nearest"))
    result: FloatArray = blurred.astype(np.float32)
    return result


def power_spectrum(shape: Index3, spacing_mm: Float3, scanner: Scanner, slice_mm: float) -> NDArray[np.float64]:
    """NPS (z, y, x // 2 + 1) over the frequencies of `scipy.fft.rfftn`, up to a factor: ramp in the slice, folded."""
    kernel = KERNELS[scanner.kernel]
    f_z, f_y = fft.fftfreq(shape[0], spacing_mm[0]), fft.fftfreq(shape[1], spacing_mm[1])
    f_x = fft.rfftfreq(shape[2], spacing_mm[2])
    highest = 1.9 * kernel.cutoff_per_mm  # beyond it less than a thousandth is left
    plane = np.zeros((shape[1], f_x.size))
    folds = [range(-n, n + 1) for n in (int(np.ceil(highest * s)) for s in spacing_mm[1:])]
    for ky in folds[0]:
        for kx in folds[1]:
            f = np.hypot(f_y[:, None] + ky / spacing_mm[1], f_x[None] + kx / spacing_mm[2])
            plane += f * np.exp(-2.0 * (f / kernel.cutoff_per_mm) ** 2)
    sigma = slice_mm / FWHM
    n_z = int(np.ceil(spacing_mm[0] / max(sigma, 0.1)))
    along = sum(np.exp(-((2.0 * np.pi * sigma * (f_z + k / spacing_mm[0])) ** 2)) for k in range(-n_z, n_z + 1))
    spectrum: NDArray[np.float64] = np.asarray(along)[:, None, None] * plane[None]
    return spectrum


def noise_of_spectrum(shape: Index3, spectrum: NDArray[np.float64], rng: np.random.Generator) -> FloatArray:
    """Gaussian noise (z, y, x) of variance 1 with the given power over `rfftn`'s frequencies."""
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    if padded != shape:
        raise ValueError(f"the spectrum's shape {shape} must be fast: {padded}")
    white = rng.standard_normal(shape, dtype=np.float32)
    coloured = fft.irfftn(fft.rfftn(white) * np.sqrt(spectrum).astype(np.float32), shape)
    field: FloatArray = (coloured / max(float(coloured.std()), 1e-9)).astype(np.float32)
    return field


def noise(shape: Index3, spacing_mm: Float3, scanner: Scanner, slice_mm: float, rng: np.random.Generator) -> FloatArray:
    """Noise (z, y, x) of variance 1 with the scanner's spectrum; made on a larger grid, so its ends do not meet."""
    margin = (2, 12, 12)
    grid = [fft.next_fast_len(n + m, real=True) for n, m in zip(shape, margin, strict=True)]
    large: Index3 = (grid[0], grid[1], grid[2])
    field = noise_of_spectrum(large, power_spectrum(large, spacing_mm, scanner, slice_mm), rng)
    return field[: shape[0], : shape[1], : shape[2]]


def noise_map(attenuation: FloatArray, inside: NDArray[np.bool_], step_mm: float) -> FloatArray:
    """Relative standard deviation of the noise over slices of a coarse body (z, y, x), mean 1 over `inside`.

    A projection's variance grows with exp(∫μ); backprojection sums the variances of all rays through a point, so the
    centre of a body, and a slice through the shoulders, is noisier. `attenuation` is relative to water.
    """
    n_z, n_y, n_x = attenuation.shape
    y, x = np.indices((n_y, n_x))
    y, x = y - (n_y - 1) / 2, x - (n_x - 1) / 2
    reach = int(np.ceil(np.hypot(n_y, n_x) / 2)) + 1
    variance = np.zeros_like(attenuation, dtype=np.float64)
    angles = np.linspace(0, np.pi, 18, endpoint=False)
    for angle in angles:
        bins = np.rint(x * np.cos(angle) + y * np.sin(angle)).astype(np.int64) + reach
        keys = (np.arange(n_z)[:, None, None] * (2 * reach + 1) + bins).ravel()
        rays = np.bincount(keys, weights=attenuation.ravel(), minlength=n_z * (2 * reach + 1))
        rays = ndimage.gaussian_filter1d(rays.reshape(n_z, -1), 1.0, axis=1)
        variance += np.exp(_DAMPING * _WATER_PER_MM * step_mm * rays.ravel()[keys]).reshape(attenuation.shape)
    relative = np.sqrt(ndimage.gaussian_filter(variance / len(angles), 0.7))
    level = float(relative[inside].mean()) if inside.any() else float(relative.mean())
    result: FloatArray = (relative / level).astype(np.float32)
    return result
