"""The finder study on small made-up images: what is proposed, how it is described, ranked and counted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map, write_volume
from studies.finder.bench import Findings, Searched, findings_of, operating_point, report, search
from studies.finder.cases import Case, read_cases, working_case
from studies.finder.features import FEATURES, describe
from studies.finder.proposals import LARGEST_SHARE, propose


def image(seed: int, *, sign: int = 1, solid: bool = False, lesion: bool = True) -> Case:
    """Correlated noise in an organ with one ball that is brighter (or darker) by three standard deviations."""
    rng = np.random.default_rng(seed)
    shape = (24, 48, 48) if solid else (96, 96)
    grey = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5).astype(np.float32)
    grey /= grey.std()
    centre = [int(n * rng.uniform(0.35, 0.65)) for n in shape]
    squares = [(x - c) ** 2 for x, c in zip(np.indices(shape), centre, strict=True)]
    ball = np.sum(squares, axis=0) <= (5 if solid else 9) ** 2
    organ = np.zeros(shape, dtype=bool)
    organ[tuple(slice(n // 8, -(n // 8)) for n in shape)] = True
    if lesion:
        grey = grey + 3.0 * sign * ball.astype(np.float32)
    truth = ball & organ if lesion else np.zeros_like(organ)
    return working_case(f"c{seed}", "find the lesion", f"p{seed}", grey, organ, truth, (1.0,) * len(shape))


@pytest.mark.parametrize(("sign", "solid"), [(1, False), (-1, False), (1, True), (-1, True)])
def test_a_bright_and_a_dark_lesion_is_proposed_in_two_and_in_three_dimensions(sign: int, solid: bool) -> None:
    searched = search(image(3, sign=sign, solid=solid))
    assert searched.lesion_iou[0] >= 0.5


def test_a_lesion_that_is_half_of_the_organ_is_proposed() -> None:
    grey, organ = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    organ[8:56, 8:56] = True
    truth = organ & (np.indices((64, 64))[1] < 32)
    grey[truth] = 1.0
    grey += np.random.default_rng(0).normal(0, 0.05, grey.shape).astype(np.float32)
    searched = search(working_case("half", "r", "p", grey, organ, truth, (1.0, 1.0)))
    assert searched.lesion_iou[0] >= 0.5


def test_proposals_lie_inside_their_boxes_and_none_is_the_organ_itself() -> None:
    case = image(4)
    for proposal in propose(case):
        assert proposal.mask.shape == tuple(s.stop - s.start for s in proposal.box)
        assert proposal.mask.any()
        assert np.count_nonzero(proposal.mask) <= 1.1 * LARGEST_SHARE * case.grey.size


@pytest.mark.parametrize("solid", [False, True])
def test_every_candidate_has_every_feature_as_a_finite_number(solid: bool) -> None:
    case = image(5, solid=solid)
    described = describe(case, propose(case))
    assert described.values.shape == (len(described.masks), len(FEATURES))
    assert np.isfinite(described.values).all()
    assert len(described.masks) > 5


@pytest.mark.slow
def test_a_score_learned_on_other_patients_puts_the_lesion_first() -> None:
    cases = [search(image(seed, sign=1 if seed % 2 else -1, lesion=seed % 5 != 0)) for seed in range(1, 21)]
    text = report(cases)
    first = next(line for line in text.splitlines() if line.startswith("| the first"))
    assert float(first.split("|")[2]) >= 0.8
    assert "16 with a lesion" in text
    assert report(cases) == text


def test_findings_do_not_lie_on_each_other_and_are_counted_at_the_threshold_that_is_allowed() -> None:
    searched: Searched = search(image(6))
    findings = findings_of(searched, np.arange(len(searched.iou), dtype=float))
    assert list(findings.scores) == sorted(findings.scores, reverse=True)
    ill = Findings(scores=(3.0, 2.0, 1.0), hits=(False, True, False), false=(True, False, True), ill=True)
    free = Findings(scores=(2.5,), hits=(False,), false=(True,), ill=False)
    assert operating_point([ill, free], 0.5) == (0.0, 0.5, 1.0)
    assert operating_point([ill, free], 1.0) == (1.0, 1.0, 0.0)
    assert operating_point([ill, free], 0.4) == (0.0, 0.0, 1.0)


def test_a_table_of_images_is_read_as_r2seg_reads_them(tmp_path: Path) -> None:
    geometry = Geometry(shape=(1, 40, 40), spacing_mm=(5.0, 0.5, 0.5))
    organ = np.zeros(geometry.shape, np.uint8)
    organ[0, 5:35, 5:35] = 1
    truth = np.zeros_like(organ)
    truth[0, 10:16, 10:16] = 1
    grey = (organ * 50 + truth * 40).astype(np.int16)
    write_volume(tmp_path / "image.nii.gz", Volume(grey, geometry, "CT", "HU"))
    write_label_map(tmp_path / "organ.nii.gz", organ, geometry, names={1: "liver"})
    write_label_map(tmp_path / "truth.nii.gz", truth, geometry, names={1: "lesion"})
    row = {
        "name": "one", "image": "image.nii.gz", "request": "find a liver lesion", "anchors": "organ.nii.gz=liver",
        "modality": "CT", "truth": "truth.nii.gz", "patient": "p",
    }  # fmt: skip
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    (case,) = read_cases(tmp_path / "cases.csv")
    assert case.grey.ndim == 2
    assert len(case.lesions) == 1
    assert case.voxel_mm == pytest.approx((0.5, 0.5), rel=0.05)
    assert search(case).lesion_iou[0] > 0.5
