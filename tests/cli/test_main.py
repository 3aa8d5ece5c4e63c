"""The command as a person meets it: help, answers, files, and every broken input with a message and a status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.broken_inputs import BROKEN, BrokenInput
from helpers.phantoms import liver_phantom

from r2seg_agent.cli.main import main
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.version import __version__


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def r2seg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["r2seg", *arguments])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("scan")
    phantom = liver_phantom()
    write_itk(folder / "ct.nrrd", phantom.volume.array, phantom.volume.geometry)
    write_label_map(folder / "organs.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    write_label_map(folder / "truth.nrrd", phantom.lesions[0].astype(np.uint8), phantom.volume.geometry)
    return {name.split(".")[0]: str(folder / name) for name in ("ct.nrrd", "organs.nii.gz", "truth.nrrd")}


@pytest.mark.parametrize("verb", [(), ("find",), ("data",), ("doctor",), ("data", "fetch")])
def test_every_verb_explains_itself(r2seg, verb: tuple[str, ...]) -> None:
    ran = r2seg(*verb, "--help")
    assert ran.status == 0
    assert "Usage" in ran.out


def test_version(r2seg) -> None:
    assert r2seg("--version") == Ran(0, f"r2seg {__version__}\n", "")


def test_an_answer_with_tables_and_files(r2seg, scan: dict[str, str], tmp_path: Path) -> None:
    ran = r2seg(
        "find", "find a liver lesion", "--image", scan["ct"], "--anchors", scan["organs"], "--truth", scan["truth"],
        "--modality", "CT", "--synthetic", "--out", "results", "--mask-format", "same",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    for words in ("Findings", "SYNTHETIC", "Against the reference mask", "not a medical device", "stand-in", "results"):
        assert words in ran.out
    assert "· segment" in ran.err
    names = {path.name for path in (tmp_path / "results").iterdir()}
    results = {"findings.csv", "lesions.nrrd", "overlay.png", "plan.json", "report.json", "report.md", "trace.jsonl"}
    assert names == results
    # The written plan can be edited and passed back.
    plan = json.loads((tmp_path / "results" / "plan.json").read_text())
    plan["plans"][0]["padding_mm"] = 25.0
    (tmp_path / "edited.json").write_text(json.dumps(plan))
    again = r2seg(
        "find", "find a liver lesion", "--image", scan["ct"], "--anchors", scan["organs"], "--modality", "CT",
        "--plan", "edited.json", "--json",
    )  # fmt: skip
    assert again.status == 0, again.err
    assert json.loads(again.out)["targets"][0]["rounds"][0]["padding_mm"] == 25.0


def test_quiet_prints_the_answer_and_no_progress(r2seg, scan: dict[str, str]) -> None:
    arguments = ("find", "find a liver lesion", "-i", scan["ct"], "-a", scan["organs"], "--modality", "CT", "--quiet")
    ran = r2seg(*arguments)
    assert ran.status == 0
    assert ran.err == ""
    assert "liver" in ran.out


def test_a_question_comes_back_with_choices_and_status_2(r2seg, scan: dict[str, str]) -> None:
    ran = r2seg("find", "find it", "-i", scan["ct"], "-a", scan["organs"], "--modality", "CT")
    assert ran.status == 2
    assert "·" in ran.out


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_broken_input_ends_with_a_message_and_status_2(r2seg, broken: BrokenInput, tmp_path: Path) -> None:
    path = broken.make(tmp_path)
    if broken.as_mask:
        image = tmp_path / "good.nii.gz"
        geometry = Geometry(shape=(6, 8, 8), spacing_mm=(2.0, 1.0, 1.0))
        write_itk(image, np.arange(6 * 8 * 8, dtype=np.int16).reshape(6, 8, 8), geometry)
        ran = r2seg("find", "find the lung nodule", "-i", str(image), "--truth", str(path), "--modality", "CT", "-q")
    else:
        ran = r2seg("find", "find the lung nodule", "--image", str(path), "--anchors", "hounsfield", "--quiet")
    assert ran.status == 2, ran.out + ran.err
    assert ran.err.startswith("r2seg: ")
    assert "Traceback" not in ran.err
    assert len(ran.err) > 30
    assert ran.out == ""
    assert not (tmp_path / ".r2seg").exists(), "the input is checked before the workspace is made"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--anchors", "no-such-source"), "neither an existing file"),
        (("--anchors", "totalsegmentator:slow"), "full, fast, fastest"),
        (("--segmenter", "medsam"), "there is no segmenter `medsam`"),
        (("--modality", "XYZ"), "CT, MR"),
        (("--alpha", "1.5"), "alpha"),
        (("--plan", "missing.json"), "plan"),
        (("--calibration", "missing.json", "--reject", "conformal"), "calibration"),
        (("--reject", "conformal"), "calibration"),
        (("--truth", "missing.nii.gz"), "missing.nii.gz"),
        (("--series", "7"), "series"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_options_say_what_is_allowed(r2seg, scan: dict[str, str], arguments: tuple[str, ...], words: str) -> None:
    ran = r2seg("find", "find a liver lesion", "--image", scan["ct"], "--anchors", scan["organs"], *arguments, "-q")
    assert ran.status == 2, ran.out
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_an_empty_request_is_refused(r2seg, scan: dict[str, str]) -> None:
    assert r2seg("find", "  ", "--image", scan["ct"]).status == 2


def test_missing_weights_end_with_status_3_and_how_to_get_them(
    r2seg, scan: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    ran = r2seg(
        "find", "find the pancreatic lesion", "-i", scan["ct"], "-a", "totalsegmentator:fast", "--modality", "CT", "-q"
    )
    assert ran.status == 3
    assert "297" in ran.err
    assert "totalseg_download_weights" in ran.err


def test_a_bug_is_a_message_a_status_and_a_kept_trace(
    r2seg, scan: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("Mrs Smith")

    monkeypatch.setattr("r2seg_agent.report.files.write_results", broken)
    ran = r2seg("find", "find a liver lesion", "-i", scan["ct"], "-a", scan["organs"], "--modality", "CT", "-q")
    assert ran.status == 5
    assert "unexpected ZeroDivisionError" in ran.err
    assert "Traceback" not in ran.err
    (trace,) = (tmp_path / ".r2seg" / "runs").glob("*/trace.jsonl")
    last = trace.read_text().splitlines()[-1]
    assert "ZeroDivisionError" in last
    assert "Smith" not in last


def test_data_list_names_every_scan_and_licence(r2seg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    rows = json.loads(r2seg("data", "list", "--json").out)
    assert {"lung1", "lung2", "brain1", "abdomen", "abdomen-synthetic"} <= set(rows)
    assert all(row["licence"] and not row["fetched"] for row in rows.values())
    assert "lung1" in r2seg("data", "list").out


def test_an_unknown_scan_lists_the_known_ones(r2seg) -> None:
    ran = r2seg("data", "fetch", "lung9")
    assert ran.status == 2
    assert "lung1" in ran.err


def test_doctor_says_how_to_get_what_is_missing(r2seg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    parts = {part["name"]: part for part in json.loads(r2seg("doctor", "--json").out)}
    assert parts["contrast"]["ready"]
    assert "stand-in" in parts["contrast"]["detail"]
    missing = parts["totalsegmentator:fast CT"]
    assert not missing["ready"]
    assert missing["fix"]
    assert "r2seg data fetch" in parts["demo scans"]["fix"]
    assert "contrast" in r2seg("doctor").out
