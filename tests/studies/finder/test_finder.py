"""The study of the score: cases are read and searched as in a run, fits are repeatable, and patients are kept apart."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.segment.regions.score import read_score
from studies.finder.bench import Findings, cut_at, findings_of, interval, report
from studies.finder.cases import Case, read_case, rows_of
from studies.finder.fit import file_of, fitted
from studies.finder.learn import cross_validated
from studies.finder.search import Searched, search
from tests.helpers.noisy_organs import PRIOR, noisy_organ


def searched(seed: int, *, sign: int = 1, lesion: bool = True) -> Searched:
    image = noisy_organ(seed, sign=sign, lesion=lesion)
    return search(
        Case(
            name=f"c{seed}",
            request="find the lesion",
            patient=f"p{seed}",
            licence="CC0",
            volume=image.volume,
            organ=image.organ,
            truth=image.truth,
            prior=PRIOR,
        )
    )


@pytest.fixture(scope="module")
def cases() -> list[Searched]:
    return [searched(seed, sign=1 if seed % 2 else -1, lesion=seed % 5 != 0) for seed in range(1, 21)]


@pytest.mark.slow
def test_a_score_learned_on_other_patients_puts_the_lesion_first(cases: list[Searched]) -> None:
    scores = cross_validated(cases)
    text = report(cases, scores)
    first = next(line for line in text.splitlines() if line.startswith("| the first"))
    assert float(first.split("|")[2].split()[0]) >= 0.8
    assert "16 with a lesion" in text


@pytest.mark.slow
def test_fitting_again_gives_the_same_file(cases: list[Searched]) -> None:
    first, second = file_of(fitted(cases)), file_of(fitted(cases))
    assert first == second
    score = read_score(first)
    assert score.card["images"] == 20
    assert score.card["licences"] == ("CC0",)


def test_findings_are_counted_at_the_cut_that_is_allowed() -> None:
    three = {"hits": (False, True, False), "false": (True, False, True), "dice": (0.0, 1.0, 0.0)}
    ill = Findings("a", scores=(3.0, 2.0, 1.0), ill=True, **three)
    free = Findings("b", scores=(2.5,), hits=(False,), false=(True,), dice=(0,), ill=False)
    assert cut_at([ill, free], 0.5) == 3.0
    assert cut_at([ill, free], 1.0) == 2.0
    assert cut_at([ill, free], 0.4) == float("inf")
    low, high = interval([ill, free], lambda rows: float(np.mean([row.ill for row in rows])))
    assert low == 0.0
    assert high == 1.0


def test_findings_are_those_that_a_run_would_keep() -> None:
    case = searched(6)
    findings = findings_of(case, np.arange(len(case.iou), dtype=float))
    assert list(findings.scores) == sorted(findings.scores, reverse=True)
    assert len(findings.scores) > 1


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
        "modality": "CT", "truth": "truth.nii.gz", "patient": "p", "licence": "CC0",
    }  # fmt: skip
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    (read,) = rows_of(tmp_path / "cases.csv")
    case = read_case(tmp_path, read)
    assert len(case.lesions) == 1
    assert case.prior.modality == "CT"
    assert case.prior.volumes_mm3[0] < case.prior.volumes_mm3[1]
    assert search(case).lesion_iou[0] > 0.5
