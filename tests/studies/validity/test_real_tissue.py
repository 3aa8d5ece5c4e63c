"""Blocks as cases: how an organ is cut, which blocks judge which, and the level on a small synthetic organ."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry
from studies.validity.intervals import exact_level, largest_count
from studies.validity.levels import paper_tested
from studies.validity.real_tissue import (
    Lesion,
    SearchedTissue,
    Split,
    calibrations,
    halves,
    judge_blocks,
    proposed,
    warned,
)
from studies.validity.search import search_case
from studies.validity.tissue import LIVER, Block, Tissue, cut, plan_of, with_lesion
from studies.validity.volumes import Scanner, case_stream, make_scene

SCANNER = Scanner(name="blocks", fwhm_vox=2.0, shape=(12, 36, 36))
N, WITH_LESION, LESION = 60, 12, Lesion(1.0, 5.0)
ALPHA = 0.1


def searched(name: str, scanner: Scanner, seed: str) -> SearchedTissue:
    """A synthetic "organ" whose blocks lie in a row from the feet to the head."""
    tissue = Tissue(name, "none", "liver", LIVER)
    scenes = [make_scene(scanner, None, case_stream(seed, k)) for k in range(N)]
    plan = plan_of(tissue)
    blocks = [Block(scene, (0.0, 0.0, 30.0 * k), scanner.sd_hu) for k, scene in enumerate(scenes)]
    ill = {}
    for k in range(WITH_LESION):
        scene = with_lesion(blocks[k], volume_ml=LESION.volume_ml, cnr=LESION.cnr, sign=-1, seed=k)
        assert scene.truth is not None
        assert scene.truth.sum() * 2.5 == pytest.approx(1000.0, rel=0.2)
        ill[k] = search_case(scene.volume, scene.organ, scene.truth, plan=plan, permutations=99)
    return SearchedTissue(
        tissue=tissue,
        centres_mm=tuple(block.centre_mm for block in blocks),
        free=tuple(search_case(s.volume, s.organ, plan=plan, permutations=99) for s in scenes),
        implanted={LESION: ill},
    )


@pytest.fixture(scope="module")
def tissue() -> SearchedTissue:
    return searched("one", SCANNER, "blocks")


def test_blocks_are_disjoint_and_full_enough() -> None:
    geometry = Geometry(shape=(20, 40, 44), spacing_mm=(3.0, 1.0, 1.0))
    organ = np.zeros(geometry.shape, dtype=bool)
    organ[2:18, 5:38, 3:40] = True
    organ[8:12, 10:20, 10:30] = False
    boxes = cut(organ, geometry, 10.0, min_fill=0.7)
    times = np.zeros(geometry.shape, dtype=int)
    for box in boxes:
        times[box.slices] += 1
        assert box.shape == (3, 10, 10)
        assert organ[box.slices].mean() >= 0.7
    assert len(boxes) > 30
    assert times.max() == 1


def test_an_organ_that_is_not_there_has_no_blocks() -> None:
    geometry = Geometry(shape=(4, 4, 4), spacing_mm=(1.0, 1.0, 1.0))
    assert cut(np.zeros(geometry.shape, dtype=bool), geometry, 2.0) == ()


def test_halves_lie_apart(tissue: SearchedTissue) -> None:
    first, second = halves(tissue)
    assert max(tissue.centres_mm[k][2] for k in first) < min(tissue.centres_mm[k][2] for k in second)
    assert sorted(first + second) == list(range(N))


@pytest.mark.parametrize("split", ["same scan", "other half"])
def test_no_block_judges_itself(tissue: SearchedTissue, split: Split) -> None:
    """A block that beats all others gets the smallest p against those that judge it, so it is not among them."""
    by = calibrations(tissue, split, (), score="contrast_log_volume", gates="L2")
    sizes = {calibration.n_cases for calibration in by}
    assert sizes == ({N * 9 // 10} if split == "same scan" else {N // 2})
    tested = judge_blocks(tissue, by, score="contrast_log_volume", gates="L2", alpha=ALPHA)
    assert min(test.p for test in tested) == pytest.approx(1.0 / (max(sizes) + 1))


def test_the_level_is_held_and_lesions_are_found(tissue: SearchedTissue) -> None:
    by = calibrations(tissue, "other half", (), score="contrast_log_volume", gates="L2")
    for half in halves(tissue):
        tested = judge_blocks(tissue, by, score="contrast_log_volume", gates="L2", alpha=ALPHA)
        level = exact_level(ALPHA, by[half[0]].n_cases)
        assert sum(tested[k].p <= ALPHA for k in half) <= largest_count(level, len(half), N // 2, chance=1e-4)
    ill = judge_blocks(tissue, by, score="contrast_log_volume", gates="L2", alpha=ALPHA, lesion=LESION)
    assert len(ill) == WITH_LESION
    assert sum(test.hit for test in ill) >= 0.8 * WITH_LESION
    assert sum(proposed(tissue, LESION, "L2")) >= sum(test.hit for test in ill)


def test_paper_mode_calls_normal_blocks_lesions(tissue: SearchedTissue) -> None:
    """The canary: of the blocks with a candidate, nearly every one."""
    with_candidate = [k for k, case in enumerate(tissue.free) if any(case.passed["L2"])]
    survived = [test.survivors > 0 for test in paper_tested(tissue.free, "L2")]
    assert len(with_candidate) > 5
    assert np.mean([survived[k] for k in with_candidate]) > 0.5


def test_another_scanner_is_warned_about(tissue: SearchedTissue) -> None:
    other = searched("two", SCANNER.model_copy(update={"fwhm_vox": 4.0}), "other blocks")
    own = calibrations(tissue, "same scan", (), score="contrast_log_volume", gates="L2", profiles=True)
    foreign = calibrations(tissue, "other scans", [other], score="contrast_log_volume", gates="L2", profiles=True)
    alike, unlike = warned(tissue, own), warned(tissue, foreign)
    assert np.mean(alike) < 0.2
    assert np.mean(unlike) > 0.8
