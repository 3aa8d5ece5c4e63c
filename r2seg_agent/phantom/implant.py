"""A synthetic lesion of known shape and contrast inside a real organ: `implant_lesion`.

A smooth offset is added to the scan, so it keeps its own noise; `match` blurs it as the scan is blurred, and can put
noise of the scan's own power spectrum in the place of the tissue's structure. What comes out holds synthetic content
and must be called so wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Index3
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.phantom.lesions import LesionField, LesionLook, draw_lesion
from r2seg_agent.phantom.measure import NoiseModel, edge_fwhm_mm, measure_covariance, residual
from r2seg_agent.phantom.scanner import FWHM


class Implant(NamedTuple):
    """The changed scan, the lesion's voxels (z, y, x; where at least half of the contrast was added), its centre."""

    volume: Volume
    truth: Mask
    centre_zyx: Index3


@dataclass(frozen=True)
class Match:
    """How an implant takes on the scan's look; `measure` reads it from the scan.

    `blur_mm` is the full width at half maximum of the scan's blur in the slice. With `noise` the organ's own structure
    under the lesion (vessels, texture) fades into noise of this model; without, the scan's own voxels stay below.
    """

    blur_mm: float
    noise: NoiseModel | None = None

    @classmethod
    def measure(cls, volume: Volume, organ_mask: Mask, *, resynthesise: bool = False) -> Match:
        """Blur from the skin (where it cannot be seen: 1.1 voxels), noise from inside the organ."""
        seen = edge_fwhm_mm(volume) if volume.unit == "HU" else None
        blur = seen if seen is not None else 1.1 * volume.geometry.spacing_mm[1]
        return cls(blur, measure_covariance(volume, organ_mask) if resynthesise else None)


def implant_lesion(
    volume: Volume,
    organ_mask: Mask,
    *,
    seed: int,
    diameter_mm: float,
    contrast_hu: float,
    centre: Index3 | None = None,
    edge_mm: float = 2.0,
    look: LesionLook | None = None,
    match: Match | None = None,
) -> Implant:
    """Add a lesion of `contrast_hu` inside `organ_mask` (both (z, y, x) on one grid); see `draw_lesion`.

    `diameter_mm` is that of the sphere of the same volume. Voxels outside the organ stay as they are. Raises
    `InputError` for an empty mask, another grid, a centre outside the organ, or a lesion larger than half of the organ.
    """
    if organ_mask.shape != volume.geometry.shape:
        raise InputError(
            f"the organ mask has shape {organ_mask.shape}, the scan {volume.geometry.shape} (z, y, x)",
            "Give a mask on the grid of the scan.",
        )
    lesion = draw_lesion(
        organ_mask,
        volume.geometry.spacing_mm,
        seed=seed,
        diameter_mm=diameter_mm,
        contrast=contrast_hu,
        edge_mm=edge_mm,
        look=look,
        centre=centre,
    )
    array = np.array(volume.array, copy=True)
    where = lesion.box.slices
    inside = organ_mask[where]
    grey = array[where].astype(np.float64)
    changed = grey + (lesion.offset if match is None else _blurred(lesion, volume, inside, match))
    if match is not None and match.noise is not None:
        changed += _other_noise(lesion, volume, inside, match.noise, seed)
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    array[where] = changed.astype(array.dtype)
    truth = np.zeros(organ_mask.shape, dtype=bool)
    truth[where] = lesion.truth
    with_lesion = Volume(
        array=array,
        geometry=volume.geometry,
        modality=volume.modality,
        unit=volume.unit,
        name=f"{volume.name}-synthetic-lesion",
        source_format=volume.source_format,
    )
    return Implant(volume=with_lesion, truth=truth, centre_zyx=lesion.centre_zyx)


def _blurred(lesion: LesionField, volume: Volume, inside: Mask, match: Match) -> FloatArray:
    """The offset through the scan's point spread: its in-plane blur, and one slice along z; nothing off the organ."""
    spacing = volume.geometry.spacing_mm
    widths = (spacing[0], match.blur_mm, match.blur_mm)
    sigma = [width / FWHM / s for width, s in zip(widths, spacing, strict=True)]
    return ndimage.gaussian_filter(lesion.offset, sigma, mode="nearest") * inside


def _other_noise(lesion: LesionField, volume: Volume, inside: Mask, noise: NoiseModel, seed: int) -> FloatArray:
    """What turns the residual r under the lesion into √(1 - s) r + √s n: structure fades, the variance stays."""
    own = residual(volume.array[lesion.box.slices], inside, volume.geometry.spacing_mm)
    fresh = noise.sample(lesion.box.shape, np.random.default_rng([seed, 1]))
    share = np.clip(lesion.share, 0.0, 1.0) * inside
    change: FloatArray = (np.sqrt(1.0 - share) - 1.0) * own + np.sqrt(share) * fresh
    return change
