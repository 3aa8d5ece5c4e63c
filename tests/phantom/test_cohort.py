"""A cohort is decided by its seed, extends without change, and is written so that the other verbs take it as it is."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.datasets.read import read_cases
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.phantom.cohort import Cohort, make_case, plan_cohort
from r2seg_agent.phantom.files import DESCRIP_AT, imperfect, write_cohort
from r2seg_agent.reason.anchors.masks import MaskSource

SMALL = Cohort(seed=3, view="core", spacing_mm=(6.0, 6.0, 6.0), volume_ml=(3.0, 8.0))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "set"
    write_cohort(SMALL.model_copy(update={"lesion_free_share": 0.4}), 4, out)
    return out


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_longer_cohort_begins_with_the_same_patients():
    assert plan_cohort(SMALL, 12)[:5] == plan_cohort(SMALL, 5)
    assert plan_cohort(SMALL.model_copy(update={"seed": 4}), 5) != plan_cohort(SMALL, 5)


def test_wishes_are_kept():
    wished = SMALL.model_copy(
        update={"contrast": (-60.0, -20.0), "noise_sd": (8.0, 20.0), "kernel": None, "lesions": (1, 3)}
    )
    cases = plan_cohort(wished, 60)
    assert all(3 <= v <= 8 for case in cases for v in case.volumes_ml)
    assert all(-60 <= c <= -20 for case in cases for c in case.contrasts)
    assert all(case.noise_sd is not None and 8 <= case.noise_sd <= 20 for case in cases)
    assert {len(case.volumes_ml) for case in cases} == {1, 2, 3}
    assert {case.kernel for case in cases} == {"soft", "standard", "sharp"}
    assert len({case.habitus for case in cases}) >= 3
    free = plan_cohort(SMALL.model_copy(update={"lesion_free_share": 0.5}), 200)
    assert 70 < sum(not case.volumes_ml for case in free) < 130


def test_the_files_are_a_data_set(written: Path):
    cases = read_cases(written / "cases.csv")
    assert [case.patient for case in cases] == [f"phantom-{n:05d}" for n in range(1, 5)]
    lesions = _table(written / "lesions.csv")
    for case in cases:
        volume = read_image(Path(case.image), modality="CT")
        assert case.request == "find a liver lesion"
        assert case.anchors is not None
        assert case.truth is not None
        source = MaskSource(case.anchors)
        assert "liver" in source.organs("CT")
        liver = source.locate(volume, ["liver"])
        assert liver.labels.shape == volume.array.shape
        truth = read_label_map(Path(case.truth), volume.geometry, may_be_empty=True)
        own = [row for row in lesions if row["case"] == case.patient]
        assert truth.max() == len(own)
        for row in own:
            ml = float((truth == int(row["lesion"])).sum()) * volume.geometry.voxel_volume_mm3 / 1000
            assert ml == pytest.approx(float(row["truth_ml"]), rel=1e-3)
            assert ml == pytest.approx(float(row["volume_ml"]), rel=0.2)
    assert {len([r for r in lesions if r["case"] == c.patient]) for c in cases} == {0, 1}, "with and without lesions"


def test_every_image_says_that_it_is_synthetic(written: Path):
    for path in (written / "images").iterdir():
        header = gzip.decompress(path.read_bytes())[DESCRIP_AT : DESCRIP_AT + 80]
        assert header.startswith(b"SYNTHETIC")
    assert "SYNTHETIC" in (written / "phantom.json").read_text(encoding="utf-8")


def test_what_is_there_is_not_drawn_again_and_bytes_do_not_depend_on_the_way(written: Path, tmp_path: Path):
    cohort = SMALL.model_copy(update={"lesion_free_share": 0.4})
    files = sorted((written / "images").iterdir())
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    (written / "done" / "phantom-00002.json").unlink()  # as after a kill
    (written / "images" / "phantom-00002.nii.gz").unlink()
    again = write_cohort(cohort, 4, written)
    assert again.n_before == 3
    assert (written / "images" / "phantom-00002.nii.gz").read_bytes() == before["phantom-00002.nii.gz"][0]
    kept = written / "images" / "phantom-00001.nii.gz"
    assert kept.stat().st_mtime_ns == before["phantom-00001.nii.gz"][1]
    parallel = tmp_path / "parallel"
    write_cohort(cohort, 2, parallel, workers=2)
    assert (parallel / "images" / "phantom-00002.nii.gz").read_bytes() == before["phantom-00002.nii.gz"][0]


def test_a_folder_of_other_phantoms_is_refused(written: Path, tmp_path: Path):
    with pytest.raises(InputError, match="seed 3 there, 9 now"):
        write_cohort(SMALL.model_copy(update={"seed": 9, "lesion_free_share": 0.4}), 1, written)
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="not empty"):
        write_cohort(SMALL, 1, tmp_path)


def test_anchor_errors_are_of_the_size_asked_for():
    labels = np.zeros((40, 60, 60), dtype=np.uint8)
    labels[10:30, 15:45, 15:45] = 5
    off = imperfect(labels, (2.0, 1.0, 1.0), 1.5, seed=1)
    assert np.array_equal(imperfect(labels, (2.0, 1.0, 1.0), 0.0, seed=1), labels)
    line = (off[20, 30] == 5).argmax() - 15
    assert abs(line) <= 5
    changed = np.mean((off == 5) != (labels == 5)) / np.mean(labels == 5)
    assert 0.03 < changed < 0.35
    edges = (off[11:29, 16:44] == 5).argmax(axis=2).astype(float)
    assert 0.6 < edges.std() < 2.6


def test_the_organs_grey_value_can_be_set():
    wished = SMALL.model_copy(update={"phase": "native", "organ_grey": (70.0, 70.0), "lesions": (0, 0)})
    phantom = make_case(wished, plan_cohort(wished, 1)[0]).phantom
    assert np.median(phantom.volume.array[phantom.organ("liver")]) == pytest.approx(70, abs=4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"looks": ("furry",)}, "no look"),
        ({"volume_ml": (5.0, 1.0)}, "goes from 5 to 1"),
        ({"organ": "lung"}, "too little lung"),
        ({"view": "chest"}, "does not show the liver"),
        ({"volume_ml": (0.0, 1.0)}, "must be positive"),
    ],
)
def test_impossible_wishes_are_refused(change: dict[str, object], words: str):
    with pytest.raises(InputError, match=words):
        Cohort.model_validate({**SMALL.model_dump(), **change})


def test_a_lesion_that_fits_no_patient_is_an_error_that_says_so():
    huge = SMALL.model_copy(update={"organ": "pancreas", "volume_ml": (400.0, 400.0)})
    with pytest.raises(InputError, match="no phantom of"):
        make_case(huge, plan_cohort(huge, 1)[0])
