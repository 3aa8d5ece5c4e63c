"""Figures of detection: lesions and findings by both criteria and by size, then whole scans."""

from __future__ import annotations

from collections.abc import Iterator

from r2seg_agent.evals.figures import Head, PerCase, Ratio
from r2seg_agent.evals.lesions import size_classes
from r2seg_agent.evals.models import CaseEvaluation, Criterion, EvaluationSettings, LesionMatch, SizeClass

CRITERIA: tuple[tuple[Criterion, str], ...] = (("iou", "IoU"), ("overlap", "any overlap"))


def detected(lesion: LesionMatch, criterion: Criterion) -> bool:
    """A finding counts as this lesion."""
    return lesion.overlapped if criterion == "overlap" else lesion.finding is not None


def free_scan(case: CaseEvaluation) -> bool:
    """Evaluated and without a lesion."""
    return case.evaluated and not case.bearing


def lesions(settings: EvaluationSettings) -> Iterator[Ratio]:
    """Lesions and findings by both criteria, then by size class."""
    for criterion, name in CRITERIA:
        yield from _detection(criterion, name if criterion == "overlap" else f"IoU ≥ {settings.iou:g}")
    yield Ratio(
        Head("lesion.dice", "lesion", "Dice per lesion, missed = 0", "lesions"),
        lambda c: sum(m.dice for m in c.lesions),
        lambda c: len(c.lesions),
    )
    yield Ratio(
        Head("lesion.dice.found", "lesion", "Dice per lesion that a finding overlaps", "lesions"),
        lambda c: sum(m.dice for m in c.lesions),
        lambda c: sum(m.overlapped for m in c.lesions),
    )
    for number, size in enumerate(size_classes(settings.size_bounds_ml)):
        for criterion, name in CRITERIA:
            yield Ratio(
                Head(
                    f"lesion.{criterion}.sensitivity.size{number}",
                    "lesion",
                    f"sensitivity by {name}, {size}",
                    "lesions",
                    share=True,
                ),
                _number(size, criterion),
                _number(size),
            )
        yield Ratio(
            Head(f"lesion.dice.size{number}", "lesion", f"Dice per lesion, {size}", "lesions"),
            _dice_of(size),
            _number(size),
        )


def _detection(criterion: Criterion, name: str) -> Iterator[Ratio]:
    def hits(case: CaseEvaluation) -> int:
        return sum(detected(m, criterion) for m in case.lesions)

    def true(case: CaseEvaluation) -> int:
        return sum(f.touches if criterion == "overlap" else f.lesion is not None for f in case.findings)

    def false(case: CaseEvaluation) -> int:
        return len(case.findings) - true(case) if case.evaluated else 0

    def findings(case: CaseEvaluation) -> int:
        return len(case.findings) if case.evaluated else 0

    key = f"lesion.{criterion}"
    yield Ratio(
        Head(f"{key}.sensitivity", "lesion", f"sensitivity, {name}", "lesions", share=True),
        hits,
        lambda c: len(c.lesions),
    )
    yield Ratio(
        Head(
            f"{key}.sensitivity.with_unanswered",
            "lesion",
            f"the same, lesions of unanswered cases as missed, {name}",
            "lesions",
            share=True,
        ),
        hits,
        lambda c: len(c.lesions) + len(c.unanswered_lesions or ()),
    )
    yield Ratio(
        Head(f"{key}.precision", "lesion", f"precision, {name}", "findings", share=True),
        lambda c: findings(c) - false(c),
        findings,
    )
    # With overlap a lesion may have two true findings: precision and sensitivity then count different things.
    yield Ratio(
        Head(f"{key}.f1", "lesion", f"F1, {name}", "lesions and findings"),
        lambda c: hits(c) + true(c) if c.evaluated else 0,
        lambda c: len(c.lesions) + findings(c),
    )
    for scan, words, wanted in (
        ("", "", None),
        (".bearing_scans", "lesion-bearing ", True),
        (".free_scans", "lesion-free ", False),
    ):
        yield Ratio(
            Head(
                f"{key}.fp_per_scan{scan}",
                "lesion",
                f"false positives per {words}scan, {name}",
                "scans",
                better="lower",
            ),
            _where(_of_kind(wanted), false),
            _of_kind(wanted),
        )


def scans() -> Iterator[Ratio]:
    """Whole scans: is there anything?"""

    def bearing_scan(case: CaseEvaluation) -> bool:
        return case.evaluated and case.bearing

    yield Ratio(
        Head("scan.sensitivity", "scan", "lesion-bearing scans with any finding", "scans", share=True),
        lambda c: bearing_scan(c) and bool(c.findings),
        bearing_scan,
    )
    yield Ratio(
        Head("scan.sensitivity.hit", "scan", "lesion-bearing scans with a finding on a lesion", "scans", share=True),
        lambda c: bearing_scan(c) and any(f.touches for f in c.findings),
        bearing_scan,
    )
    yield Ratio(
        Head(
            "scan.sensitivity.with_unanswered",
            "scan",
            "lesion-bearing scans with any finding, unanswered as missed",
            "scans",
            share=True,
        ),
        lambda c: bearing_scan(c) and bool(c.findings),
        lambda c: c.bearing,
    )
    yield Ratio(
        Head("scan.specificity", "scan", "lesion-free scans without a finding", "scans", share=True),
        lambda c: free_scan(c) and not c.findings,
        free_scan,
    )
    yield Ratio(
        Head("scan.false_alarm", "scan", "lesion-free scans with a finding", "scans", better="lower", share=True),
        lambda c: free_scan(c) and bool(c.findings),
        free_scan,
    )
    yield Ratio(
        Head(
            "scan.fdr.pooled", "scan", "findings on no lesion, of all findings", "findings", better="lower", share=True
        ),
        lambda c: sum(not f.touches for f in c.findings) if c.evaluated else 0,
        lambda c: len(c.findings) if c.evaluated else 0,
    )
    yield Ratio(
        Head(
            "scan.fdr.mean",
            "scan",
            "realised FDR: mean share of false findings per scan, no finding = 0",
            "scans",
            better="lower",
            share=True,
        ),
        lambda c: sum(not f.touches for f in c.findings) / len(c.findings) if c.evaluated and c.findings else 0.0,
        lambda c: c.evaluated,
    )


def _number(size: SizeClass, criterion: Criterion | None = None) -> PerCase:
    """How many lesions of a class a case has, or how many of them were detected."""
    return lambda case: sum(m.size == size and (criterion is None or detected(m, criterion)) for m in case.lesions)


def _dice_of(size: SizeClass) -> PerCase:
    return lambda case: sum(m.dice for m in case.lesions if m.size == size)


def _of_kind(bearing: bool | None) -> PerCase:
    """1 for an evaluated scan of this kind (None: either)."""
    return lambda case: case.evaluated and (bearing is None or case.bearing == bearing)


def _where(kind: PerCase, value: PerCase) -> PerCase:
    return lambda case: value(case) if kind(case) else 0.0
