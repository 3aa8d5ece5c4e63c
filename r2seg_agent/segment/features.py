"""`describe`: the numbers of one candidate against its anchor and what surrounds it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Geometry
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.segment.ball_scan import BallScan
from r2seg_agent.segment.candidates import CandidateFeatures, Region

MAD_TO_SD = 1.4826
MIN_MAD = 1e-6
"""An anchor of one grey value has no spread; contrast is then measured in grey values."""
MAX_CONTRAST = 1e6
MAX_POINTS = 300_000
LOOKALIKE_SHARE = 0.75
"""A neighbour is like the candidate when its contrast to the anchor is at least this share of the candidate's mean:
above the half maximum, so that the blurred edge of the candidate itself does not count."""

COARSE_MM = (1.5, 4.0)
"""On voxels of this size the outermost layer of a body belongs to nobody, since no blur spans it: a body continues only
where the second voxel beyond its surface looks alike too. Thicker slices are too far apart to ask the second one."""


@dataclass(frozen=True)
class AnchorStatistics:
    """Grey values of the whole anchor M*: `mad` is 1.4826 · median |I − median|; `scan` is computed when it
    is first asked for."""

    median: float
    mad: float
    volume: Volume = field(repr=False, compare=False)
    anchor: Mask = field(repr=False, compare=False)

    @cached_property
    def scan(self) -> BallScan:
        """Ball means over the whole anchor."""
        return BallScan(self.volume, self.anchor)


def anchor_statistics(volume: Volume, anchor: Mask) -> AnchorStatistics:
    """Median and MAD of the voxels of `anchor` (z, y, x, on the image grid); zeros for an empty one. Once per case."""
    values = volume.array[anchor].astype(np.float32)
    if values.size == 0:
        return AnchorStatistics(0.0, 0.0, volume, anchor)
    median = float(np.median(values))
    return AnchorStatistics(median, float(MAD_TO_SD * np.median(np.abs(values - median))), volume, anchor)


def describe(
    region: Region,
    volume: Volume,
    anchor: Mask,
    statistics: AnchorStatistics | None = None,
    *,
    edge_mm: float = 0.0,
    region_score: float | None = None,
) -> CandidateFeatures:
    """Features of `region`; `anchor` is M* on the whole image grid. Pass `statistics` when describing several.

    `edge_mm` is the segmenter's own (`SegmenterInfo.edge_mm`): like tissue nearer than that is still the same body.
    With a `region_score` the scan statistic, which looks at the whole organ, is left at 0.
    """
    stats = anchor_statistics(volume, anchor) if statistics is None else statistics
    spacing = volume.geometry.spacing_mm
    # Room for the second voxel on and for what `_past_the_edge` looks at.
    z, y, x = (4 + math.ceil(2.0 * edge_mm / mm) if edge_mm > 0 else 2 for mm in spacing)
    around = region.box.dilated((z, y, x), volume.geometry.shape)
    mask = np.zeros(around.shape, dtype=bool)
    mask[region.box.within(around).slices] = region.mask
    image = volume.array[around.slices].astype(np.float32)
    inside = image[mask]
    probability = region.probability[region.mask]
    near_anchor = anchor[around.slices]
    mean = float(inside.mean(dtype=np.float64))
    contrast = (mean - stats.median) / max(stats.mad, MIN_MAD)
    outer_moments = _principal_sd_mm(mask, spacing)
    radius = region.radius_mm or _inscribed_radius_mm(mask, spacing)
    contacts = _contacts(
        mask,
        image=image,
        anchor=near_anchor,
        spacing=spacing,
        coarse_axes=_coarse_axes(volume.geometry),
        edge_mm=edge_mm,
        mean=mean,
        anchor_median=stats.median,
    )
    volume_mm3 = float(inside.size * volume.geometry.voxel_volume_mm3)
    scan, scan_radius_mm = 0.0, 0.0
    if region_score is None:
        scan, scan_radius_mm = stats.scan.statistic(region.box, region.mask, brighter=contrast > 0)
    return CandidateFeatures(
        n_voxels=int(inside.size),
        volume_mm3=volume_mm3,
        mean_probability=float(probability.mean(dtype=np.float64)),
        max_probability=float(probability.max()),
        anchor_overlap=float(near_anchor[mask].mean()),
        mean_intensity=mean,
        sd_intensity=float(inside.std(dtype=np.float64)),
        anchor_median=stats.median,
        anchor_mad=stats.mad,
        contrast=float(np.clip(contrast, -MAX_CONTRAST, MAX_CONTRAST)),
        sphericity=_sphericity(mask, spacing),
        elongation=float(outer_moments[0] / outer_moments[1]),
        flatness=float(outer_moments[1] / outer_moments[2]) if mask.shape[0] > 1 else 1.0,
        exterior_contact=contacts.exterior,
        inner_continuation=contacts.inner,
        outer_continuation=contacts.outer,
        radius_mm=radius,
        attachment=region.attached_radius_mm / radius,
        scan_statistic=scan,
        scan_radius_mm=scan_radius_mm,
        region_score=region_score,
    )


def prominence(features: CandidateFeatures) -> float:
    """How much a reader's eye would go there first: |contrast| · ln(1 + V / mm³) · (1 − inner − outer continuation).

    A plain order for lists of findings, with no meaning as a probability: strong, large and self-contained bodies come
    before the pieces of vessel trees and the bulges of neighbouring organs that no threshold can reject honestly.
    """
    alone = max(0.0, 1.0 - features.inner_continuation - features.outer_continuation)
    return abs(features.contrast) * math.log1p(features.volume_mm3) * alone


def rank_of(features: CandidateFeatures) -> float:
    """By what lists of findings are ordered: the frozen score where there is one, else prominence."""
    return prominence(features) if features.region_score is None else features.region_score


@dataclass(frozen=True)
class _Contacts:
    exterior: float
    inner: float
    outer: float


def _contacts(
    mask: Mask,
    *,
    image: FloatArray,
    anchor: Mask,
    spacing: Float3,
    coarse_axes: tuple[int, ...],
    edge_mm: float,
    mean: float,
    anchor_median: float,
) -> _Contacts:
    """Shares of the surface (voxel faces, mm²) by what lies on the other side; the picture's rim counts as neither."""
    share = (image - np.float32(anchor_median)) / (mean - anchor_median if mean != anchor_median else 1.0)
    lookalike = share >= LOOKALIKE_SHARE
    past = _past_the_edge(mask, lookalike, spacing, edge_mm) if edge_mm > 0 else lookalike
    total = exterior_area = inner_area = outer_area = 0.0
    for axis in range(3):
        if mask.shape[axis] < 2:
            continue
        face_mm2 = float(np.prod(spacing)) / spacing[axis]
        low = (slice(None),) * axis + (slice(0, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        beyond = (past, past) if edge_mm > 0 else _beyond(lookalike, axis, axis in coarse_axes)
        for (here, there), still in zip(((low, high), (high, low)), beyond, strict=True):
            face = mask[here] & ~mask[there]
            goes_on = face & lookalike[there] & still[there]
            total += face_mm2 * np.count_nonzero(face)
            exterior_area += face_mm2 * np.count_nonzero(face & ~anchor[there])
            inner_area += face_mm2 * np.count_nonzero(goes_on & anchor[there])
            outer_area += face_mm2 * np.count_nonzero(goes_on & ~anchor[there])
    if total == 0:
        return _Contacts(0.0, 0.0, 0.0)
    return _Contacts(float(exterior_area / total), float(inner_area / total), float(outer_area / total))


def _coarse_axes(geometry: Geometry) -> tuple[int, ...]:
    unknown = geometry.known_spacing == "none"
    return tuple(a for a, mm in enumerate(geometry.spacing_mm) if unknown or COARSE_MM[0] <= mm <= COARSE_MM[1])


def _past_the_edge(mask: Mask, lookalike: Mask, spacing: Float3, edge_mm: float) -> Mask:
    """Where like tissue lies farther than `edge_mm` and a voxel from the candidate, and close by: a body continues."""
    from scipy import ndimage

    step = max((mm for mm in spacing if mm <= COARSE_MM[1]), default=0.0)
    far = lookalike & (ndimage.distance_transform_edt(~mask, sampling=spacing) > edge_mm + step)
    if not far.any():
        return far
    near: Mask = np.asarray(ndimage.distance_transform_edt(~far, sampling=spacing) <= edge_mm + 2.0 * step)
    return near


def _beyond(lookalike: Mask, axis: int, coarse: bool) -> tuple[Mask, Mask]:
    """For each voxel of a coarse axis, does the next one along it look alike too: upwards, downwards; the rim: yes."""
    if not coarse:
        return lookalike, lookalike
    up = np.ones_like(lookalike)
    down = np.ones_like(lookalike)
    low = (slice(None),) * axis + (slice(0, -1),)
    high = (slice(None),) * axis + (slice(1, None),)
    up[low] = lookalike[high]
    down[high] = lookalike[low]
    return up, down


def _positions_mm(mask: Mask, spacing: Float3) -> NDArray[np.float64]:
    """(n, 3) positions in mm of the voxels, every k-th along each axis when there are more than about `MAX_POINTS`."""
    step = max(1, int(np.ceil(np.cbrt(np.count_nonzero(mask) / MAX_POINTS))))
    sampled = mask[::step, ::step, ::step] if step > 1 else mask
    positions: NDArray[np.float64] = np.argwhere(sampled).astype(np.float64) * np.asarray(spacing) * step
    return positions


def _principal_sd_mm(mask: Mask, spacing: Float3) -> NDArray[np.float64]:
    """Standard deviations in mm along the principal axes, largest first; each voxel adds its own box (spacing² / 12).

    For one slice the axis across it is left out: two numbers and a copy of the second.
    """
    axes = [a for a in range(3) if mask.shape[a] > 1 or mask.shape[0] > 1]
    points = _positions_mm(mask, spacing)[:, axes]
    centred = points - points.mean(axis=0)
    covariance = centred.T @ centred / len(points) + np.diag([spacing[a] ** 2 / 12.0 for a in axes])
    sds = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance)[::-1], 1e-12))
    return sds if len(sds) == 3 else np.concatenate([sds, [sds[-1]] * (3 - len(sds))])


def _sphericity(mask: Mask, spacing: Float3) -> float:
    """(V / V_ball)^(1/3) with the ball of the longest radius from the centroid; area and disc, square-rooted, in 2D."""
    points = _positions_mm(mask, spacing)
    flat = mask.shape[0] == 1
    half = np.asarray(spacing, dtype=np.float64) / 2.0
    if flat:
        points, half = points[:, 1:], half[1:]
    longest = float(np.linalg.norm(np.abs(points - points.mean(axis=0)) + half, axis=1).max())
    if flat:
        return min(1.0, float(np.sqrt(np.count_nonzero(mask) * spacing[1] * spacing[2] / (np.pi * longest**2))))
    volume = np.count_nonzero(mask) * float(np.prod(spacing))
    return min(1.0, float(np.cbrt(volume / (4.0 / 3.0 * np.pi * longest**3))))


def _inscribed_radius_mm(mask: Mask, spacing: Float3) -> float:
    """Largest distance of a voxel from the outside of the candidate, in mm (in the plane for one slice)."""
    from scipy import ndimage

    if mask.shape[0] == 1:
        distance = ndimage.distance_transform_edt(np.pad(mask[0], 1), sampling=spacing[1:])
    else:
        distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return float(distance.max())
