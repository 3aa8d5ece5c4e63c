"""What the study measures, on made-up cases whose level and power are known; its tables and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.reject.settings import RejectSettings
from studies.validity.__main__ import PAGE, RESULTS
from studies.validity.cases import StudyCases
from studies.validity.cells import BASE, MAIN, MATCHED, SHIFTED, Counts, lesion_cells
from studies.validity.intervals import Share
from studies.validity.permutation import exchangeable
from studies.validity.plots import draw_all
from studies.validity.results import Blobs, StudyResults
from studies.validity.search import SearchedCase, search_case
from studies.validity.study import measure
from studies.validity.tables import TABLES, write_page
from studies.validity.volumes import LesionKind, Scanner, case_stream, make_scene

ROOT = Path(__file__).parents[3]
MISSED_CNR = 1.0
"""Made-up lesions of this contrast score like noise; all others score far above it."""


@pytest.fixture(scope="module")
def results() -> StudyResults:
    scanner = Scanner(name="measures", fwhm_vox=2.0, shape=(12, 32, 32))
    scene = make_scene(scanner, LesionKind(volume_ml=1.0, cnr=5.0, edge="sharp"), case_stream("measures", 0))
    pattern = search_case(scene.volume, scene.organ, scene.truth, permutations=99)
    profile = search_case(scene.volume, scene.organ, permutations=9).profile
    k = pattern.hits.index(True)
    rng = np.random.default_rng(5)

    def made(n: int, shift: float = 0.0, hit: bool = False) -> list[SearchedCase]:
        """Cases of one candidate, its scores from one distribution, `shift` standard deviations up."""
        cases = []
        for value in rng.normal(10.0 + shift, 1.0, n):
            features = pattern.features[k].model_copy(
                update={"contrast": float(value), "scan_statistic": float(value), "inner_continuation": 0.0}
            )
            inside = 1.0 if hit else 0.0
            cases.append(SearchedCase((features,), (0.5,), (0.01,), (100,), (), (inside,), (inside,), profile))
        return cases

    cases = StudyCases(Counts().scaled(0.02))
    for one in (*MATCHED, *SHIFTED):
        shift = 1.0 if one in SHIFTED else 0.0
        cases.calibration[one.name] = made(1000 if one.name == BASE else 200, shift)
        cases.test[one.name] = made(200 if one.name in MAIN else 60, shift)
    for one, lesion in lesion_cells():
        cases.lesions[one.name, lesion] = made(12, 0.0 if lesion.cnr == MISSED_CNR else 20.0, hit=True)
    half = Share(k=10, n=20)
    blobs = [
        Blobs(scanner=name, blind_permutation=half, blind_placement=half, proposed_permutation=half,
              proposed_placement=half)
        for name in ("white", "FWHM 2", "FWHM 3", "FWHM 4")
    ]  # fmt: skip
    return measure(cases, blobs, command="test")


def test_exchangeable_cases_are_found_at_the_level_and_lesions_are_found(results: StudyResults) -> None:
    for row in results.levels:
        if row.score == "scan_statistic":
            assert abs(row.level - results.alpha) < 4.5 * row.se
    for row in results.powers:
        power = row.power["conformal"]["scan_statistic"].value
        assert power < 0.4 if row.lesion.cnr == MISSED_CNR else power == 1.0
        assert row.proposed.value == 1.0


def test_a_finding_that_is_the_lesion_is_no_false_discovery(results: StudyResults) -> None:
    alike = results.mixed
    for row in alike:
        level = next(
            one.level
            for one in results.levels
            if (one.scanner, one.gates, one.score) == (row.scanner, row.gates, row.score)
        )
        assert row.fdr == pytest.approx((1.0 - row.prevalence) * level)
    assert alike


def test_a_shift_shows_in_the_level_and_a_like_scanner_does_not(results: StudyResults) -> None:
    level = {(s.calibration, s.test): s.level for s in results.shifts if s.gates == "conformal"}
    shifted = SHIFTED[0].name
    assert level[BASE, shifted] > 0.15 > level[BASE, "FWHM 2"]
    assert level[shifted, BASE] < 0.02


def test_levels_over_calibrations_follow_the_theory(results: StudyResults) -> None:
    sizes = [point.n for point in results.curve]
    assert sizes == [19, 29, 39, 59, 99, 199, 499, 999]
    for point in results.curve:
        assert abs(point.level_mean - point.theory_mean) < 0.03
        assert point.power["CNR 3, sharp"][0] == 1.0
    assert results.curve[0].level_sd > 2 * results.curve[-1].level_sd


def test_flagged_scans_are_those_with_a_lesion_when_calibration_is_large_enough(results: StudyResults) -> None:
    power = {(row.n_calibration, row.prevalence): row.power.value for row in results.flagged}
    assert power[499, 0.05] == 1.0
    assert power[200, 0.05] == 0.0
    assert power[200, 0.2] == 1.0
    assert all(row.fdr.value < 0.2 for row in results.flagged)


def test_scores_are_ranked_by_power(results: StudyResults) -> None:
    means = [row.mean_power for row in results.ranking]
    assert means == sorted(means, reverse=True)
    assert {"mmd2", "mmd2_volume"}.isdisjoint(row.score for row in results.ranking[:3])


def test_paper_mode_finds_whatever_has_a_small_p(results: StudyResults) -> None:
    assert all(row.false_positive.value == row.any_candidate.value == 1.0 for row in results.paper)


def test_the_permutation_test_holds_on_exchangeable_samples() -> None:
    found = exchangeable()
    assert found.rejected.interval[0] < 0.05
    assert found.largest_difference < 1e-5


def test_results_keep_everything_through_json(results: StudyResults) -> None:
    assert StudyResults.model_validate_json(results.model_dump_json()) == results


def test_tables_replace_what_stands_between_their_markers(results: StudyResults, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"# {name}\n<!-- {name} -->\nOUTDATED\n<!-- /{name} -->\n" for name in TABLES))
    write_page(page, results)
    text = page.read_text()
    assert "OUTDATED" not in text
    assert "**missed**" not in text
    assert "999" in text
    write_page(page, results)
    assert page.read_text() == text
    page.write_text("<!-- run -->\n<!-- /run -->\n")
    with pytest.raises(InputError, match="markers"):
        write_page(page, results)


def test_a_cell_above_its_bound_says_so(results: StudyResults, tmp_path: Path) -> None:
    bad = results.levels[0].model_copy(update={"level": 0.5})
    text = TABLES["levels"](results.model_copy(update={"levels": (bad, *results.levels[1:])}))
    assert "**0.500" in text
    assert "FAILED**" in text


def test_plots_are_small_pictures(results: StudyResults, tmp_path: Path) -> None:
    draw_all(results, tmp_path)
    files = sorted(tmp_path.glob("fdr-*.png"))
    assert len(files) == 4
    assert all(2_000 < file.stat().st_size < 150_000 for file in files)


@pytest.mark.skipif(not (ROOT / RESULTS).exists(), reason="no results stored")
def test_the_page_shows_the_stored_results(tmp_path: Path) -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    write_page(page, StudyResults.model_validate_json((ROOT / RESULTS).read_bytes()))
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.skipif(not (ROOT / RESULTS).exists(), reason="no results stored")
def test_the_stored_results_say_what_the_page_says_in_words() -> None:
    stored = StudyResults.model_validate_json((ROOT / RESULTS).read_bytes())
    assert stored.default_score == RejectSettings().score
    best = next(row.score for row in stored.ranking if row.gates == stored.study_gates)
    assert best == stored.default_score
    default = [row for row in stored.levels if row.score == stored.default_score]
    assert all(row.held(stored.alpha) for row in default)
    assert "**missed**" not in TABLES["targets"](stored)
    unlike = [row for row in stored.shifts if row.calibration != row.test]
    assert all(row.warned.value > 0.95 for row in unlike)
    sizes = {row.n: (row.theory_5, row.theory_95) for row in stored.curve}
    assert sizes[19][1] > 2.5 * stored.alpha > 1.7 * stored.alpha > sizes[199][1]
