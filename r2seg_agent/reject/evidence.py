"""What p- and q-values follow from: the sampled features, the settings, the gates, the calibration. No scan needed.

`gather_evidence` reads the scan once; `judge` (`decide.py`) decides from what it returns. So whoever keeps the
evidence can derive every p and q again, bit for bit, by the very code that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, bounding_box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.plan import Window
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity
from r2seg_agent.reject.features import Feature, feature_named, region_key, sample_voxels, stream
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.identity import require_calibration
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.segment.protocol import Segmenter


@dataclass(frozen=True)
class Evidence:
    """One round's inputs to the verdicts: candidate k has `xs[k]`, `features[k]` and `gates[k]`.

    `xs[k]` is X_k, (m_k, d) features of the voxels drawn from candidate k; `y` is Y, (n, d), of M*. `calibration`
    is None in paper mode; otherwise it was checked to match the run, and `round_index` (from 1) says with which of
    its rounds to compare.
    """

    xs: tuple[NDArray[np.float64], ...]
    y: NDArray[np.float64]
    features: tuple[CandidateFeatures, ...]
    gates: tuple[tuple[GateResult, ...], ...]
    case_gates: tuple[GateResult, ...]
    settings: RejectSettings
    seed: int
    calibration: Calibration | None = None
    round_index: int = 1


def gather_evidence(
    volume: Volume,
    roi: Box,
    anchor_mask: Mask,
    regions: Sequence[Region],
    features: Sequence[CandidateFeatures],
    *,
    settings: RejectSettings,
    seed: int,
    gates: Sequence[tuple[GateResult, ...]] | None = None,
    case_gates: Sequence[GateResult] = (),
    calibration: Calibration | None = None,
    round_index: int = 1,
    identity: CalibrationIdentity | None = None,
    segmenter: Segmenter | None = None,
    window: Window | None = None,
) -> Evidence:
    """Draw the samples of one round's candidates.

    `roi` is the union box of the round's ROIs and `anchor_mask` M* on its grid (z, y, x); region boxes lie inside it.
    `features` and `gates` (L2 results, all passed when None) go with `regions`. The feature `segmenter` needs the run's
    `segmenter` and the plan's `window`.

    Raises `InputError` in conformal mode without a matching calibration, and for a segmenter without features.
    """
    checked = require_calibration(settings, calibration, identity) if settings.mode == "conformal" else None
    own_gates = [()] * len(regions) if gates is None else list(gates)
    if not len(regions) == len(features) == len(own_gates) or anchor_mask.shape != roi.shape:
        raise ValueError(
            f"{len(regions)} regions, {len(features)} features, {len(own_gates)} gate results; "
            f"anchor mask {anchor_mask.shape} for an ROI of {roi.shape}"
        )
    xs, y = [np.empty((0, 1))] * len(regions), np.empty((0, 1))
    if settings.mode not in ("none", "reference"):
        organ = bounding_box(anchor_mask)
        around = roi if organ is None else organ.shifted(roi.start)
        phi = feature_named(settings.feature, segmenter, window=window, around=around)
        xs, y = _samples(volume, roi, anchor_mask, regions, phi=phi, settings=settings, seed=seed)
    return Evidence(
        xs=tuple(xs),
        y=y,
        features=tuple(features),
        gates=tuple(own_gates),
        case_gates=tuple(case_gates),
        settings=settings,
        seed=seed,
        calibration=checked,
        round_index=round_index,
    )


def _samples(
    volume: Volume,
    roi: Box,
    anchor_mask: Mask,
    regions: Sequence[Region],
    *,
    phi: Feature,
    settings: RejectSettings,
    seed: int,
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """X_k and Y. Each candidate draws from a stream of its own content, so no draw depends on the others."""
    if not regions:
        return [], np.empty((0, 1))
    size = settings.sample_size
    drawn = [sample_voxels(stream(seed, "reference"), anchor_mask, roi.start, size)]
    drawn += [
        sample_voxels(stream(seed, "candidate", region_key(region)), region.mask, region.box.start, size)
        for region in regions
    ]
    # All voxels at once: a map is then computed once, piece by piece, and never kept.
    values = phi.prepare(volume, roi)(np.concatenate(drawn))
    parts = np.split(values, np.cumsum([len(voxels) for voxels in drawn])[:-1])
    return parts[1:], parts[0]
