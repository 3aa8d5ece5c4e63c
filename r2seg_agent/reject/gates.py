"""Gates L1 (presence), L2 (candidate) and L3 (case) of method.md §3, and our own plausibility gates beside L2.

The paper's gates carry the names `L1.…`, `L2.…`, `L3.…`; ours are named `ours.…`, so that no report can mistake one for
the other. A gate is a fixed threshold on what was seen; it says nothing about error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.plan import AnatomyPlan, Contrast
from r2seg_agent.segment.candidates import PROBABILITY_THRESHOLD, CandidateFeatures, ScaleProbability

MAX_KS_SAMPLE = 5_000
"""The Kolmogorov-Smirnov samples are thinned evenly to this many voxels: with more, any difference is significant."""


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
    max_elongation: float = Field(default=2.5, ge=1)
    """Ours: longer ones are vessels (√ of the ratio of the two largest principal moments)."""
    max_flatness: float = Field(default=2.5, ge=1)
    """Ours: flatter ones are rims of the organ, fissures, pleura."""
    max_inner_continuation: float = Field(default=0.35, ge=0, le=1)
    """Ours: largest share of the surface across which the grey value continues as inside, within the anchor: more are
    pieces of a larger body (a vessel tree) that was cut where it is thin."""
    continuation_contrast: float = Field(default=0.0, ge=0)
    """Ours: `max_inner_continuation` counts from this |contrast| on (`gates_of_mode`)."""
    max_outer_continuation: float = Field(default=0.35, ge=0, le=1)
    """Ours: the same out of the anchor: more are bulges of a neighbouring organ or of the chest wall."""
    max_attachment: float = Field(default=1.0, ge=0)
    """Ours: a candidate that touches a body thicker than this times its own radius is a branch of it."""
    max_exterior_contact: float = Field(default=0.5, ge=0, le=1)
    """Ours: largest share of the surface that lies on the anchor's own edge: most such candidates are edge remains."""
    min_contrast: float = Field(default=1.5, ge=0)
    """Ours: least |contrast| in the anchor's MADs, and with the expected sign where the plan expects one."""


FAINT_CONTRAST = 4.0
"""Below this contrast, three quarters of it are within reach of the noise: around a faint lesion, of which noise lets
the segmenter draw a part, many neighbours look like the part."""


def gates_of_mode(mode: str, settings: GateSettings) -> GateSettings:
    """`settings` as Reject mode `mode` applies them.

    Where a calibration judges (modes `conformal`, and `score` for its cases), a faint candidate is not refused because
    its neighbours look like it: lesion-free cases had such candidates too, and the p-value pays for them. Measured on
    1 ml lesions at contrast-to-noise 3 and noise of 3 voxels FWHM the gate took a third of the power. In paper mode
    nothing else stands between such candidates and the report, so it stays.
    """
    if mode not in ("conformal", "score"):
        return settings
    return settings.model_copy(update={"continuation_contrast": max(FAINT_CONTRAST, settings.continuation_contrast)})


def presence_gates(
    volume: Volume,
    probabilities: Sequence[ScaleProbability],
    anchor: Mask,
    box: Box,
    settings: GateSettings | None = None,
) -> tuple[GateResult, ...]:
    """L1 on the whole case: is anything there at all? `anchor` M* covers `box` (z, y, x), the union of the ROIs.

    P̄ is the largest probability over `probabilities`. The paper names p_KS without saying what it compares (its text
    leaves it open); ours is the two-sample Kolmogorov-Smirnov test of the grey values of the anchor's positive voxels
    (P̄ ≥ 0.5) against those of its other voxels: a case whose "lesion" looks like the rest of the organ is negative.
    Voxels are not independent and the positives were chosen, so this p is a score, not a level. With no voxels on
    one side the test is skipped, passes, and says so.
    """
    s = settings or GateSettings()
    largest = 0.0
    positive = np.zeros(anchor.shape, dtype=bool)
    for part in probabilities:
        where = part.box.within(box).slices
        inside = part.probability[anchor[where]]
        largest = max(largest, float(inside.max(initial=0.0)))
        positive[where] |= part.probability >= PROBABILITY_THRESHOLD
    positive &= anchor
    n_anchor, n_positive = int(np.count_nonzero(anchor)), int(np.count_nonzero(positive))
    results = [
        _at_least("L1.p_max", largest, s.p_max, "the largest probability in the anchor"),
        _at_least(
            "L1.positive_ratio", n_positive / max(1, n_anchor), s.positive_ratio, "the share of positive anchor voxels"
        ),
    ]
    if 0 < n_positive < n_anchor:
        image = volume.array[box.slices]
        p = ks_p_value(image[positive], image[anchor & ~positive])
        results.append(
            _at_most("L1.p_ks", p, s.p_ks, "the Kolmogorov-Smirnov p of positive against other anchor voxels")
        )
    else:
        note = "no positive and negative voxels to compare: skipped"
        results.append(GateResult(name="L1.p_ks", passed=True, value=None, threshold=s.p_ks, note=note))
    return tuple(results)


def ks_p_value(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Two-sided two-sample Kolmogorov-Smirnov p, asymptotic (Kolmogorov's law; Stephens' small-sample correction).

    D = max |F₁ − F₂|, λ = (√e + 0.12 + 0.11 / √e) D with e = mn / (m + n), p = 2 Σ_{j ≥ 1} (−1)^{j−1} exp(−2 j² λ²).
    Both samples are thinned evenly to `MAX_KS_SAMPLE` order statistics. From scipy.special, because scipy.stats takes a
    second to import; tests compare with it.
    """
    x, y = _thinned(first), _thinned(second)
    values = np.concatenate([x, y])
    below_x = np.searchsorted(x, values, side="right") / x.size
    below_y = np.searchsorted(y, values, side="right") / y.size
    root = math.sqrt(x.size * y.size / (x.size + y.size))
    scaled = (root + 0.12 + 0.11 / root) * float(np.abs(below_x - below_y).max())
    return float(special.kolmogorov(scaled))


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Sorted, at most `MAX_KS_SAMPLE` evenly spaced order statistics: the same whatever order the voxels came in."""
    ordered = np.sort(values, axis=None)
    if ordered.size <= MAX_KS_SAMPLE:
        return ordered
    picks = ((np.arange(MAX_KS_SAMPLE) + 0.5) * ordered.size / MAX_KS_SAMPLE).astype(np.intp)
    return ordered[picks]


def candidate_gates(
    features: CandidateFeatures,
    plan: AnatomyPlan,
    settings: GateSettings | None = None,
    *,
    has_volume: bool = True,
) -> tuple[GateResult, ...]:
    """L2 for one candidate, then ours, which read `expected_volume_ml` and `expected_contrast` of the plan.

    `has_volume` False (a single slice) leaves out the gates on a plausible volume: an area says nothing about it.
    """
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
        _inner_continuation_gate(f, s),
        _at_most(
            "ours.outer_continuation",
            f.outer_continuation,
            s.max_outer_continuation,
            "the share of its surface across which it continues outside the anchor",
        ),
        _at_most("ours.attachment", f.attachment, s.max_attachment, "the thickness of what it hangs on, over its own,"),
        _at_most(
            "ours.exterior_contact",
            f.exterior_contact,
            s.max_exterior_contact,
            "the share of its surface on the anchor's edge",
        ),
        _contrast_gate(f.contrast, plan.expected_contrast, s.min_contrast),
    ]
    if not has_volume:
        return tuple(results)
    ml, (low, high) = f.volume_mm3 / 1000.0, sorted(plan.expected_volume_ml)
    results.append(_at_least("ours.plausible_volume_min", ml, low, "the volume in ml, smallest plausible,"))
    results.append(_at_most("ours.plausible_volume_max", ml, high, "the volume in ml, largest plausible,"))
    return tuple(results)


def _inner_continuation_gate(f: CandidateFeatures, s: GateSettings) -> GateResult:
    name, what = "ours.inner_continuation", "the share of its surface across which it continues inside the anchor"
    if abs(f.contrast) >= s.continuation_contrast:
        return _at_most(name, f.inner_continuation, s.max_inner_continuation, what)
    note = f"{what} says nothing at a contrast of {abs(f.contrast):.3g}, under {s.continuation_contrast:g}"
    return GateResult(name=name, passed=True, value=f.inner_continuation, threshold=s.max_inner_continuation, note=note)


def _contrast_gate(contrast: float, expected: Contrast, least: float) -> GateResult:
    if expected == "brighter":
        return _at_least("ours.contrast", contrast, least, "the contrast (brighter expected)")
    if expected == "darker":
        return _at_most("ours.contrast", contrast, -least, "the contrast (darker expected)")
    return _at_least("ours.contrast", abs(contrast), least, "the contrast to the anchor, either way,")


def case_gates(features: Sequence[CandidateFeatures], settings: GateSettings | None = None) -> tuple[GateResult, ...]:
    """L3: the largest S_k = mean P̄ · √|C_k| (voxels) must reach τ_case; no gate while τ_case is None."""
    s = settings or GateSettings()
    if s.case_score is None:
        return ()
    largest = max((f.mean_probability * math.sqrt(f.n_voxels) for f in features), default=0.0)
    return (_at_least("L3.case_score", largest, s.case_score, "the largest candidate score of the case"),)


def _at_least(name: str, value: float, threshold: float, what: str) -> GateResult:
    passed = value >= threshold
    note = f"{what} is {value:.4g}, at least {threshold:.4g} needed" if not passed else f"{what} is {value:.4g}"
    return GateResult(name=name, passed=passed, value=value, threshold=threshold, note=note)


def _at_most(name: str, value: float, threshold: float, what: str) -> GateResult:
    passed = value <= threshold
    note = f"{what} is {value:.4g}, at most {threshold:.4g} allowed" if not passed else f"{what} is {value:.4g}"
    return GateResult(name=name, passed=passed, value=value, threshold=threshold, note=note)
