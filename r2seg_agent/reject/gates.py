"""Gates L1 (presence), L2 (candidate) and L3 (case) of method.md §3, and our own plausibility gates beside L2.

The paper's gates carry the names `L1.…`, `L2.…`, `L3.…`; ours are named `ours.…`, so that no report can mistake one for the
other. A gate is a fixed threshold on what was seen; it says nothing about error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.reason.plan import Contrast
from r2seg_agent.segment.candidates import CandidateFeatures

MAX_KS_SAMPLE = 5_000
"""The presence gate's two samples are thinned evenly to at most this many voxels: with more, any difference is significant."""


class GateResult(Frozen):
    """One gate's verdict: `value` against `threshold`; `note` says it in words for the report."""

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    note: str


class GateSettings(Frozen):
    """Every threshold. The paper's (L1–L3) hold method.md's defaults; `ours` and below are our own additions."""

    p_max: float = Field(default=0.5, ge=0, le=1)
    """τ_max: L1, the largest probability must reach it."""
    positive_ratio: float = Field(default=1e-4, ge=0, le=1)
    """τ_φ: L1, the share of the anchor's voxels with P̄ ≥ 0.5 must reach it."""
    p_ks: float = Field(default=0.05, ge=0, le=1)
    """τ_KS: L1, the p-value of the Kolmogorov-Smirnov test must not exceed it."""
    min_volume_mm3: float = Field(default=20.0, ge=0)
    """A_min: L2 (pixels in an image without spacing)."""
    mean_probability: float = Field(default=0.5, ge=0, le=1)
    """τ_mean: L2."""
    anchor_overlap: float = Field(default=0.5, ge=0, le=1)
    """τ_∩: L2, |C ∩ M*| / |C|."""
    case_score: float | None = Field(default=None, ge=0)
    """τ_case: L3; None until calibrated on lesion-free cases, and then the gate is off."""
    ours: bool = True
    """Apply the gates below as well."""
    max_elongation: float = Field(default=3.0, ge=1)
    """Ours: longer ones are vessels (√ of the ratio of the two largest principal moments)."""
    max_flatness: float = Field(default=3.0, ge=1)
    """Ours: flatter ones are rims of the organ, fissures, pleura."""
    max_continuation: float = Field(default=0.5, ge=0, le=1)
    """Ours: largest share of the surface across which the grey value goes on as inside (`lookalike_contact`)."""
    max_exterior_contact: float = Field(default=0.5, ge=0, le=1)
    """Ours: largest share of the surface that lies on the anchor's own edge: most such candidates are edge remains."""
    min_contrast: float = Field(default=1.0, ge=0)
    """Ours: least |contrast| in the anchor's MADs, and with the expected sign where the plan expects one."""


def presence_gates(
    probability: FloatArray, anchor: Mask, settings: GateSettings | None = None, threshold: float = 0.5
) -> tuple[GateResult, ...]:
    """L1 on the whole case: is anything there at all? `probability` P̄ and `anchor` M* cover the same box (z, y, x).

    The paper names p_KS without saying what it compares. We take the one reading that asks for presence: the two-sample
    Kolmogorov-Smirnov test, one-sided, of P̄ inside the anchor against P̄ on the rest of the ROI (what the model says where
    no lesion of this organ can be); the case is negative when inside is not stochastically larger. Voxels are not
    independent, so this p is a score, not a level; without voxels on either side the gate passes and says so.
    """
    s = settings or GateSettings()
    inside, outside = probability[anchor], probability[~anchor]
    largest = float(inside.max(initial=0.0))
    ratio = float((inside >= threshold).mean()) if inside.size else 0.0
    results = [
        _at_least("L1.p_max", largest, s.p_max, "the largest probability in the anchor"),
        _at_least("L1.positive_ratio", ratio, s.positive_ratio, "the share of positive voxels in the anchor"),
    ]
    if inside.size == 0 or outside.size == 0:
        results.append(
            GateResult(
                name="L1.p_ks", passed=True, value=None, threshold=s.p_ks, note="nothing to compare with: skipped"
            )
        )
    else:
        results.append(_at_most("L1.p_ks", ks_p_value(inside, outside), s.p_ks, "the Kolmogorov-Smirnov p-value"))
    return tuple(results)


def ks_p_value(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    """One-sided two-sample Kolmogorov-Smirnov p that `inside` is not larger, asymptotic: exp(−2 D₊² mn / (m + n)).

    D₊ = max over t of F_outside(t) − F_inside(t) (Smirnov 1939). Both samples are thinned evenly to `MAX_KS_SAMPLE`.
    """
    x, y = _thinned(inside), _thinned(outside)
    values = np.concatenate([x, y])
    d_plus = float(
        (np.searchsorted(y, values, side="right") / y.size - np.searchsorted(x, values, side="right") / x.size).max()
    )
    return float(min(1.0, math.exp(-2.0 * max(0.0, d_plus) ** 2 * x.size * y.size / (x.size + y.size))))


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sorted, every k-th order statistic: the same whatever order the voxels came in."""
    ordered = np.sort(values, axis=None)
    if ordered.size <= MAX_KS_SAMPLE:
        return ordered
    picks = ((np.arange(MAX_KS_SAMPLE) + 0.5) * ordered.size / MAX_KS_SAMPLE).astype(np.intp)
    return ordered[picks]


def candidate_gates(
    features: CandidateFeatures,
    expected_volume_ml: tuple[float, float] | None = None,
    expected_contrast: Contrast = "either",
    settings: GateSettings | None = None,
) -> tuple[GateResult, ...]:
    """L2 for one candidate, then ours. `expected_volume_ml` and `expected_contrast` are the plan's."""
    s = settings or GateSettings()
    f = features
    results = [
        _at_least("L2.volume", f.volume_mm3, s.min_volume_mm3, "the volume in mm³"),
        _at_least("L2.mean_probability", f.mean_probability, s.mean_probability, "the mean probability"),
        _at_least("L2.anchor_overlap", f.anchor_overlap, s.anchor_overlap, "the share inside the anchor"),
    ]
    if not s.ours:
        return tuple(results)
    results += [
        _at_most("ours.elongation", f.elongation, s.max_elongation, "how long it is, like a vessel,"),
        _at_most("ours.flatness", f.flatness, s.max_flatness, "how flat it is, like a rim,"),
        _at_most(
            "ours.continuation",
            f.lookalike_contact,
            s.max_continuation,
            "the share of its surface across which like tissue goes on",
        ),
        _at_most(
            "ours.exterior_contact",
            f.exterior_contact,
            s.max_exterior_contact,
            "the share of its surface on the anchor's edge",
        ),
        _contrast_gate(f.contrast, expected_contrast, s.min_contrast),
    ]
    if expected_volume_ml is not None:
        ml, (low, high) = f.volume_mm3 / 1000.0, sorted(expected_volume_ml)
        results.append(_at_least("ours.plausible_volume_min", ml, low, "the volume in ml, smallest plausible,"))
        results.append(_at_most("ours.plausible_volume_max", ml, high, "the volume in ml, largest plausible,"))
    return tuple(results)


def _contrast_gate(contrast: float, expected: Contrast, least: float) -> GateResult:
    if expected == "brighter":
        return _at_least("ours.contrast", contrast, least, "the contrast (brighter expected)")
    if expected == "darker":
        return _at_most("ours.contrast", contrast, -least, "the contrast (darker expected)")
    return _at_least("ours.contrast", abs(contrast), least, "the contrast to the anchor, either way,")


def case_gates(scores: Sequence[float], settings: GateSettings | None = None) -> tuple[GateResult, ...]:
    """L3: the largest S_k = mean P̄ · √|C_k| (`segment.candidates.case_score`) must reach τ_case; none while it is None."""
    s = settings or GateSettings()
    if s.case_score is None:
        return ()
    return (
        _at_least("L3.case_score", max(scores, default=0.0), s.case_score, "the largest candidate score of the case"),
    )


def _at_least(name: str, value: float, threshold: float, what: str) -> GateResult:
    passed = value >= threshold
    note = f"{what} is {value:.4g}, at least {threshold:.4g} needed" if not passed else f"{what} is {value:.4g}"
    return GateResult(name=name, passed=passed, value=value, threshold=threshold, note=note)


def _at_most(name: str, value: float, threshold: float, what: str) -> GateResult:
    passed = value <= threshold
    note = f"{what} is {value:.4g}, at most {threshold:.4g} allowed" if not passed else f"{what} is {value:.4g}"
    return GateResult(name=name, passed=passed, value=value, threshold=threshold, note=note)
