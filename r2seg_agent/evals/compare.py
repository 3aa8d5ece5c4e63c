"""Two folders of runs on the same cases: differences with intervals by patient, permutation tests, McNemar.

Differences are bootstrapped over patients with the same draws for both sides. The permutation test swaps the two
answers of whole patients (exactly, over all 2^patients swaps, where these are few); its p-value asks whether the two
differ at all. It is left out where a figure compares scores between cases: two methods need not share a scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.evals.bootstrap import (
    CHUNK,
    Statistic,
    interval,
    patient_numbers,
    resample,
)
from r2seg_agent.evals.definitions import blocks_of
from r2seg_agent.evals.detection import CRITERIA, detected, free_scan
from r2seg_agent.evals.models import (
    CaseEvaluation,
    Comparison,
    Difference,
    Discordance,
    Evaluation,
)
from r2seg_agent.version import __version__

ALL_SWAPS = 2**13
"""Up to so many swaps all are tried, drawn ones are not needed."""
TOLERANCE = 1e-12
"""Differences closer than this are ties of the permutation test."""


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """`second` minus `first` on the cases that both evaluated with the same truth.

    Cases are the same by scan (its hash) and request. Raises `InputError` where the settings or a truth differ, or no
    case is in both.
    """
    ours, theirs = (side.settings.model_dump(exclude={"rank"}) for side in (first, second))
    if ours != theirs:
        names = ", ".join(name for name in ours if ours[name] != theirs[name])
        raise InputError(f"the two evaluations were made with different settings: {names}", "Use the same for both.")
    pairs = paired_cases(first, second)
    if not pairs:
        raise InputError(
            f"`{first.name}` and `{second.name}` have no evaluated case in common",
            "Both must have run the same scans with the same requests, with an answer and a truth.",
        )
    settings, n = first.settings, len(pairs)
    index, patients = patient_numbers([a.patient for a, _ in pairs])
    before = blocks_of([a for a, _ in pairs], settings, first.rank)
    after = blocks_of([b for _, b in pairs], settings, second.rank)
    pooled = blocks_of([*(a for a, _ in pairs), *(b for _, b in pairs)], settings, first.rank)
    gaps = [_gap(a.statistic, b.statistic) for a, b in zip(before, after, strict=True)]
    drawn = resample(gaps, index, patients, resamples=settings.resamples, seed=settings.seed)
    tested = _permutation_p([block.statistic for block in pooled], index, patients, settings.resamples, settings.seed)
    differences = []
    for a, b, values, p in zip(before, after, drawn, tested, strict=True):
        once = np.ones((1, n))
        of_first, of_second = a.statistic(once)[0], b.statistic(once)[0]
        for k, head in enumerate(a.heads):
            estimate = interval(
                float(values.value[k]), values.resampled[:, k], values.left_out[:, k], confidence=settings.confidence
            )
            differences.append(
                Difference(
                    key=head.key,
                    level=head.level,
                    name=head.name,
                    unit=head.unit,
                    better=head.better,
                    first=_finite(of_first[k]),
                    second=_finite(of_second[k]),
                    difference=estimate.value,
                    low=estimate.low,
                    high=estimate.high,
                    p=None if head.ranked else _finite(p[k]),
                    patients=int(np.unique(index[a.used[:, k] | b.used[:, k]]).size),
                )
            )
    evaluated = [sum(case.evaluated for case in side.cases) for side in (first, second)]
    return Comparison(
        r2seg_version=__version__,
        first=first.name,
        second=second.name,
        paired=n,
        patients=patients,
        only_first=evaluated[0] - n,
        only_second=evaluated[1] - n,
        resamples=settings.resamples,
        seed=settings.seed,
        differences=tuple(differences),
        discordances=tuple(_discordances(pairs)),
    )


def paired_cases(first: Evaluation, second: Evaluation) -> list[tuple[CaseEvaluation, CaseEvaluation]]:
    """The cases that both evaluated, in the order of the first; `InputError` where their truths differ."""
    known = {(case.image_sha256, case.request_id): case for case in second.cases if case.evaluated}
    pairs = []
    for case in first.cases:
        other = known.get((case.image_sha256, case.request_id)) if case.evaluated else None
        if other is None:
            continue
        if [m.volume_ml for m in case.lesions] != [m.volume_ml for m in other.lesions]:
            raise InputError(
                f"case {case.number} of `{first.name}` and case {other.number} of `{second.name}` are the same scan "
                "with different truths",
                "Evaluate both folders against one --truth.",
            )
        pairs.append((case, other))
    return pairs


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of n discordant pairs: 2 · P(X ≤ min) for X ~ Binomial(n, ½), at most 1."""
    n, least = only_first + only_second, min(only_first, only_second)
    return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n))


def _gap(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: second(weights) - first(weights)


def _permutation_p(
    statistics: Sequence[Statistic], index: NDArray[np.intp], patients: int, rounds: int, seed: int
) -> list[NDArray[np.float64]]:
    """Two-sided p of each figure; `statistics` take the weights of the first answers, then of the second ones.

    (1 + swaps at least as far from 0) / (1 + swaps) for drawn swaps, the plain share for all of them; a figure that is
    undefined on the data has p NaN.
    """
    swaps = np.concatenate([np.zeros((1, patients)), *_swaps(patients, rounds, seed)])
    exact = len(swaps) - 1 == 2**patients
    as_far = [np.zeros(1)] * len(statistics)
    observed: list[NDArray[np.float64]] = []
    for start in range(0, len(swaps), CHUNK):
        swapped = swaps[start : start + CHUNK][:, index]
        first, second = np.hstack([1 - swapped, swapped]), np.hstack([swapped, 1 - swapped])
        for k, statistic in enumerate(statistics):
            gap = np.abs(statistic(second) - statistic(first))
            if start == 0:
                observed.append(gap[0])
                gap = gap[1:]
            as_far[k] = as_far[k] + (gap >= observed[k] - TOLERANCE).sum(axis=0)
    drawn = len(swaps) - 1
    return [
        np.where(np.isfinite(seen), count / drawn if exact else (1 + count) / (1 + drawn), np.nan)
        for seen, count in zip(observed, as_far, strict=True)
    ]


def _swaps(patients: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Rows that say whose answers are swapped: all of them where there are at most `rounds`, else drawn ones."""
    if 2 ** min(patients, 30) <= max(rounds, ALL_SWAPS):
        yield (np.arange(2**patients)[:, None] >> np.arange(patients) & 1).astype(np.float64)
        return
    yield np.random.default_rng([seed, 1]).integers(0, 2, size=(rounds, patients)).astype(np.float64)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _discordances(pairs: Sequence[tuple[CaseEvaluation, CaseEvaluation]]) -> Iterator[Discordance]:
    for criterion, name in CRITERIA:
        right = []
        for a, b in pairs:
            seen = {m.label: detected(m, criterion) for m in b.lesions}
            right += [(detected(m, criterion), seen.get(m.label, False)) for m in a.lesions]
        yield _discordance(f"lesions found, {name}", right)
    bearing = [(bool(a.findings), bool(b.findings)) for a, b in pairs if a.bearing]
    yield _discordance("lesion-bearing scans with any finding", bearing)
    free = [(not a.findings, not b.findings) for a, b in pairs if free_scan(a)]
    yield _discordance("lesion-free scans without a finding", free)


def _discordance(name: str, right: Sequence[tuple[bool, bool]]) -> Discordance:
    only_first = sum(a and not b for a, b in right)
    only_second = sum(b and not a for a, b in right)
    return Discordance(
        name=name,
        both=sum(a and b for a, b in right),
        only_first=only_first,
        only_second=only_second,
        neither=sum(not a and not b for a, b in right),
        p=mcnemar(only_first, only_second),
    )
