"""Reject: which candidates of one search round survive (method.md §3 and §4).

Paper mode tests X = φ(I|C_k) against Y = φ(I|M*) by MMD² and voxel permutation, then BH over the candidates that reach
the test. Conformal mode ranks each candidate's score among those of lesion-free calibration cases.

Order of verdicts: a candidate that fails a candidate gate (L2) is rejected and is no member of the BH family, since
the gates do not look at p; it keeps its p-value for the record and has no q. A failed case gate (L1, L3) rejects
every candidate in paper mode; in conformal mode with the case maximum, which replaces L1 and L3, it is only reported.

What α covers: one call, that is one target and one round. Over widening rounds a calibration that went through as many
rounds pays for them (case maximum only); paper mode pays for nothing. Nobody pays for several targets in one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    candidate_p,
    case_maximum_p,
)
from r2seg_agent.reject.evidence import Evidence, gather_evidence
from r2seg_agent.reject.fdr import (
    benjamini_hochberg,
    benjamini_yekutieli,
    conformal_e_values,
    e_benjamini_hochberg,
)
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.scores import USES_MMD2, score_named
from r2seg_agent.reject.settings import Correction, RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.segment.protocol import Segmenter

_ADJUST: Mapping[Correction, Callable[[Sequence[float]], NDArray[np.float64]]] = {
    "bh": benjamini_hochberg,
    "by": benjamini_yekutieli,
    "ebh": e_benjamini_hochberg,
    "none": lambda p: np.asarray(p, dtype=np.float64),
}


MMD2_DECIMALS = 10
"""MMD² is reported to this many decimals: the low-rank path's error bound and rounding lie beyond them."""


class Decided(Frozen):
    """The verdict on one candidate. None: not computable (p of a candidate without reference, q outside the family).

    `reason` is one plain sentence for the report; `n_sampled` is m, the voxels that the test saw.
    """

    score: float | None
    mmd2: float | None
    p: float | None
    q: float | None
    gates: tuple[GateResult, ...]
    survived: bool
    reason: str
    n_sampled: int


def decide(
    volume: Volume,
    roi: Box,
    anchor_mask: Mask,
    regions: Sequence[Region],
    features: Sequence[CandidateFeatures],
    *,
    plan: AnatomyPlan,
    settings: RejectSettings,
    seed: int,
    gates: Sequence[tuple[GateResult, ...]] | None = None,
    case_gates: Sequence[GateResult] = (),
    calibration: Calibration | None = None,
    round_index: int = 1,
    identity: CalibrationIdentity | None = None,
    segmenter: Segmenter | None = None,
    device: str = "cpu",
) -> tuple[Decided, ...]:
    """`judge` on what `gather_evidence` draws, where nobody keeps the evidence; both say what is raised."""
    evidence = gather_evidence(
        volume,
        roi,
        anchor_mask,
        regions,
        features,
        site=plan.site,
        settings=settings,
        seed=seed,
        gates=gates,
        case_gates=case_gates,
        calibration=calibration,
        round_index=round_index,
        identity=identity,
        segmenter=segmenter,
        window=plan.window,
    )
    return judge(evidence, device=device)


def judge(evidence: Evidence, *, device: str = "cpu") -> tuple[Decided, ...]:
    """Verdicts on the candidates of one round, in their order; none depends on that order.

    A pure function: equal evidence gives equal verdicts to the last bit. Raises `InputError` for an unknown device.
    """
    if not evidence.xs:
        return ()
    settings = evidence.settings
    if settings.mode == "none":
        return _all_kept(evidence)
    mmd2, permutation_p = _two_sample(list(evidence.xs), evidence.y, settings, evidence.seed, device)
    if settings.mode == "paper":
        scores, p_values = mmd2, permutation_p
    else:
        checked, function = evidence.calibration, score_named(settings.score)
        whole = settings.reading == "case_maximum"
        read = partial(case_maximum_p, round_index=evidence.round_index) if whole else candidate_p
        need = settings.score in USES_MMD2
        scores = [
            None if need and m is None else function(f, 0.0 if m is None else m)
            for f, m in zip(evidence.features, mmd2, strict=True)
        ]
        p_values = [None if s is None or checked is None else read(checked, s) for s in scores]
    whole_case = settings.mode == "conformal" and settings.reading == "case_maximum"
    closed = None if whole_case else next((g for g in evidence.case_gates if not g.passed), None)
    correction: Correction = "none" if whole_case else settings.correction
    adjusted = _e_values(scores, evidence.calibration) if correction == "ebh" else p_values
    q_values = _family_q(adjusted, evidence.gates, correction)
    decided = []
    for k, own in enumerate(evidence.gates):
        survived, reason = _verdict(
            p=p_values[k],
            q=q_values[k],
            gates=own,
            closed=closed,
            site=evidence.site,
            settings=settings,
            sizes=(len(evidence.xs[k]), len(evidence.y)),
        )
        decided.append(
            Decided(
                score=scores[k],
                mmd2=mmd2[k],
                p=p_values[k],
                q=q_values[k],
                gates=own,
                survived=survived,
                reason=reason,
                n_sampled=len(evidence.xs[k]),
            )
        )
    return tuple(decided)


def _all_kept(evidence: Evidence) -> tuple[Decided, ...]:
    """Verdicts where nothing is tested, ordered by what the model itself says: its mass on the candidate."""
    mass = score_named("segmenter_mass")
    decided = []
    for features, gates in zip(evidence.features, evidence.gates, strict=True):
        failed = next((g for g in gates if not g.passed), None)
        reason = "nothing was tested" if failed is None else f"{failed.note} (gate {failed.name})"
        decided.append(
            Decided(
                score=mass(features, 0.0),
                mmd2=None,
                p=None,
                q=None,
                gates=gates,
                survived=failed is None,
                reason=reason,
                n_sampled=0,
            )
        )
    return tuple(decided)


def _two_sample(
    xs: list[NDArray[np.float64]], y: NDArray[np.float64], settings: RejectSettings, seed: int, device: str
) -> tuple[list[float | None], list[float | None]]:
    """MMD² and, in paper mode, permutation p per candidate; None where a sample has fewer than two voxels."""
    from r2seg_agent.reject.mmd import mmd_permutation_test

    # Conformal mode reads the statistic alone: one permutation is the least that the batched test takes.
    permutations = settings.permutations if settings.mode == "paper" else 1
    try:
        tests = mmd_permutation_test(xs, y, permutations=permutations, seed=seed, device=device)
    except ValueError as error:
        raise InputError(str(error), "Choose another `--device`, or an image without NaN.") from error
    defined = [None if t.method == "undefined" else t for t in tests]
    return [t and round(t.mmd2, MMD2_DECIMALS) for t in defined], [t and t.p for t in defined]


def _e_values(scores: Sequence[float | None], calibration: Calibration | None) -> list[float | None]:
    """Against one random candidate per lesion-free case; None without a score, or a calibration (mode `score`)."""
    null = [] if calibration is None else calibration.null.candidates
    return [None if s is None or calibration is None else float(conformal_e_values(null, [s])[0]) for s in scores]


def _family_q(
    values: Sequence[float | None], gates: Sequence[tuple[GateResult, ...]], correction: Correction
) -> list[float | None]:
    """q over the candidates that pass their gates and have a value (p, or e for e-BH); None for the others."""
    family = [k for k, value in enumerate(values) if value is not None and all(g.passed for g in gates[k])]
    q: list[float | None] = [None] * len(values)
    adjusted = _ADJUST[correction]([value for k in family if (value := values[k]) is not None])
    for k, value in zip(family, adjusted.tolist(), strict=True):
        q[k] = value
    return q


def _verdict(
    *,
    p: float | None,
    q: float | None,
    gates: tuple[GateResult, ...],
    closed: GateResult | None,
    site: str,
    settings: RejectSettings,
    sizes: tuple[int, int],
) -> tuple[bool, str]:
    failed = next((g for g in gates if not g.passed), None)
    if failed is not None:
        return False, f"{failed.note} (gate {failed.name})"
    if settings.mode == "score":
        return False, "scored for a calibration; nothing is decided"
    if closed is not None:
        return False, f"the case counts as negative: {closed.note} (gate {closed.name})"
    if p is None or q is None:
        return False, f"too few voxels to test: {sizes[0]} in the candidate, {sizes[1]} in the reference"
    normal = f"normal {site}"
    against = "does not differ from" if settings.mode == "paper" else "is not beyond lesion-free cases of"
    beyond = "differs from" if settings.mode == "paper" else "is beyond lesion-free cases of"
    survived = q <= settings.alpha
    sign = "≤" if survived else ">"
    return survived, f"q = {q:.3g} {sign} alpha {settings.alpha:g}: {beyond if survived else against} {normal}"
