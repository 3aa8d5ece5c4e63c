"""Recall of the proposals, and what a learned score over them hits, patients apart, as Markdown tables.

Operating points are chosen on the scores that they are counted on, so they are what a threshold could reach, not a
promise. A finding hits at an intersection over union of at least 0.1 with a lesion or with all of them; it is false
where it shares no voxel with any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.finder.cases import Case, Mask
from studies.finder.features import Described, describe, overlap
from studies.finder.proposals import propose
from studies.finder.score import cross_validated

HIT_IOU = 0.1
MOST_FINDINGS = 8
SAME_FINDING = 0.4
"""A candidate that shares this much of the smaller of the two with a better one is no finding of its own."""
FALSE_A_CASE = (0.5, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class Searched:
    """A case with its described candidates. `iou` (n,): with the lesion that fits best; `lesion_iou`: for each lesion
    the best candidate's; `touches` (n,): any voxel of a lesion is in it."""

    request: str
    patient: str
    lesions: int
    described: Described
    iou: NDArray[np.float64]
    lesion_iou: tuple[float, ...]
    touches: NDArray[np.bool_]


@dataclass(frozen=True)
class Findings:
    """The findings of a case, best first: score, hit, false."""

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    false: tuple[bool, ...]
    ill: bool


def search(case: Case) -> Searched:
    """Propose, describe and compare with the truth."""
    described = describe(case, propose(case))
    wholes = (*case.lesions, case.truth) if case.lesions else ()
    table = np.zeros((len(described.masks), max(1, len(wholes))))
    for k, whole in enumerate(wholes):
        table[:, k] = [_iou(box, mask, whole) for box, mask in zip(described.boxes, described.masks, strict=True)]
    return Searched(
        request=case.request,
        patient=case.patient,
        lesions=len(case.lesions),
        described=described,
        iou=table.max(axis=1),
        lesion_iou=tuple(table[:, k].max(initial=0.0) for k in range(len(case.lesions))),
        touches=np.asarray(
            [bool(case.truth[box][mask].any()) for box, mask in zip(described.boxes, described.masks, strict=True)],
            dtype=bool,
        ),
    )


def _iou(box: tuple[slice, ...], mask: Mask, lesion: Mask) -> float:
    shared = int(np.count_nonzero(mask & lesion[box]))
    return shared / (int(np.count_nonzero(mask)) + int(np.count_nonzero(lesion)) - shared)


def findings_of(searched: Searched, scores: NDArray[np.float64]) -> Findings:
    """The best candidates that do not lie on each other."""
    described, chosen = searched.described, list[int]()
    sizes = [int(np.count_nonzero(mask)) for mask in described.masks]
    for k in np.argsort(-scores).tolist():
        shares = (
            overlap(described.boxes[k], described.masks[k], described.boxes[j], described.masks[j])
            / min(sizes[k], sizes[j])
            for j in chosen
        )
        if all(share < SAME_FINDING for share in shares):
            chosen.append(k)
        if len(chosen) == MOST_FINDINGS:
            break
    return Findings(
        scores=tuple(float(scores[k]) for k in chosen),
        hits=tuple(bool(searched.iou[k] >= HIT_IOU) for k in chosen),
        false=tuple(not bool(searched.touches[k]) for k in chosen),
        ill=searched.lesions > 0,
    )


def operating_point(findings: Sequence[Findings], most_false: float) -> tuple[float, float, float]:
    """(share of cases with a lesion that are hit, false findings a case, share of lesion-free cases left alone) at the
    lowest threshold with at most `most_false` false findings a case."""
    best = (0.0, 0.0, 1.0)
    for threshold in sorted({score for row in findings for score in row.scores}, reverse=True):
        kept = [[score >= threshold for score in row.scores] for row in findings]
        false = [
            sum(k and f for k, f in zip(own, row.false, strict=True)) for own, row in zip(kept, findings, strict=True)
        ]
        if np.mean(false) > most_false:
            break
        hit = [
            any(k and h for k, h in zip(own, row.hits, strict=True))
            for own, row in zip(kept, findings, strict=True)
            if row.ill
        ]
        alone = [not any(own) for own, row in zip(kept, findings, strict=True) if not row.ill]
        best = (float(np.mean(hit)), float(np.mean(false)), float(np.mean(alone)) if alone else 1.0)
    return best


def report(cases: Sequence[Searched]) -> str:
    """The tables."""
    case_of = np.concatenate([np.full(len(case.iou), k, dtype=np.intp) for k, case in enumerate(cases)])
    features = np.concatenate([case.described.values for case in cases])
    scores = cross_validated(
        features, np.concatenate([case.iou for case in cases]), case_of, [case.patient for case in cases]
    )
    findings = [findings_of(case, scores[case_of == k]) for k, case in enumerate(cases)]
    ill = [row for row in findings if row.ill]
    lesions = [iou for case in cases for iou in case.lesion_iou]
    lines = [f"{len(cases)} cases, {len(ill)} with a lesion, {len(lesions)} lesions, {len(scores)} candidates", ""]
    lines += ["| candidates | IoU ≥ 0.1 | IoU ≥ 0.3 | IoU ≥ 0.5 |", "|---|---|---|---|"]
    whole = [float(case.iou.max(initial=0.0)) for case in cases if case.lesions]
    for name, values in (("lesions, each", lesions), ("cases, best", whole)):
        lines.append(f"| {name} | {' | '.join(f'{np.mean(np.asarray(values) >= t):.2f}' for t in (0.1, 0.3, 0.5))} |")
    lines += ["", "| findings | hit | false a case | lesion-free left alone |", "|---|---|---|---|"]
    lines.append(f"| the first | {np.mean([any(row.hits[:1]) for row in ill]):.2f} | | |")
    lines.append(f"| one of three | {np.mean([any(row.hits[:3]) for row in ill]):.2f} | | |")
    for most in FALSE_A_CASE:
        hit, false, alone = operating_point(findings, most)
        lines.append(f"| at most {most:g} false a case | {hit:.2f} | {false:.2f} | {alone:.2f} |")
    lines += ["", "| request | cases | candidate at IoU ≥ 0.3 | first right | one of three |", "|---|---|---|---|---|"]
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
