"""A real little package, installed by pip, found by its entry points; broken ones named, others unharmed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.phantoms import phantom

from r2seg_agent.doctor import examine
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import LesionSpec
from r2seg_agent.plugins import ANCHOR_GROUP, SEGMENTER_GROUP, plugins
from r2seg_agent.reason.anchors.choose import anchor_source
from r2seg_agent.runs.api import FindOptions, run_find
from r2seg_agent.segment.registry import segmenter

EXAMPLE = Path(__file__).parents[1] / "data" / "plugin_example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the example package into; nothing is fetched."""
    source, target = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)  # a build leaves files behind
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(target), str(source)], check=True, timeout=120
    )
    return target


@pytest.fixture
def on_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(installed))
    return installed


def _broken(folder: Path, name: str, group: str, entries: dict[str, str], module: str = "") -> None:
    """An installed distribution as its metadata and one module, as pip would leave it."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entries.items()]
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")
    (folder / f"{name.replace('-', '_')}.py").write_text(module)


def test_the_package_is_found_with_its_version(on_path: Path) -> None:
    (found,) = plugins(SEGMENTER_GROUP)
    assert (found.name, found.package, found.version) == ("example-threshold", "r2seg-example", "0.3")
    assert [p.name for p in plugins(ANCHOR_GROUP)] == ["example-box"]


def test_its_option_reaches_it_and_a_slice_model_is_lifted(on_path: Path) -> None:
    made = segmenter("example-threshold:140")
    assert made.info.settings["threshold_hu"] == 140.0
    assert made.info.ndim == 3
    with pytest.raises(InputError, match="no number in HU"):
        segmenter("example-threshold:bright")
    assert anchor_source("example-box").organs("CT") == {"liver"}


def test_it_runs_a_whole_search(on_path: Path, tmp_path: Path) -> None:
    scan = phantom(11, lesions=(LesionSpec("liver", 12.0, 90.0),))
    write_itk(tmp_path / "ct.nii.gz", scan.volume.array, scan.volume.geometry)
    write_label_map(tmp_path / "truth.nii.gz", scan.lesions[0].astype(np.uint8), scan.volume.geometry)
    liver = float(np.median(scan.volume.array[scan.organ("liver")]))
    options = FindOptions(
        anchors="example-box",
        segmenter=f"example-threshold:{liver + 45:.0f}",
        modality="CT",
        truth=str(tmp_path / "truth.nii.gz"),
        workspace=tmp_path / "ws",
        synthetic=True,
    )
    report = run_find("find the liver lesion", str(tmp_path / "ct.nii.gz"), options).report
    assert report.segmenter is not None
    assert report.segmenter.name == "example-threshold"
    assert report.anchor_source is not None
    assert report.anchor_source.name == "example-box"
    assert report.outcome in ("lesions_found", "no_lesion_survived")
    assert report.targets[0].rounds


def test_a_broken_plugin_is_named_and_breaks_no_other(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _broken(tmp_path, "lacks-torch", SEGMENTER_GROUP, {"lacks": "lacks_torch:make"}, "import no_such_package\n")
    _broken(tmp_path, "no-model", SEGMENTER_GROUP, {"nothing": "no_model:make"}, "def make(option):\n    return 5\n")
    _broken(tmp_path, "no-call", SEGMENTER_GROUP, {"number": "no_call:make"}, "make = 5\n")
    _broken(tmp_path, "bad-organs", ANCHOR_GROUP, {"bad": "bad_organs:make"}, "def make(option):\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"`lacks` of package lacks-torch 1.0 fails: ModuleNotFoundError"):
        segmenter("lacks")
    with pytest.raises(MissingDependencyError, match="made a int, which is no segmenter: it lacks info, check"):
        segmenter("nothing")
    with pytest.raises(MissingDependencyError, match="is no function"):
        segmenter("number")
    with pytest.raises(MissingDependencyError, match=r"`bad` of package bad-organs 1.0 fails: ZeroDivisionError"):
        anchor_source("bad")
    assert segmenter("example-threshold").info.name == "example-threshold"
    parts = {part.name: part for part in examine()}
    assert parts["example-threshold"].ready
    assert "r2seg-example 0.3" in parts["example-threshold"].detail
    assert not parts["lacks"].ready
    assert "no_such_package" in parts["lacks"].detail
    assert not parts["bad"].ready
    assert parts["contrast"].ready


def test_doctor_survives_a_plugin_that_fails_when_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "class Late:\n"
        "    def check(self, *given): pass\n"
        "    encode = segment = check\n"
        "    @property\n"
        "    def info(self):\n"
        "        return type('Info', (), {'ndim': 3})()\n"
        "def make(option):\n"
        "    return Late()\n"
    )
    _broken(tmp_path, "late-failure", SEGMENTER_GROUP, {"late": "late_failure:make"}, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    part = next(p for p in examine() if p.name == "late")
    assert not part.ready
    assert "AttributeError" in part.detail


def test_two_packages_with_one_name(on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _broken(tmp_path, "copycat", SEGMENTER_GROUP, {"example-threshold": "copycat:make"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="two plug-ins have the same name.*copycat"):
        segmenter("example-threshold")


def test_a_plugin_cannot_take_the_name_of_what_is_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _broken(tmp_path, "thief", SEGMENTER_GROUP, {"contrast": "thief:make"}, "raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert segmenter("contrast").info.name == "contrast"
    part = next(p for p in examine() if "thief" in p.detail)
    assert not part.ready
    assert "built in" in part.detail


def test_an_unknown_name_lists_plugins_too(on_path: Path) -> None:
    with pytest.raises(InputError, match=r"nnunet:PATH.*example-threshold"):
        segmenter("segment-everything")
    with pytest.raises(InputError, match="example-box"):
        anchor_source("guesswork")
