"""What the figures count: empty slices, failures, size classes, false findings."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluation_cases import FAST, candidate, case_of, many_cases

from r2seg_agent.evals.evaluate import settled_rank, summarise
from r2seg_agent.evals.models import CaseEvaluation, Evaluation


def _body(*boxes: tuple[int, int, int, int], shape: tuple[int, int, int] = (10, 12, 12)) -> np.ndarray:
    """Boxes (slices from, to; y from, to) of full x width 4, numbered from 1."""
    labels = np.zeros(shape, int)
    for number, (z0, z1, y0, y1) in enumerate(boxes, start=1):
        labels[z0:z1, y0:y1, 2:6] = number
    return labels


def _of(*cases: CaseEvaluation) -> Evaluation:
    return summarise(cases, FAST, name="t")


def _value(evaluation: Evaluation, key: str) -> float | None:
    return evaluation.figure(key).value


def test_empty_slices_flatter_the_papers_dice_and_nothing_else() -> None:
    """A search that finds nothing: 0 wherever it matters, 0.9 by the paper's rule on a lesion of one slice in ten."""
    lesions = _body((4, 5, 2, 6))
    evaluation = _of(case_of(lesions, np.zeros_like(lesions)))
    assert _value(evaluation, "paper.dice") == pytest.approx(0.9)
    assert _value(evaluation, "paper.specificity") == 1.0
    assert _value(evaluation, "paper.accuracy") == pytest.approx(1 - 16 / 1440)
    assert _value(evaluation, "paper.class_accuracy") == pytest.approx(0.5)
    for key in ("slice.dice", "voxel.dice", "lesion.dice", "lesion.iou.sensitivity", "paper.sensitivity"):
        assert _value(evaluation, key) == 0.0, key
    assert _value(evaluation, "slice.empty") == pytest.approx(0.9)
    assert _value(evaluation, "slice.balanced_accuracy") == pytest.approx(0.5)


def test_class_accuracy_of_a_perfect_answer_depends_on_the_empty_slices() -> None:
    lesions = _body((4, 5, 2, 6))
    evaluation = _of(case_of(lesions, lesions))
    assert _value(evaluation, "paper.class_accuracy") == pytest.approx((9 * 0.5 + 1) / 10)
    assert _value(evaluation, "slice.class_accuracy.bearing") == 1.0
    assert _value(evaluation, "slice.class_accuracy.free") == 0.5


def test_lesion_bearing_and_lesion_free_scans_stay_apart() -> None:
    lesions, empty = _body((2, 4, 2, 6)), np.zeros((10, 12, 12), int)
    false = _body((7, 9, 6, 9), (0, 1, 0, 2))
    evaluation = _of(
        case_of(lesions, lesions, number=1, patient="a"),
        case_of(empty, false, number=2, patient="b"),
        case_of(empty, empty, number=3, patient="c"),
    )
    assert _value(evaluation, "lesion.iou.fp_per_scan") == pytest.approx(2 / 3)
    assert _value(evaluation, "lesion.iou.fp_per_scan.bearing_scans") == 0
    assert _value(evaluation, "lesion.iou.fp_per_scan.free_scans") == 1
    assert _value(evaluation, "scan.specificity") == 0.5
    assert _value(evaluation, "scan.false_alarm") == 0.5
    assert _value(evaluation, "scan.fdr.pooled") == pytest.approx(2 / 3)
    assert _value(evaluation, "scan.fdr.mean") == pytest.approx(1 / 3)
    assert _value(evaluation, "slice.specificity.free_scans") == pytest.approx(17 / 20)
    assert _value(evaluation, "slice.specificity.bearing_scans") == 1.0
    assert _value(evaluation, "lesion.overlap.precision") == pytest.approx(1 / 3)
    assert _value(evaluation, "lesion.iou.f1") == pytest.approx(2 / 4)
    assert evaluation.figure("scan.specificity").n == 2
    assert evaluation.figure("lesion.dice").patients == 1
    figure = evaluation.figure("lesion.iou.sensitivity")
    assert (figure.value, figure.interval) == (1.0, "exact")
    assert figure.low == pytest.approx(0.025)


def test_a_scan_flagged_beside_its_lesion_is_no_hit() -> None:
    evaluation = _of(case_of(_body((2, 4, 2, 6)), _body((6, 8, 2, 6))))
    assert _value(evaluation, "scan.sensitivity") == 1.0
    assert _value(evaluation, "scan.sensitivity.hit") == 0.0


def test_unanswered_cases_count_as_missed_in_the_second_line_only() -> None:
    lesions = _body((2, 4, 2, 6))
    failed = case_of(lesions, lesions, number=2, patient="b").model_copy(
        update={
            "answered": False,
            "status": "timed_out",
            "voxels": None,
            "slices": None,
            "lesions": (),
            "findings": (),
            "candidates": None,
            "unanswered_lesions": (1.0, 2.0, 3.0),
        }
    )
    unknown = failed.model_copy(update={"unanswered_lesions": None, "truth": "none", "number": 3, "patient": "c"})
    evaluation = _of(case_of(lesions, lesions), failed, unknown)
    assert _value(evaluation, "lesion.iou.sensitivity") == 1.0
    assert _value(evaluation, "lesion.iou.sensitivity.with_unanswered") == 0.25
    assert _value(evaluation, "scan.sensitivity") == 1.0
    assert _value(evaluation, "scan.sensitivity.with_unanswered") == 0.5
    assert evaluation.figure("lesion.iou.sensitivity.with_unanswered").patients == 2
    assert evaluation.accounting.unanswered == (
        "case 2: timed out, 3 lesions",
        "case 3 (case 2): timed out, truth unknown",
    )
    assert (evaluation.accounting.cases, evaluation.accounting.evaluated) == (3, 1)


def test_size_classes_split_the_lesions() -> None:
    """Voxels of 0.05 ml: lesions of 0.2, 1.6 and 16 ml; the middle one is missed."""
    lesions = _body((0, 1, 0, 1), (2, 4, 0, 4), (5, 10, 0, 12))
    findings = np.where(lesions == 2, 0, lesions)
    evaluation = _of(case_of(lesions, findings))
    assert [_value(evaluation, f"lesion.iou.sensitivity.size{k}") for k in range(4)] == [None, 1.0, 0.0, 1.0]
    assert [evaluation.figure(f"lesion.dice.size{k}").n for k in range(4)] == [0, 1, 1, 1]


def test_volumes_and_agreement() -> None:
    lesions = _body((0, 2, 0, 4), (4, 6, 0, 4))
    findings = _body((0, 2, 0, 5), (4, 6, 0, 2))
    evaluation = _of(case_of(lesions, findings), case_of(lesions, np.zeros_like(lesions), number=2, patient="b"))
    gaps = np.array([8, -16]) * 0.05
    assert _value(evaluation, "volume.agreement.bias") == pytest.approx(gaps.mean())
    assert _value(evaluation, "volume.agreement.high") == pytest.approx(gaps.mean() + 1.96 * gaps.std(ddof=1))
    assert _value(evaluation, "volume.error_ml") == pytest.approx((gaps.sum() - 3.2) / 2)
    assert _value(evaluation, "volume.absolute_ml") == pytest.approx((0.4 + 3.2) / 2)
    assert _value(evaluation, "volume.relative") == pytest.approx((-0.125 - 1) / 2)


def test_the_rank_is_the_score_where_there_is_one() -> None:
    lesions = _body((2, 4, 2, 6))
    scored = case_of(lesions, lesions, candidates=(candidate("a", 1.0),))
    unscored = case_of(lesions, lesions, candidates=(candidate("a", None),))
    assert settled_rank([scored, unscored], "auto") == "score"
    assert settled_rank([unscored], "auto") == "prominence"
    assert settled_rank([scored], "p") == "p"
    assert settled_rank([scored.model_copy(update={"p": 0.02})], "auto") == "p"


def test_a_truth_that_looks_like_organs_is_doubted() -> None:
    organ = np.ones((20, 50, 50), int)
    evaluation = _of(case_of(organ, organ))
    assert "--labels" in evaluation.warnings[0]
    named = summarise([case_of(organ, organ)], FAST.model_copy(update={"labels": (1,)}), name="t")
    assert named.warnings == ()


def test_every_figure_has_a_key_of_its_own_and_says_what_it_counts() -> None:
    figures = summarise(many_cases(1, 8, 3), FAST, name="t").figures
    assert len({figure.key for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.of
        assert figure.patients <= 3
        assert (figure.value is None) == (figure.n == 0) or figure.level in ("froc", "scan", "volume"), figure.key
