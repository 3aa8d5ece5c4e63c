"""The figures by level, in the order of the tables: paper, voxel, slice, lesion, FROC, scan, surface, volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from r2seg_agent.evals.detection import free_scan, lesions, scans
from r2seg_agent.evals.figures import (
    Block,
    Head,
    PerCase,
    Ratio,
    agreement_block,
    balanced_block,
    median_block,
    ratio_block,
    slices_of,
    voxels_of,
)
from r2seg_agent.evals.models import CaseEvaluation, EvaluationSettings, Rank
from r2seg_agent.evals.ranking import ranking_block


def blocks_of(cases: Sequence[CaseEvaluation], settings: EvaluationSettings, rank: Rank) -> tuple[Block, ...]:
    """All figures over the cases; those that were not evaluated add to nothing but the lines for unanswered cases."""
    blocks = [
        ratio_block(cases, [*paper(), *voxel(), *slices()]),
        balanced_block(cases),
        ratio_block(cases, [*lesions(settings), *scans()]),
        ranking_block(cases, rank),
        ratio_block(cases, [*surfaces(settings), *volumes()]),
        agreement_block(cases),
    ]
    for key, name in (("hd95_mm", "HD95"), ("assd_mm", "ASSD")):
        head = Head(f"surface.{key}.median", "surface", f"{name}, median", "scans with both", "mm", "lower")
        blocks.append(median_block(cases, head, _distance(key)))
    return tuple(blocks)


def paper() -> Iterator[Ratio]:
    """The R²-Seg paper's own figures, traps included (docs/guide/evaluation.md says which)."""

    def all_slices(case: CaseEvaluation) -> float:
        return slices_of(case).bearing + slices_of(case).free

    yield Ratio(
        Head("paper.dice", "paper", "Dice per slice, empty on empty = 1", "slices"),
        lambda c: slices_of(c).bearing_dice + slices_of(c).free - slices_of(c).free_marked,
        all_slices,
    )
    yield Ratio(
        Head("paper.sensitivity", "paper", "sensitivity: bearing slices with any mark", "slices", share=True),
        lambda c: slices_of(c).bearing_marked,
        lambda c: slices_of(c).bearing,
    )
    yield Ratio(
        Head("paper.specificity", "paper", "specificity: free slices without a mark", "slices", share=True),
        lambda c: slices_of(c).free - slices_of(c).free_marked,
        lambda c: slices_of(c).free,
    )
    yield Ratio(
        Head("paper.accuracy", "paper", "accuracy of pixels per slice", "slices"),
        lambda c: slices_of(c).bearing_accuracy + slices_of(c).free_accuracy,
        all_slices,
    )
    yield Ratio(
        Head("paper.class_accuracy", "paper", "class accuracy CA per slice (a free slice has at most 0.5)", "slices"),
        lambda c: slices_of(c).bearing_class_accuracy + slices_of(c).free_class_accuracy,
        all_slices,
    )


def voxel() -> Iterator[Ratio]:
    """Voxels of all findings of a scan together."""

    def bearing(case: CaseEvaluation) -> float:
        return case.voxels is not None and case.bearing

    def with_finding(case: CaseEvaluation) -> float:
        return bearing(case) and voxels_of(case).tp + voxels_of(case).fp > 0

    def dice(case: CaseEvaluation) -> float:
        v = voxels_of(case)
        return 2 * v.tp / max(2 * v.tp + v.fp + v.fn, 1) if bearing(case) else 0.0

    yield Ratio(Head("voxel.dice", "voxel", "Dice per lesion-bearing scan, nothing found = 0", "scans"), dice, bearing)
    yield Ratio(
        Head("voxel.dice.found", "voxel", "Dice where a finding lies on a lesion", "scans"),
        dice,
        lambda c: bearing(c) and voxels_of(c).tp > 0,
    )
    yield Ratio(
        Head("voxel.sensitivity", "voxel", "sensitivity per lesion-bearing scan", "scans"),
        lambda c: voxels_of(c).tp / max(voxels_of(c).tp + voxels_of(c).fn, 1),
        bearing,
    )
    yield Ratio(
        Head("voxel.precision", "voxel", "precision per lesion-bearing scan with a finding", "scans"),
        lambda c: voxels_of(c).tp / max(voxels_of(c).tp + voxels_of(c).fp, 1) if with_finding(c) else 0.0,
        with_finding,
    )
    yield Ratio(
        Head("voxel.dice.pooled", "voxel", "Dice of all voxels of all scans", "scans"),
        lambda c: 2 * voxels_of(c).tp,
        lambda c: 2 * voxels_of(c).tp + voxels_of(c).fp + voxels_of(c).fn,
        lambda c: c.voxels is not None,
    )
    yield Ratio(
        Head("voxel.false_ml", "voxel", "falsely marked volume per lesion-free scan", "scans", "ml", "lower"),
        lambda c: c.found_ml if free_scan(c) else 0.0,
        lambda c: free_scan(c) and c.measured,
    )


def slices() -> Iterator[Ratio]:
    """Slices, empty on empty apart."""
    yield Ratio(
        Head("slice.dice", "slice", "Dice of bearing slices", "slices"),
        lambda c: slices_of(c).bearing_dice,
        lambda c: slices_of(c).bearing,
    )
    yield Ratio(
        Head("slice.hit", "slice", "bearing slices with a mark on the lesion", "slices", share=True),
        lambda c: slices_of(c).bearing_hit,
        lambda c: slices_of(c).bearing,
    )
    for key, name, wanted in (
        ("bearing_scans", "lesion-bearing", True),
        ("free_scans", "lesion-free", False),
    ):
        yield Ratio(
            Head(f"slice.specificity.{key}", "slice", f"specificity, slices of {name} scans", "slices", share=True),
            _minus(_slice_count("free", wanted), _slice_count("free_marked", wanted)),
            _slice_count("free", wanted),
        )
    for key, name in (("bearing", "bearing slices"), ("free", "free slices (0.5 is perfect)")):
        yield Ratio(
            Head(f"slice.class_accuracy.{key}", "slice", f"class accuracy, {name}", "slices"),
            _slice_count(f"{key}_class_accuracy"),
            _slice_count(key),
        )
    yield Ratio(
        Head("slice.empty", "slice", "slices that are empty on both sides", "slices", better="neither", share=True),
        lambda c: slices_of(c).free - slices_of(c).free_marked,
        lambda c: slices_of(c).bearing + slices_of(c).free,
    )


def surfaces(settings: EvaluationSettings) -> Iterator[Ratio]:
    """Distances between surfaces where there are two, and panoptic quality at IoU > 0.5."""

    def both(case: CaseEvaluation) -> float:
        return case.surface is not None

    for key, name, unit in (
        ("hd95_mm", "HD95, mean", "mm"),
        ("assd_mm", "ASSD, mean", "mm"),
        ("nsd", f"surface Dice within {settings.tolerance_mm:g} mm, mean", ""),
    ):
        yield Ratio(
            Head(f"surface.{key}", "surface", name, "scans with both", unit, "higher" if key == "nsd" else "lower"),
            _or_zero(_distance(key)),
            both,
        )

    def matched(case: CaseEvaluation) -> float:
        return 0 if case.panoptic is None else case.panoptic.tp

    def total(case: CaseEvaluation) -> float:
        p = case.panoptic
        return 0.0 if p is None else p.tp + p.fp / 2 + p.fn / 2

    def areas(case: CaseEvaluation) -> float:
        return 0.0 if case.panoptic is None else case.panoptic.iou_sum

    def lesions_and_findings(case: CaseEvaluation) -> float:
        p = case.panoptic
        return 0 if p is None else 2 * p.tp + p.fp + p.fn

    of = "lesions and findings"
    yield Ratio(Head("surface.pq", "surface", "panoptic quality PQ", of), areas, total, lesions_and_findings)
    yield Ratio(Head("surface.sq", "surface", "its segmentation part SQ", "matches"), areas, matched)
    yield Ratio(
        Head("surface.rq", "surface", "its recognition part RQ", of, share=True), matched, total, lesions_and_findings
    )


def volumes() -> Iterator[Ratio]:
    """Found minus true volume, per lesion-bearing scan."""

    def bearing(case: CaseEvaluation) -> bool:
        return case.evaluated and case.bearing and case.measured

    def error(case: CaseEvaluation) -> float:
        return case.found_ml - case.true_ml if bearing(case) else 0.0

    yield Ratio(
        Head("volume.error_ml", "volume", "found − true per lesion-bearing scan, mean", "scans", "ml", "neither"),
        error,
        bearing,
    )
    yield Ratio(
        Head("volume.absolute_ml", "volume", "its size without sign, mean", "scans", "ml", "lower"),
        lambda c: abs(error(c)),
        bearing,
    )
    yield Ratio(
        Head("volume.relative", "volume", "(found − true) / true, mean", "scans", "", "neither"),
        lambda c: error(c) / c.true_ml if bearing(c) else 0.0,
        bearing,
    )


def _distance(key: str) -> Callable[[CaseEvaluation], float | None]:
    return lambda case: None if case.surface is None else float(getattr(case.surface, key))


def _or_zero(value: Callable[[CaseEvaluation], float | None]) -> PerCase:
    return lambda case: value(case) or 0.0


def _slice_count(name: str, bearing_scan: bool | None = None) -> PerCase:
    """A field of the slice counts, of all scans or of one kind alone."""
    return lambda case: (
        float(getattr(slices_of(case), name)) if bearing_scan is None or case.bearing == bearing_scan else 0.0
    )


def _minus(first: PerCase, second: PerCase) -> PerCase:
    return lambda case: first(case) - second(case)
