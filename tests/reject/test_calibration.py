"""Calibrations: valid p-values, one vote per patient, files that cannot be edited unnoticed, mismatches named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.errors import InputError
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    case_maximum_p,
    cases_needed,
    contents_hash,
    guidance,
    holds_case,
    identity_hash,
    merge_calibrations,
    mismatch,
    pseudonym,
    rounds_served,
    smallest_p,
)
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
from r2seg_agent.reject.differences import MAX_LISTED
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.segment.protocol import SegmenterInfo

IDENTITY = CalibrationIdentity(
    segmenter=SegmenterInfo(
        name="contrast",
        version="1",
        ndim=3,
        prompt_kinds=("text",),
        output_kind="score",
        licence="Apache-2.0",
        stand_in=True,
        modalities=("CT",),
        settings={"threshold": 0.5, "signs": 2, "smooth": True},
    ),
    anchor_source=AnchorSourceInfo(
        name="totalsegmentator",
        version="2.18.0",
        kind="model",
        stand_in=False,
        licence="Apache-2.0",
        modalities=("CT",),
    ),
    anchors=("liver",),
    target="liver_tumor",
    modality="CT",
    score="contrast_log_volume",
    rounds=3,
    preprocessing={"window": "-25 230", "padding_mm": 10.0},
    gates={"volume_mm3": 20.0},
)


def case(number: int, *scores: float, patient: str | None = None) -> CaseScores:
    return CaseScores(case=f"case-{number}", patient=patient or f"patient-{number}", scores=scores)


def test_case_maximum_counts_cases_that_reach_the_score() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0, 5.0), case(2, 2.0), case(3), case(4, 4.0, 4.0)])
    assert [case_maximum_p(calibration, s) for s in (6.0, 5.0, 4.5, 4.0, 0.0)] == [0.2, 0.4, 0.4, 0.6, 0.8]
    assert smallest_p(4) == 0.2


def test_a_patient_counts_once() -> None:
    cases = [case(i, float(i), patient="p1") for i in range(5)] + [case(9, 9.0)]
    calibration = build_calibration(IDENTITY, cases)
    assert calibration.n_cases == 2
    assert len(calibration.cases) == 6
    assert case_maximum_p(calibration, 8.0) == 2 / 3
    assert holds_case(calibration, "case-3")
    assert not holds_case(calibration, "case-77")


def test_cases_can_be_added_over_time() -> None:
    first = build_calibration(IDENTITY, [case(i, float(i)) for i in range(10)], seed=5)
    later = build_calibration(IDENTITY, [case(i, float(i)) for i in range(10, 20)], earlier=first)
    assert later == build_calibration(IDENTITY, [case(i, float(i)) for i in range(20)], seed=5)
    assert later.n_cases == 20
    with pytest.raises(ValueError, match="twice"):
        build_calibration(IDENTITY, [case(3, 1.0)], earlier=first)
    other = IDENTITY.model_copy(update={"target": "spleen_lesion"})
    with pytest.raises(ValueError, match="another set-up"):
        build_calibration(other, [case(99, 1.0)], earlier=first)


def test_order_of_cases_does_not_matter_and_names_are_not_stored(tmp_path: Path) -> None:
    cases = [case(i, float(i), 2.0, patient=f"patient-{i // 2}") for i in range(8)]
    calibration = build_calibration(IDENTITY, cases)
    assert build_calibration(IDENTITY, cases[::-1]) == calibration
    assert "patient-" not in calibration.model_dump_json()
    assert "case-1" not in calibration.model_dump_json()


def test_case_maximum_p_is_super_uniform_over_cases_and_their_candidates() -> None:
    """Lesion-free cases with a random number of candidates whose scores share a case effect: the smallest p of a test
    case is at most α no more often than α (plus 4 standard errors), and not far less often (the exact level).
    """
    rng = np.random.default_rng(0)

    def scores() -> tuple[float, ...]:
        return tuple((rng.normal() + rng.gamma(1.5, size=rng.poisson(6))).tolist())

    smallest = []
    for _ in range(40):
        calibration = build_calibration(IDENTITY, [case(i, *scores()) for i in range(39)])
        for _ in range(40):
            found = scores()
            smallest.append(min((case_maximum_p(calibration, s) for s in found), default=1.0))
    for alpha in (0.05, 0.1, 0.25):
        share = float(np.mean(np.array(smallest) <= alpha))
        # Tests that share a calibration are correlated: the share in one has mean α and variance like Beta(39α, ...).
        error = np.sqrt(alpha * (1 - alpha) * (1 / 1600 + 1 / (40 * 40)))
        assert abs(share - alpha) < 4 * error


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.05 / 60, 1199), (0.9, 1)])
def test_cases_needed_is_the_least_that_can_reach_alpha(alpha: float, needed: int) -> None:
    assert cases_needed(alpha) == needed
    assert smallest_p(needed) <= alpha * (1 + 1e-9)
    assert needed == 1 or smallest_p(needed - 1) > alpha


def test_guidance_says_what_n_cases_can_do() -> None:
    assert "needs 19 cases" in guidance(18)
    assert (
        "alpha 0.05 is served (exact level 0.05 in the mean over calibrations, at most 0.146 by this one"
        in guidance(19)
    )
    assert "exact level 0.04 in" in guidance(24)


def test_a_file_comes_back_exactly(tmp_path: Path) -> None:
    calibration = build_calibration(IDENTITY, [case(1, 0.1, 1 / 3, -0.0), case(2), case(3, 1e-17, 12345.678901234567)])
    save_calibration(calibration, tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json") == calibration
    assert [f.name for f in tmp_path.iterdir()] == ["c.json"]


def edit_score(tree: dict) -> None:
    tree["cases"][1]["scores"][0] -= 0.5
    tree["cases"][1]["maximum"] = max(tree["cases"][1]["scores"])


def edit_identity(tree: dict) -> None:
    """A forger who recomputes the contents hash but not the identity's."""
    tree["identity"]["target"] = "kidney_tumor"
    tree["contents_sha256"] = contents_hash(Calibration.model_validate_json(json.dumps(tree)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edit_score, "contents and its hash differ"),
        (edit_identity, "identity and its hash differ"),
        (lambda t: t["cases"].pop(), "contents and its hash differ"),
        (lambda t: t.update(schema_version="1"), "schema version '1'.*reads '3'"),
        (lambda t: t.update(kind="other"), "not an r2seg calibration"),
        (lambda t: t.update(surprise=1), "surprise"),
        (lambda t: t["cases"][0].update(maximum=99.0), "not the largest"),
        (lambda t: t["cases"][0].update(case="short"), r"cases\.0\.case"),
        (lambda t: t.pop("identity"), "identity: Field required"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, change: Callable[[dict], object], says: str) -> None:
    path = tmp_path / "c.json"
    save_calibration(build_calibration(IDENTITY, [case(i, float(i), 2.0) for i in range(4)]), path)
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=says):
        load_calibration(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not JSON"), (b'{"kind": "r2seg-cal', "not JSON"), (b"\xff\xfe", "not JSON"), (b"[1]", "not an r2seg")],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_calibration(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read.*No such file"):
        load_calibration(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot write"):
        save_calibration(build_calibration(IDENTITY, [case(1)]), tmp_path / "none" / "c.json")


def test_the_same_identity_matches() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0)])
    again = CalibrationIdentity.model_validate_json(IDENTITY.model_dump_json())
    assert mismatch(calibration, again) == ()
    assert identity_hash(again) == calibration.identity_sha256


def test_mismatch_names_each_field_that_differs() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0)])
    changed = IDENTITY.segmenter.model_copy(update={"settings": {"threshold": 0.4, "signs": 2}})
    other = IDENTITY.model_copy(update={"segmenter": changed, "anchors": ("liver", "spleen"), "modality": "MR"})
    assert mismatch(calibration, other) == (
        "anchor organs: the calibration has `liver`, this run has `liver`, `spleen`",
        "modality: the calibration has `CT`, this run has `MR`",
        "segmenter.settings.smooth: the calibration has true, this run has nothing",
        "segmenter.settings.threshold: the calibration has 0.5, this run has 0.4",
    )
    assert mismatch(calibration, IDENTITY) == ()
    assert identity_hash(other) != calibration.identity_sha256


def test_another_segmenter_is_one_difference_whatever_it_brings_along() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0)])
    learned = IDENTITY.segmenter.model_copy(
        update={"name": "medsam", "weights_sha256": "ab" * 32, "settings": {f"s{i}": i for i in range(40)}}
    )
    assert mismatch(calibration, IDENTITY.model_copy(update={"segmenter": learned, "target": "lung_nodule"})) == (
        "target: the calibration has `liver_tumor`, this run has `lung_nodule`",
        "segmenter: the calibration has `contrast` 1, this run has `medsam` 1 with weights abababababab",
    )


def test_many_small_differences_are_counted_and_long_values_cut() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0)])
    many = IDENTITY.model_copy(update={"gates": {"volume_mm3": 20.0, **{f"g{i}": "x" * 500 for i in range(9)}}})
    texts = mismatch(calibration, many)
    assert len(texts) == MAX_LISTED + 1
    assert texts[-1] == "and 3 more settings"
    assert max(map(len, texts)) < 160


@given(
    maxima=st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), max_size=3), min_size=1, max_size=30),
    score=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0]),
)
def test_the_look_up_is_the_count(maxima: list[list[float]], score: float) -> None:
    calibration = build_calibration(IDENTITY, [case(i, *own) for i, own in enumerate(maxima)])
    reached = sum(c.maximum is not None and c.maximum >= score for c in calibration.cases if c.counted)
    assert case_maximum_p(calibration, score) == (1 + reached) / (len(maxima) + 1)


def test_a_score_that_is_no_number_can_never_look_like_a_finding() -> None:
    calibration = build_calibration(IDENTITY, [case(i, float(i)) for i in range(40)])
    assert case_maximum_p(calibration, float("nan")) == 1.0


def test_a_copy_with_other_cases_is_looked_up_anew() -> None:
    calibration = build_calibration(IDENTITY, [case(1, 1.0), case(2, 2.0)])
    assert (case_maximum_p(calibration, 1.5), calibration.n_cases) == (2 / 3, 2)
    fewer = calibration.model_copy(update={"cases": calibration.cases[:1]})
    assert fewer.n_cases == 1
    assert case_maximum_p(fewer, 0.0) == 1.0
    assert calibration == build_calibration(IDENTITY, [case(1, 1.0), case(2, 2.0)])


def test_two_sites_make_one_calibration() -> None:
    first = build_calibration(IDENTITY, [case(1, 1.0), case(2, 2.0)], seed=4)
    second = build_calibration(IDENTITY, [case(2, 2.0), case(3, 3.0)], seed=9)
    merged = merge_calibrations(first, second)
    assert merged == build_calibration(IDENTITY, [case(1, 1.0), case(2, 2.0), case(3, 3.0)], seed=4)
    with pytest.raises(InputError, match="different scores"):
        merge_calibrations(first, build_calibration(IDENTITY, [case(2, 7.0)]))
    with pytest.raises(InputError, match="target: the calibration has `liver_tumor`"):
        merge_calibrations(first, build_calibration(IDENTITY.model_copy(update={"target": "x"}), [case(5, 1.0)]))


def test_profiles_are_stored_covered_by_the_hash_and_one_per_patient(tmp_path: Path) -> None:
    cases = [case(i, 1.0, patient=f"p{i // 2}").model_copy(update={"profile": profile(1.0 + i)}) for i in range(4)]
    calibration = build_calibration(IDENTITY, cases)
    assert len(calibration.profiles) == 2
    path = tmp_path / "c.json"
    save_calibration(calibration, path)
    assert load_calibration(path) == calibration
    path.write_text(path.read_text(encoding="utf-8").replace('"noise_sd": 2.0', '"noise_sd": 2.5'), encoding="utf-8")
    with pytest.raises(InputError, match="edited or damaged"):
        load_calibration(path)


def profile(noise_sd: float) -> ScanProfile:
    return ScanProfile(
        noise_sd=noise_sd,
        noise_fwhm_mm=(2.0, 1.5, 1.5),
        spacing_mm=(2.5, 0.8, 0.8),
        anchor_median=60.0,
        anchor_mad=12.0,
        anchor_ml=1500.0,
        n_voxels=900_000,
    )


def test_no_cases_and_repeated_cases() -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_calibration(IDENTITY, [])
    with pytest.raises(ValueError, match="twice"):
        build_calibration(IDENTITY, [case(1, 1.0), case(1, 2.0)])
    assert len(pseudonym("a")) == 64


def test_a_case_that_did_not_finish_is_the_largest_of_all_in_the_rounds_that_it_lacks() -> None:
    failed = CaseScores(case="slow", patient="slow", scores=(1.5,), rounds=(1,), finished=1)
    finished = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i),) * 3, rounds=(1, 2, 3)) for i in range(99)]
    calibration = build_calibration(IDENTITY, [*finished, failed])
    own = next(c for c in calibration.cases if c.finished is not None)
    assert [own.maximum_in(r) for r in (1, 2, 3)] == [1.5, float("inf"), float("inf")]
    assert [calibration.unfinished(r) for r in (1, 2, 3)] == [0, 1, 1]
    dropped = build_calibration(IDENTITY, finished)
    assert case_maximum_p(dropped, 1e9, 3) == 3 / 100  # the same cases are the largest in all rounds
    assert case_maximum_p(calibration, 1e9, 3) == 6 / 101  # it, and the four largest of round 1
    assert calibration.smallest_p == 1 / 101


def test_cases_that_failed_at_once_leave_room_for_no_small_p() -> None:
    cases = [case(i, float(i)) for i in range(18)]
    failed = CaseScores(case="dead", patient="dead", scores=(), finished=0)
    calibration = build_calibration(IDENTITY, [*cases, failed])
    assert case_maximum_p(calibration, 1e9) == calibration.smallest_p == 2 / 20
    assert "(1 failed in the first round): the smallest p is 0.1; alpha 0.05 needs 39 cases" in calibration.guidance
    assert cases_needed(0.05, 1) == 39
    with pytest.raises(ValueError, match="did not finish"):
        build_calibration(IDENTITY, [CaseScores(case="c", patient="p", scores=(1.0,), rounds=(2,), finished=1)])


def test_a_case_that_finishes_later_takes_the_place_of_the_failed_one(tmp_path: Path) -> None:
    failed = CaseScores(case="case-1", patient="patient-1", scores=(), finished=0)
    first = build_calibration(IDENTITY, [case(0, 1.0), failed])
    assert holds_case(first, "case-1")
    assert not holds_case(first, "case-1", finished=True)
    save_calibration(first, tmp_path / "first.json")
    later = build_calibration(IDENTITY, [case(1, 2.0)], earlier=load_calibration(tmp_path / "first.json"))
    assert later == build_calibration(IDENTITY, [case(0, 1.0), case(1, 2.0)])
    assert merge_calibrations(first, later) == merge_calibrations(later, first) == later


def test_fewer_rounds_pay_for_themselves_alone() -> None:
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i), float(-i)), rounds=(1, 2)) for i in range(59)]
    calibration = build_calibration(IDENTITY, cases)
    assert case_maximum_p(calibration, 100.0, 2) == 3 / 60
    assert case_maximum_p(calibration, 100.0, 1, rounds=1) == 1 / 60
    assert case_maximum_p(calibration, 49.5, 1, rounds=1) == 10 / 60
    assert case_maximum_p(calibration, 49.5, 1) == 14 / 60  # and the four largest of round 2
    with pytest.raises(ValueError, match="4 rounds of a calibration of 3"):
        case_maximum_p(calibration, 1.0, rounds=4)


@pytest.mark.parametrize(("n", "served"), [(19, 1), (58, 1), (59, 2), (78, 2), (79, 3), (500, 3), (5, 1)])
def test_as_many_rounds_are_served_as_can_find_something(n: int, served: int) -> None:
    """The smallest p of the last round, where no case is the largest in two of them: 1, 3, 4 of n + 1."""
    assert rounds_served(n, 0.05, 3) == served
    assert [cases_needed(0.05, rounds=r) for r in (1, 2, 3)] == [19, 59, 79]
    scores = [(i, i * 7 % n, i * 11 % n) for i in range(n)]
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=own, rounds=(1, 2, 3)) for i, own in enumerate(scores)]
    found = [case_maximum_p(build_calibration(IDENTITY, cases), 1e9, r, rounds=r) for r in range(1, served + 1)]
    assert n < 19 or max(found) <= 0.05
