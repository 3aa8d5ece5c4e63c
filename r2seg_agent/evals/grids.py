"""Figures that read best in two directions: FROC by rate, detection by criterion and by size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from r2seg_agent.evals.lesions import size_classes
from r2seg_agent.evals.models import FROC_RATES, PAPER_FROC_RATE, Evaluation, Figure

CRITERIA_KEYS = ("iou", "overlap")
RATE_WORDS = ("1/8", "1/4", "1/2", "1", "2", "4", "8", "10 (paper)")


def froc_grid(evaluation: Evaluation) -> Iterator[str]:
    """Sensitivity at each number of false positives per scan, a column per criterion."""
    n = evaluation.figure("froc.iou.cpm").n
    yield f"| false positives per scan | {_criterion(evaluation, 'iou')} | any overlap |"
    yield "|---|---|---|"
    rates = (*FROC_RATES, PAPER_FROC_RATE)
    for words, rate in zip(RATE_WORDS, rates, strict=True):
        yield f"| {words} | {_cells(evaluation, [f'froc.{c}.at_{rate:g}' for c in CRITERIA_KEYS])} |"
    yield f"| mean at 1/8 … 8 (CPM) | {_cells(evaluation, [f'froc.{c}.cpm' for c in CRITERIA_KEYS])} |"
    yield f"| any: all candidates | {_cells(evaluation, [f'froc.{c}.ceiling' for c in CRITERIA_KEYS])} |"
    alone = evaluation.figure("froc.free.at_1")
    if alone.value is not None:
        yield f"| 1 per lesion-free scan | {cell(alone)} | |"
    yield ""
    yield f"{n} lesions."


def detection_grid(evaluation: Evaluation) -> Iterator[str]:
    """Sensitivity, precision and false positives, a column per criterion."""
    yield f"| | {_criterion(evaluation, 'iou')} | any overlap | n |"
    yield "|---|---|---|---|"
    for name, key in (
        ("sensitivity", "sensitivity"),
        ("the same, lesions of unanswered cases as missed", "sensitivity.with_unanswered"),
        ("precision", "precision"),
        ("F1", "f1"),
        ("false positives per scan", "fp_per_scan"),
        ("… per lesion-bearing scan", "fp_per_scan.bearing_scans"),
        ("… per lesion-free scan", "fp_per_scan.free_scans"),
    ):
        keys = [f"lesion.{criterion}.{key}" for criterion in CRITERIA_KEYS]
        first = evaluation.figure(keys[0])
        if first.n:
            yield f"| {name} | {_cells(evaluation, keys)} | {first.n} {first.of}, {first.patients} patients |"
    for name, key in (("Dice per lesion, missed = 0", "lesion.dice"), ("Dice where overlapped", "lesion.dice.found")):
        figure = evaluation.figure(key)
        if figure.n:
            yield f"| {name} | | {cell(figure)} | {figure.n} {figure.of}, {figure.patients} patients |"


def size_grid(evaluation: Evaluation) -> Iterator[str]:
    """Sensitivity and Dice by size class; classes without a lesion are left out."""
    yield f"| true volume | found, {_criterion(evaluation, 'iou')} | found, any overlap | Dice, missed = 0 | n |"
    yield "|---|---|---|---|---|"
    for number, size in enumerate(size_classes(evaluation.settings.size_bounds_ml)):
        keys = [*(f"lesion.{c}.sensitivity.size{number}" for c in CRITERIA_KEYS), f"lesion.dice.size{number}"]
        figure = evaluation.figure(keys[0])
        if figure.n:
            yield f"| {size} | {_cells(evaluation, keys)} | {figure.n} lesions, {figure.patients} patients |"


def digits(value: float) -> str:
    """A number in as many digits as it deserves, with a real minus."""
    size = abs(value)
    text = (
        f"{value:.3f}"
        if size < 1
        else f"{value:.2f}"
        if size < 10
        else f"{value:.1f}"
        if size < 100
        else f"{value:.0f}"
    )
    return text.replace("-", "−")


def value_words(value: float | None, unit: str = "") -> str:
    """A figure with its unit, – where it is undefined."""
    return "–" if value is None else f"{digits(value)} {unit}".strip()


def bracket(low: float | None, high: float | None) -> str:
    """An interval, – where there is none."""
    return "–" if low is None or high is None else f"[{digits(low)}, {digits(high)}]"


def cell(figure: Figure) -> str:
    """Value and interval in one cell."""
    if figure.value is None:
        return "–"
    exact = " exact" if figure.interval == "exact" else ""
    return f"{value_words(figure.value, figure.unit)} {bracket(figure.low, figure.high)}{exact}"


def _cells(evaluation: Evaluation, keys: Sequence[str]) -> str:
    return " | ".join(cell(evaluation.figure(key)) for key in keys)


def _criterion(evaluation: Evaluation, name: str) -> str:
    return f"IoU ≥ {evaluation.settings.iou:g}" if name == "iou" else "any overlap"
