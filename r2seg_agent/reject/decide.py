"""Reject: which candidates of one search round survive (method.md §3 and §4).

Paper mode tests X = φ(I|C_k) against Y = φ(I|M*) by MMD² and voxel permutation, then BH over the candidates that reach
the test. Conformal mode ranks each candidate's score among the largest of lesion-free calibration cases:
its p-values are family-wise, and nothing is left to correct.

Order of verdicts: a candidate that fails a candidate gate (L2) is rejected and is no member of the BH family, since
the gates do not look at p; it keeps its p-value for the record and has no q. A failed case gate (L1, L3) rejects
every candidate in paper mode; in conformal mode the case maximum replaces L1 and L3, and they are only reported.

What α covers: one call, that is one target and one round. Over widening rounds a calibration that went through as many
rounds pays for them; paper mode pays for nothing. Of several targets in one request a calibration judges its own alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.calibration import Calibration, case_maximum_p
from r2seg_agent.reject.evidence import Evidence
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.scores import USES_MMD2, score_named
from r2seg_agent.reject.settings import Mode, RejectSettings, threshold_of
from r2seg_agent.segment.candidates import CandidateFeatures

MMD2_DECIMALS = 10
"""MMD² is reported to this many decimals: the low-rank path's error bound and rounding lie beyond them."""

Cause = Literal["none", "gate", "case", "too_few_voxels", "test", "score"]
"""What decided about a candidate, in the order of verdicts: a candidate gate; a gate on the whole case; a sample too
small to test; the test; in reference mode its score. `none`: nothing was decided (modes `none` and `score`)."""


class Decided(Frozen):
    """The verdict on one candidate. None: not computable (p of a candidate without reference, q outside the family).

    In conformal mode p is family-wise: it holds for all candidates of the case at once, so there is no q.

    `failed_gate` names the gate where `cause` is `gate` or `case`. `n_sampled` is m, the voxels that the test drew from
    the candidate.
    """

    score: float | None
    mmd2: float | None
    p: float | None
    q: float | None
    gates: tuple[GateResult, ...]
    survived: bool
    cause: Cause
    failed_gate: str | None = None
    n_sampled: int


class Rejection(Frozen):
    """What decided against a candidate, and the gate where it was one."""

    cause: Cause
    failed_gate: str | None = None


@dataclass(frozen=True)
class TwoSample:
    """MMD² (rounded to `MMD2_DECIMALS`) and permutation p of each candidate; None where a sample has under two voxels.

    The p-values mean something in paper mode alone: elsewhere the statistic is computed with a single permutation.
    """

    mmd2: tuple[float | None, ...]
    permutation_p: tuple[float | None, ...]
    n_sampled: tuple[int, ...]


def judge(evidence: Evidence, *, device: str = "cpu") -> tuple[Decided, ...]:
    """Verdicts on the candidates of one round, in their order; none depends on that order.

    A pure function: equal evidence gives equal verdicts to the last bit. Raises `InputError` for an unknown device.
    """
    if not evidence.xs:
        return ()
    if evidence.settings.mode in ("none", "reference"):
        return _untested(evidence)
    return verdicts(
        two_sample(evidence, device=device),
        evidence.features,
        evidence.gates,
        evidence.case_gates,
        settings=evidence.settings,
        calibration=evidence.calibration,
        round_index=evidence.round_index,
    )


def two_sample(evidence: Evidence, *, device: str = "cpu") -> TwoSample:
    """The two-sample test of every candidate against the reference. Raises `InputError` for an unknown device."""
    from r2seg_agent.reject.mmd import mmd_permutation_test

    # Conformal mode reads the statistic alone: one permutation is the least that the batched test takes.
    settings = evidence.settings
    permutations = settings.permutations if settings.mode == "paper" else 1
    try:
        tests = mmd_permutation_test(
            list(evidence.xs), evidence.y, permutations=permutations, seed=evidence.seed, device=device
        )
    except ValueError as error:
        raise InputError(str(error), "Choose another `--device`, or an image without NaN.") from error
    defined = [None if t.method == "undefined" else t for t in tests]
    return TwoSample(
        mmd2=tuple(t and round(t.mmd2, MMD2_DECIMALS) for t in defined),
        permutation_p=tuple(t and t.p for t in defined),
        n_sampled=tuple(len(x) for x in evidence.xs),
    )


def verdicts(
    tests: TwoSample,
    features: Sequence[CandidateFeatures],
    gates: Sequence[tuple[GateResult, ...]],
    case_gates: Sequence[GateResult],
    *,
    settings: RejectSettings,
    calibration: Calibration | None = None,
    round_index: int = 1,
) -> tuple[Decided, ...]:
    """Verdicts from the values of the test: what `judge` does after it, for every mode but `none`.

    `features`, `gates` and the fields of `tests` have one entry a candidate. `calibration` is that of conformal mode.
    """
    if settings.mode == "paper":
        scores, p_values = list(tests.mmd2), list(tests.permutation_p)
        closed = next((g for g in case_gates if not g.passed), None)
    else:
        function, need = score_named(settings.score), settings.score in USES_MMD2
        scores = [
            None if need and m is None else function(f, 0.0 if m is None else m)
            for f, m in zip(features, tests.mmd2, strict=True)
        ]
        p_values = [
            None
            if s is None or calibration is None
            else case_maximum_p(calibration, s, round_index, rounds=settings.rounds)
            for s in scores
        ]
        closed = None
    q_values = _family_q(p_values, gates) if settings.mode == "paper" else [None] * len(p_values)
    decisive, level = q_values if settings.mode == "paper" else p_values, threshold_of(settings, calibration)
    decided = []
    for k, own in enumerate(gates):
        survived, cause, failed_gate = _verdict(decisive[k], level, own, closed, settings.mode)
        decided.append(
            Decided(
                score=scores[k],
                mmd2=tests.mmd2[k],
                p=p_values[k],
                q=q_values[k],
                gates=own,
                survived=survived,
                cause=cause,
                failed_gate=failed_gate,
                n_sampled=tests.n_sampled[k],
            )
        )
    return tuple(decided)


def _untested(evidence: Evidence) -> tuple[Decided, ...]:
    """Verdicts where nothing is tested; a gate may still reject.

    Mode `none` keeps every candidate, ordered by what the model itself says: its mass on the candidate. Mode
    `reference` keeps what scores at least the cut.
    """
    ranked, cut = evidence.settings.mode == "reference", evidence.settings.cut
    if ranked and cut is None:
        raise ValueError("reference mode needs a cut")
    mass = score_named("segmenter_mass")
    decided = []
    for features, gates in zip(evidence.features, evidence.gates, strict=True):
        failed = next((g for g in gates if not g.passed), None)
        score = features.region_score if ranked else mass(features, 0.0)
        reached = cut is None or (score is not None and score >= cut)
        decided.append(
            Decided(
                score=score,
                mmd2=None,
                p=None,
                q=None,
                gates=gates,
                survived=failed is None and reached,
                cause="gate" if failed is not None else "score" if ranked else "none",
                failed_gate=None if failed is None else failed.name,
                n_sampled=0,
            )
        )
    return tuple(decided)


def _family_q(values: Sequence[float | None], gates: Sequence[tuple[GateResult, ...]]) -> list[float | None]:
    """q (Benjamini-Hochberg) over the candidates that pass their gates and have a p-value; None for the others."""
    family = [k for k, value in enumerate(values) if value is not None and all(g.passed for g in gates[k])]
    q: list[float | None] = [None] * len(values)
    p: NDArray[np.float64] = np.asarray([values[k] for k in family], dtype=np.float64)
    for k, value in zip(family, benjamini_hochberg(p).tolist(), strict=True):
        q[k] = value
    return q


def _verdict(
    value: float | None,
    level: float,
    gates: tuple[GateResult, ...],
    closed: GateResult | None,
    mode: Mode,
) -> tuple[bool, Cause, str | None]:
    failed = next((g for g in gates if not g.passed), None)
    if failed is not None:
        return False, "gate", failed.name
    if mode == "score":
        return False, "none", None
    if closed is not None:
        return False, "case", closed.name
    if value is None:
        return False, "too_few_voxels", None
    return within(value, level), "test", None
