"""Data sets as they lie on disk: recognised by their files, and nothing is guessed in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.small_case import GEOMETRY, ball_volume, small_options

from r2seg_agent.datasets.case import Wanted
from r2seg_agent.datasets.read import read_dataset
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_reference
from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.runs.api import run_find

LIVER = {"background": 0, "liver": 1, "cancer": 2}


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def _describe(folder: Path, **fields: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(fields))
    return folder


def _nnunet(folder: Path, labels: dict[str, object], channels: dict[str, str] | None = None) -> Path:
    named = channels or {"0": "CT"}
    for case in ("liver_000", "liver_001"):
        _touch(folder, *(f"imagesTr/{case}_{int(c):04d}.nii.gz" for c in named), f"labelsTr/{case}.nii.gz")
    _touch(folder, *(f"imagesTs/liver_100_{int(c):04d}.nii.gz" for c in named))
    return _describe(folder, channel_names=named, labels=labels, numTraining=2, file_ending=".nii.gz")


def _msd(folder: Path, modality: dict[str, str] | None = None, image: str = "./imagesTr/liver_0.nii.gz") -> Path:
    _touch(folder, "imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz", "imagesTs/liver_9.nii.gz")
    return _describe(
        folder,
        name="Liver",
        tensorImageSize="3D",
        modality=modality or {"0": "CT"},
        labels={"0": "background", "1": "liver", "2": "cancer"},
        training=[{"image": image, "label": "./labelsTr/liver_0.nii.gz"}],
        test=["./imagesTs/liver_9.nii.gz"],
    )


def test_nnunet_gives_lesion_as_truth_and_organ_with_lesion_as_anchor(tmp_path: Path) -> None:
    data = read_dataset(_nnunet(tmp_path, LIVER))
    label = tmp_path / "labelsTr" / "liver_000.nii.gz"
    assert data.layout == "nnunet"
    assert [case.patient for case in data.cases] == ["liver_000", "liver_001", "liver_100"]
    assert data.cases[0].image == str(tmp_path / "imagesTr" / "liver_000_0000.nii.gz")
    assert data.cases[0].truth == f"{label}::2"
    assert data.cases[0].anchors == f"{label}=values:1:liver,2:liver"
    assert data.cases[0].modality == "CT"
    assert (data.cases[2].truth, data.cases[2].anchors) == (None, None)
    assert any("label cancer (2)" in note for note in data.notes)
    assert any("2 in imagesTr (2 with truth), 1 in imagesTs (0 with truth)" in note for note in data.notes)


def test_what_the_user_names_comes_before_the_layout(tmp_path: Path) -> None:
    wanted = Wanted(anchors=False, modality=False, lesion_labels=("1",), only=("imagesTr/*",))
    first = read_dataset(_nnunet(tmp_path, LIVER), wanted=wanted).cases[0]
    assert first.anchors is None
    assert first.modality is None
    assert str(first.truth).endswith("::1")
    with pytest.raises(InputError, match="no label `gall`; there are: liver"):
        read_dataset(tmp_path, wanted=Wanted(lesion_labels=("gall",)))
    none = read_dataset(tmp_path, wanted=Wanted(lesion_labels=("none",)))
    assert {case.truth for case in none.cases} == {None}
    with pytest.raises(InputError, match="no scan of 3 fits --only"):
        read_dataset(tmp_path, wanted=Wanted(only=("*_T9.nii",)))


def test_labels_that_do_not_say_what_they_are_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"which label is the lesion.*class_a \(1\), class_b \(2\)"):
        read_dataset(_nnunet(tmp_path, {"background": 0, "class_a": 1, "class_b": 2}))


def test_lesions_of_several_kinds_need_a_request_or_a_choice(tmp_path: Path) -> None:
    kidney = {"background": 0, "kidney": [1, 2, 3], "tumor": 2, "cyst": 3}
    with pytest.raises(InputError, match="several labels are lesions of different kinds"):
        read_dataset(_nnunet(tmp_path, kidney))
    data = read_dataset(tmp_path, wanted=Wanted(request="find the kidney tumor"))
    assert str(data.cases[0].truth).endswith("::2")
    assert str(data.cases[0].anchors).endswith("=values:1:kidneys,2:kidneys,3:kidneys")
    assert any("not counted as lesion: cyst" in note for note in data.notes)


def test_an_organ_that_may_not_hold_the_lesion_is_no_anchor(tmp_path: Path) -> None:
    """Hepatic vessels: the tumour lies in the liver, which has no label."""
    _nnunet(tmp_path, {"background": 0, "Vessel": 1, "Tumour": 2})
    assert read_dataset(tmp_path, wanted=Wanted(request="find a liver tumour")).cases[0].anchors is None


def test_channels_of_a_case_are_given_by_name(tmp_path: Path) -> None:
    brats = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumor": 3}
    folder = _nnunet(tmp_path, brats, {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"})
    case = read_dataset(folder).cases[0]
    assert list(case.channels) == ["FLAIR", "T1w", "T1gd", "T2w"]
    assert case.channels["T1gd"].endswith("liver_000_0002.nii.gz")
    assert (case.modality, str(case.truth).rpartition("::")[2]) == ("MR", "1,2,3")
    (folder / "imagesTr" / "liver_001_0002.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case `liver_001` .* lacks channel 0002 \(T1gd\)"):
        read_dataset(folder)


def test_decathlon_pairs(tmp_path: Path) -> None:
    data = read_dataset(_msd(tmp_path))
    assert data.layout == "msd"
    assert data.cases[0].truth == f"{tmp_path / 'labelsTr' / 'liver_0.nii.gz'}::2"
    assert data.cases[1].truth is None
    assert [case.patient for case in data.cases] == ["liver_0", "liver_9"]


def test_four_dimensional_decathlon_images_are_searched_in_their_first_channel(tmp_path: Path) -> None:
    data = read_dataset(_msd(tmp_path, {"0": "T2", "1": "ADC"}), wanted=Wanted(only=("*.nii.gz",)))
    image = str(tmp_path / "imagesTr" / "liver_0.nii.gz")
    assert data.cases[0].image == f"{image}::1"
    assert dict(data.cases[0].channels) == {"T2": f"{image}::1", "ADC": f"{image}::2"}
    assert [case.patient for case in data.cases] == ["liver_0", "liver_9"]
    assert any("searched in `T2`" in note for note in data.notes)


@pytest.mark.parametrize("outside", ["../../etc/passwd", "/etc/passwd", "imagesTr/../../x.nii", "C:\\scan.nii"])
def test_a_data_set_cannot_name_files_outside_its_folder(tmp_path: Path, outside: str) -> None:
    with pytest.raises(InputError, match="outside the data set's folder"):
        read_dataset(_msd(tmp_path, image=outside))


def test_version_one_of_nnunet_is_nnunet(tmp_path: Path) -> None:
    """Its dataset.json lists images without the channel number that the files have."""
    _touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    _describe(tmp_path, modality={"0": "CT"}, labels={"0": "background", "1": "tumour"}, training=training)
    data = read_dataset(tmp_path)
    assert data.layout == "nnunet"
    assert str(data.cases[0].truth).endswith("a.nii.gz::1")


def _bids(folder: Path) -> Path:
    _touch(
        folder,
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-L_mask.nii.gz",
        "derivatives/manual/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
        "derivatives/fmriprep/sub-02/anat/sub-02_space-MNI152_label-lesion_mask.nii.gz",
    )
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t50\n")
    (folder / "sub-02" / "anat" / "sub-02_T1w.json").write_text('{"Modality": "PT"}')
    return folder


def test_bids_sessions_are_of_one_patient_and_masks_in_the_scans_own_space_are_truth(tmp_path: Path) -> None:
    data = read_dataset(_bids(tmp_path))
    assert data.layout == "bids"
    assert [case.patient for case in data.cases] == ["sub-02", "sub-01", "sub-01"]
    truths = {Path(case.image).name: case.truth for case in data.cases}
    assert str(truths["sub-01_ses-1_T1w.nii.gz"]).endswith("sub-01_ses-1_label-L_mask.nii.gz::1")
    assert truths["sub-02_T1w.nii.gz"] is None
    assert {Path(case.image).name: case.modality for case in data.cases}["sub-02_T1w.nii.gz"] == "PT"
    assert data.cases[1].modality == "MR"
    assert any("does not list 1 of them (first: sub-02)" in note for note in data.notes)


def test_bids_scans_of_several_kinds_are_not_mixed(tmp_path: Path) -> None:
    _touch(_bids(tmp_path), "sub-02/anat/sub-02_FLAIR.nii.gz")
    with pytest.raises(InputError, match="several kinds: 1 FLAIR, 3 T1w"):
        read_dataset(tmp_path)
    (case,) = read_dataset(tmp_path, wanted=Wanted(only=("*_FLAIR.nii.gz",))).cases
    assert case.patient == "sub-02"


def test_two_lesion_masks_of_a_scan_are_asked_for(tmp_path: Path) -> None:
    _touch(_bids(tmp_path), "derivatives/other/sub-01/ses-1/anat/sub-01_ses-1_desc-tumor_mask.nii.gz")
    with pytest.raises(InputError, match="has 2 lesion masks"):
        read_dataset(tmp_path)
    chosen = read_dataset(tmp_path, wanted=Wanted(lesion_labels=("tumor",)))
    assert sum("desc-tumor" in str(case.truth) for case in chosen.cases) == 1


def test_a_table_names_line_and_file(tmp_path: Path) -> None:
    _touch(tmp_path, "a.nii", "t.nii")
    table = tmp_path / "cases.csv"
    table.write_text("image,truth,channels\na.nii,t.nii::2,T2=t.nii\nmissing.nii,,\n")
    data = read_dataset(table)
    assert data.cases[0].truth == f"{tmp_path / 't.nii'}::2"
    assert data.cases[0].channels == {"T2": str(tmp_path / "t.nii")}
    assert data.notes == ("1 of 2 scans are missing; line 3: the scan `missing.nii` does not exist.",)
    table.write_text("image,request\na.nii,x\na.nii,y\na.nii,x\n")
    with pytest.raises(InputError, match=r"line 4 repeats line 2 \(`.*a.nii`\)"):
        read_dataset(table)
    table.write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(InputError, match="cannot read"):
        read_dataset(table)


def test_a_folder_with_its_own_list_is_read_by_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").touch()
    (tmp_path / "cases.csv").write_text("image,patient\nimages/a.nii.gz,p1\n")
    found = read_dataset(tmp_path)
    assert found.layout == "table"
    assert [(Path(case.image).name, case.patient) for case in found.cases] == [("a.nii.gz", "p1")]


def test_a_wrong_layout_says_what_it_lacks(tmp_path: Path) -> None:
    _touch(tmp_path, "a.nii")
    for layout, says in (("nnunet", "no dataset.json"), ("msd", "cannot read"), ("bids", "holds no case as BIDS")):
        with pytest.raises(InputError, match=says):
            read_dataset(tmp_path, layout=layout)  # type: ignore[arg-type]  # the tuple widens the literal


def test_values_of_a_label_map_are_truth_and_anchors(tmp_path: Path) -> None:
    """The organ's anchor has no hole where the lesion is; a map without the lesion is a lesion-free case."""
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 6:-6] = 1
    labels[8:16, 20:30, 20:30] = 2
    write_label_map(tmp_path / "seg.nii.gz", labels, GEOMETRY)
    truth = read_reference(f"{tmp_path / 'seg.nii.gz'}::2", GEOMETRY)
    assert np.array_equal(truth, labels == 2)
    assert not read_reference(f"{tmp_path / 'seg.nii.gz'}::7", GEOMETRY).any()
    anchors = MaskSource(f"{tmp_path / 'seg.nii.gz'}=values:1:liver,2:liver").locate(ball_volume(), ["liver"])
    assert np.isin(anchors.labels, anchors.names["liver"]).sum() == (labels > 0).sum()
    with pytest.raises(InputError, match="is not VALUE:ORGAN"):
        MaskSource(f"{tmp_path / 'seg.nii.gz'}=values:liver").organs("CT")


def test_a_whole_search_of_an_nnunet_case(tmp_path: Path) -> None:
    volume = ball_volume()
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 6:-6] = 1
    z, y, x = np.indices(GEOMETRY.shape)
    labels[((z - 12) * 3.0) ** 2 + ((y - 24) * 2.0) ** 2 + ((x - 26) * 2.0) ** 2 <= 11.0**2] = 2
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    write_volume(tmp_path / "imagesTr" / "liver_0_0000.nii.gz", volume)
    write_label_map(tmp_path / "labelsTr" / "liver_0.nii.gz", labels, GEOMETRY)
    _describe(tmp_path, channel_names={"0": "CT"}, labels=LIVER, numTraining=1, file_ending=".nii.gz")
    (case,) = read_dataset(tmp_path).cases
    report = run_find(
        "find a liver lesion",
        case.image,
        small_options(tmp_path, anchors=case.anchors, truth=case.truth, modality=case.modality, reject="paper"),
    ).report
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.dice is not None
    assert report.truth.dice > 0.7
    trace = (tmp_path / "ws" / "runs" / report.run_id / "trace.jsonl").read_text()
    assert str(tmp_path) not in trace
