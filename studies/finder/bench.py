"""Recall of the proposals and what the score over them hits, patients apart, as Markdown tables.

Operating points are chosen on the scores that they are counted on, so they are what a threshold could reach, not a
promise. A finding hits at an intersection over union of at least 0.1 with a lesion or with all of them; it is false
where it shares no voxel with any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.segment.regions.select import chosen
from studies.finder.search import Searched

HIT_IOU = 0.1
FALSE_A_CASE = (0.5, 1.0, 3.0)
RESAMPLES = 2000


@dataclass(frozen=True)
class Findings:
    """The findings of a case, best first: score, hit, false, Dice with the lesion that fits best."""

    patient: str
    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    false: tuple[bool, ...]
    dice: tuple[float, ...]
    ill: bool

    def at(self, cut: float) -> int:
        """How many score at least `cut`."""
        return sum(score >= cut for score in self.scores)


def findings_of(searched: Searched, scores: NDArray[np.float64]) -> Findings:
    """The regions that a run would keep."""
    kept = chosen(searched.described, scores)
    return Findings(
        patient=searched.patient,
        scores=tuple(float(scores[k]) for k in kept),
        hits=tuple(bool(searched.iou[k] >= HIT_IOU) for k in kept),
        false=tuple(not bool(searched.touches[k]) for k in kept),
        dice=tuple(float(2 * searched.iou[k] / (1 + searched.iou[k])) for k in kept),
        ill=searched.lesions > 0,
    )


def cut_at(findings: Sequence[Findings], most_false: float) -> float:
    """The lowest score at which a case has at most `most_false` false findings on average; ∞ where none has."""
    cut = float("inf")
    for score in sorted({score for row in findings for score in row.scores}, reverse=True):
        if np.mean([sum(row.false[: row.at(score)]) for row in findings]) > most_false:
            break
        cut = score
    return cut


def interval(findings: Sequence[Findings], measure: Callable[[Sequence[Findings]], float]) -> tuple[float, float]:
    """95 % bootstrap interval with patients as clusters."""
    of_patient: dict[str, list[Findings]] = {}
    for row in findings:
        of_patient.setdefault(row.patient, []).append(row)
    groups = list(of_patient.values())
    rng = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        drawn = [row for k in rng.integers(len(groups), size=len(groups)) for row in groups[k]]
        values.append(measure(drawn))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def report(cases: Sequence[Searched], scores: Sequence[NDArray[np.float64]]) -> str:
    """The tables for `cases` with the score of every region of each."""
    findings = [findings_of(case, own) for case, own in zip(cases, scores, strict=True)]
    ill = [row for row in findings if row.ill]
    lesions = [iou for case in cases for iou in case.lesion_iou]
    n_regions = sum(len(case.iou) for case in cases)
    patients = len({case.patient for case in cases})
    lines = [
        f"{len(cases)} images of {patients} patients, {len(ill)} with a lesion, {len(lesions)} lesions, "
        f"{n_regions} regions",
        "",
        "| regions | IoU ≥ 0.1 | IoU ≥ 0.3 | IoU ≥ 0.5 |",
        "|---|---|---|---|",
    ]
    whole = [float(case.iou.max(initial=0.0)) for case in cases if case.lesions]
    for name, values in (("lesions, each", lesions), ("images, best", whole)):
        lines.append(f"| {name} | {' | '.join(f'{np.mean(np.asarray(values) >= t):.2f}' for t in (0.1, 0.3, 0.5))} |")
    lines += ["", "| findings | hit | best Dice | false an image | lesion-free left alone |", "|---|---|---|---|---|"]
    for name, best in (("the first", 1), ("one of three", 3)):
        lines.append(f"| {name} | {_with_interval(ill, partial(_share_hit, most=best))} | | | |")
    for most in FALSE_A_CASE:
        cut = cut_at(findings, most)
        hit = _with_interval(ill, partial(_share_hit_at, cut=cut))
        dice = np.mean([max(row.dice[: row.at(cut)], default=0.0) for row in ill])
        false = np.mean([sum(row.false[: row.at(cut)]) for row in findings])
        alone = [row.at(cut) == 0 for row in findings if not row.ill]
        left = f"{sum(alone)} of {len(alone)}"
        lines.append(f"| at most {most:g} false an image | {hit} | {dice:.2f} | {false:.2f} | {left} |")
    lines += ["", "| request | images | region at IoU ≥ 0.3 | first right | one of three |", "|---|---|---|---|---|"]
    for request in sorted({case.request for case in cases if case.lesions}):
        own = [(c, f) for c, f in zip(cases, findings, strict=True) if c.request == request and c.lesions]
        counts = (
            len(own),
            sum(c.iou.max(initial=0.0) >= 0.3 for c, _ in own),
            sum(any(f.hits[:1]) for _, f in own),
            sum(any(f.hits[:3]) for _, f in own),
        )
        lines.append(f"| {request} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _share_hit(rows: Sequence[Findings], most: int) -> float:
    return float(np.mean([any(row.hits[:most]) for row in rows]))


def _share_hit_at(rows: Sequence[Findings], cut: float) -> float:
    return float(np.mean([any(row.hits[: row.at(cut)]) for row in rows]))


def _with_interval(rows: Sequence[Findings], measure: Callable[[Sequence[Findings]], float]) -> str:
    if not rows:
        return "–"
    low, high = interval(rows, measure)
    return f"{measure(rows):.2f} ({low:.2f}–{high:.2f})"
