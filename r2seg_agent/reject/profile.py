"""What a scan is like inside its anchor, and whether a calibration has cases like it.

Conformal p-values hold for scans exchangeable with the calibration's. Nobody can prove that of one scan, but the
opposite shows: noise, spacing, grey level or organ size beyond what the calibration cases have. The test is itself
conformal (a rank of distances among calibration cases and scan, pooled), so among scans that *are* exchangeable with n
calibration cases it warns in at most a share `WARNING_LEVEL` of them (in 1/(n + 1) where n is below 19).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reject.noise import measure_noise
from r2seg_agent.segment.features import anchor_statistics

WARNING_LEVEL = 0.05
"""How often a scan that is like the calibration cases is warned about, at most."""
MIN_VOXELS = 200
"""A smaller anchor says nothing about its noise."""
RELATIVE_FLOOR = 0.05
"""Calibration cases that agree closer than this (5 %) do not make a scan an outlier that differs by less."""


class ScanProfile(Frozen):
    """Measured inside the anchor organs, robust to lesions and to the anchor's edge; axes (z, y, x).

    `noise_fwhm_mm`: FWHM of the Gaussian that makes white noise as smooth as this noise (`reject/noise.py`); 0 where
    neighbours do not resemble each other or the axis is too short. `anchor_mad` is 1.4826 · median |I − median|.
    """

    noise_sd: Annotated[float, Field(ge=0)]
    noise_fwhm_mm: Float3
    spacing_mm: Float3
    anchor_median: float
    anchor_mad: Annotated[float, Field(ge=0)]
    anchor_ml: Annotated[float, Field(ge=0)]
    n_voxels: Annotated[int, Field(ge=0)]


def measure_profile(volume: Volume, anchor_mask: Mask) -> ScanProfile:
    """The profile of `volume` inside `anchor_mask` (z, y, x, on the same grid). An empty anchor gives zeros.

    Raises ValueError when the shapes differ.
    """
    if anchor_mask.shape != volume.geometry.shape:
        raise ValueError(f"anchor mask {anchor_mask.shape} for an image of {volume.geometry.shape} (z, y, x)")
    statistics = anchor_statistics(volume, anchor_mask)
    noise = measure_noise(volume, anchor_mask)
    n = int(np.count_nonzero(anchor_mask))
    return ScanProfile(
        noise_sd=noise.sd,
        noise_fwhm_mm=noise.fwhm_mm,
        spacing_mm=volume.geometry.spacing_mm,
        anchor_median=statistics.median,
        anchor_mad=statistics.mad,
        anchor_ml=n * volume.geometry.voxel_volume_mm3 / 1000.0,
        n_voxels=n,
    )


class _Quantity(NamedTuple):
    """`read` gives the value in `unit`; it is compared as its logarithm where `ratio`. What follows when it is beyond
    the calibration's largest (`above`) or smallest (`below`)."""

    name: str
    unit: str
    read: Callable[[ScanProfile], float]
    ratio: bool = True
    above: str = "the p-values may not hold"
    below: str = "the p-values may not hold"


_TOO_SMALL = "chance blobs are larger than theirs, so p-values may be too small"
_TOO_LARGE = "chance blobs are smaller than theirs, so p-values may be too large and lesions missed"
_QUANTITIES: tuple[_Quantity, ...] = (
    _Quantity("noise correlation in the plane", "mm FWHM", lambda p: _in_plane(p.noise_fwhm_mm, p.spacing_mm),
              above=_TOO_SMALL, below=_TOO_LARGE),
    _Quantity("noise correlation across slices", "mm FWHM", lambda p: max(p.noise_fwhm_mm[0], 0.5 * p.spacing_mm[0]),
              above=_TOO_SMALL, below=_TOO_LARGE),
    _Quantity("noise", "grey values SD", lambda p: p.noise_sd),
    _Quantity("pixel size", "mm", lambda p: float(np.sqrt(p.spacing_mm[1] * p.spacing_mm[2]))),
    _Quantity("slice spacing", "mm", lambda p: p.spacing_mm[0]),
    _Quantity("normal grey value", "", lambda p: p.anchor_median, ratio=False),
    _Quantity("spread of normal grey values", "", lambda p: p.anchor_mad),
    _Quantity("organ in view", "ml", lambda p: p.anchor_ml,
              above="more room for chance blobs, so p-values may be too small",
              below="the p-values may be too large, and a cut-off organ hides lesions"),
)  # fmt: skip


def profile_distance_p(cases: Sequence[ScanProfile], profile: ScanProfile) -> float:
    """Conformal p-value of "this scan is exchangeable with `cases`": small for a scan unlike them.

    Distance: the largest |value − median| / MAD over the quantities, with median and MAD of cases and scan together,
    so that exchangeable scans have exchangeable distances.
    """
    distances = _deviations(cases, profile).max(axis=1)
    return float((1 + np.count_nonzero(distances[:-1] >= distances[-1])) / len(distances))


def profile_warnings(cases: Sequence[ScanProfile], profile: ScanProfile) -> tuple[str, ...]:
    """One plain sentence per quantity in which the scan is unlike the calibration cases; none for a scan like them."""
    if not cases:
        return ("The calibration holds no scan profiles, so nobody checked whether this scan is like its cases.",)
    if profile.n_voxels < MIN_VOXELS:
        return (
            f"The organ has only {profile.n_voxels} voxels in view: whether this scan is like the calibration cases "
            "could not be checked.",
        )
    level = max(WARNING_LEVEL, 1.0 / (len(cases) + 1))
    if profile_distance_p(cases, profile) > level:
        return ()
    deviations = _deviations(cases, profile)
    own, usual = deviations[-1], float(np.quantile(deviations[:-1].max(axis=1), 1.0 - WARNING_LEVEL))
    beyond = [k for k in range(len(_QUANTITIES)) if own[k] >= max(usual, 1.0)] or [int(own.argmax())]
    return tuple(_sentence(_QUANTITIES[k], cases, profile) for k in beyond)


def _sentence(quantity: _Quantity, cases: Sequence[ScanProfile], profile: ScanProfile) -> str:
    values = [quantity.read(case) for case in cases]
    here, low, high = quantity.read(profile), min(values), max(values)
    unit = f" {quantity.unit}" if quantity.unit else ""
    span = f"{low:.3g}{unit}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g}–{high:.3g}{unit}"
    middle = float(np.median(values))
    word = ("higher than" if here > high else "lower than") if not low <= here <= high else "at the edge of"
    meaning = quantity.above if here > middle else quantity.below
    return (
        f"This scan is unlike the calibration's: {quantity.name} {here:.3g}{unit}, {word} in all {len(cases)} "
        f"lesion-free scans ({span}); {meaning}."
        if word != "at the edge of"
        else f"This scan is unlike most of the calibration's: {quantity.name} {here:.3g}{unit}, at the edge of the "
        f"{len(cases)} lesion-free scans ({span}); {meaning}."
    )


def _deviations(cases: Sequence[ScanProfile], profile: ScanProfile) -> NDArray[np.float64]:
    """(n + 1, quantities): |value − median| / scale of every case and, last, of the scan."""
    everyone = (*cases, profile)
    columns = []
    for quantity in _QUANTITIES:
        values = np.array([quantity.read(scan) for scan in everyone], dtype=np.float64)
        if quantity.ratio:
            values, floor = np.log(np.maximum(values, 1e-6)), RELATIVE_FLOOR
        else:
            floor = RELATIVE_FLOOR * max(float(np.median([scan.anchor_mad for scan in everyone])), 1e-6)
        off = np.abs(values - np.median(values))
        columns.append(off / max(1.4826 * float(np.median(off)), floor))
    return np.stack(columns, axis=1)


def _in_plane(fwhm_mm: Float3, spacing_mm: Float3) -> float:
    """Geometric mean of y and x; white noise counts as half a voxel wide."""
    y, x = (max(f, 0.5 * s) for f, s in zip(fwhm_mm[1:], spacing_mm[1:], strict=True))
    return float(np.sqrt(y * x))
