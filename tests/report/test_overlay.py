"""The picture shows what it says, by the colours in it, and is the same bytes for the same input."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.report import canvas
from r2seg_agent.report.overlay import MAX_ROWS, WIDTH_IN, best_rejected, draw_overlay, draw_slice
from r2seg_agent.report.scene import Scene, display_window


def picture(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def n_pixels(rgb: np.ndarray, colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(rgb - wanted).max(axis=2) <= 12).sum())


def test_findings_anchor_rois_and_truth_are_outlined(tmp_path, volume, anchors, labels, make_report):
    report = make_report(labels)
    draw_overlay(tmp_path / "a.png", volume, report, anchors=anchors, labels=labels, truth=labels)
    rgb = picture(tmp_path / "a.png")
    assert rgb.shape[1] == WIDTH_IN * canvas.DPI
    for colour in (canvas.FINDING, canvas.ANCHOR, canvas.ROI_BOX, canvas.TRUTH, canvas.INK):
        assert n_pixels(rgb, colour) > 100, colour
    assert n_pixels(rgb, canvas.REJECTED) == 0
    assert n_pixels(rgb, canvas.SYNTHETIC) == 0

    draw_overlay(tmp_path / "b.png", volume, report, labels=labels)
    bare = picture(tmp_path / "b.png")
    assert n_pixels(bare, canvas.TRUTH) == 0
    assert n_pixels(bare, canvas.ANCHOR) == 0


def test_same_input_same_bytes_whatever_the_users_style(tmp_path, volume, anchors, labels, make_report):
    import matplotlib as mpl

    report = make_report(labels)
    draw_overlay(tmp_path / "a.png", volume, report, anchors=anchors, labels=labels)
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "image.cmap": "jet", "figure.dpi": 33}):
        draw_overlay(tmp_path / "b.png", volume, report, anchors=anchors, labels=labels)
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert set(Image.open(tmp_path / "a.png").info) <= {"dpi"}


def test_matplotlib_loads_when_a_picture_is_drawn_and_pyplot_never(tmp_path):
    code = """
import sys, numpy as np
from pathlib import Path
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.report.overlay import draw_slice
from r2seg_agent.report.scene import Scene
import r2seg_agent.report.table, r2seg_agent.report.writers
assert not {"matplotlib", "rich", "torch"} & set(sys.modules)
volume = Volume(np.zeros((3, 9, 9), np.int16), Geometry(shape=(3, 9, 9), spacing_mm=(1, 1, 1)), "CT", "HU")
draw_slice(Path(sys.argv[1]), Scene(volume, (0, 1)), "axial", 1)
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)


def test_a_synthetic_image_carries_a_banner(tmp_path, volume, anchors, labels, make_report):
    draw_overlay(tmp_path / "a.png", volume, make_report(labels, synthetic=True), anchors=anchors, labels=labels)
    assert n_pixels(picture(tmp_path / "a.png"), canvas.SYNTHETIC) > 50_000


def test_without_findings_the_best_rejected_are_dashed(tmp_path, volume, anchors, labels, make_report):
    report = make_report(labels, found=False)
    best = best_rejected(report.targets[0])
    assert [c.id for c in best] == ["t1r1c1", "t1r1c2"]  # by score
    masks = {c.id: (labels == c.label)[c.box.slices] for c in best}
    draw_overlay(tmp_path / "a.png", volume, report, anchors=anchors, rejected=masks)
    rgb = picture(tmp_path / "a.png")
    assert n_pixels(rgb, canvas.REJECTED) > 200
    draw_overlay(tmp_path / "b.png", volume, report, anchors=anchors)  # nothing to outline: still a picture
    assert n_pixels(picture(tmp_path / "b.png"), canvas.REJECTED) == 0


def test_many_findings_are_cut_with_a_line(tmp_path, volume, anchors, make_report):
    labels = np.zeros(volume.array.shape, dtype=np.uint8)
    for number in range(1, MAX_ROWS + 4):
        labels[3 + number, 20:24, 10:14] = number
    draw_overlay(tmp_path / "many.png", volume, make_report(labels), anchors=anchors, labels=labels)
    few = np.where(labels <= MAX_ROWS, labels, 0)
    draw_overlay(tmp_path / "few.png", volume, make_report(few), anchors=anchors, labels=few)
    height, height_few = (Image.open(tmp_path / f"{n}.png").height for n in ("many", "few"))
    assert 0 < height - height_few < 60  # one line of text more, no row more


def test_a_finding_without_anchor_or_roi_or_target_in_view_still_draws(tmp_path, volume, labels, make_report):
    report = make_report(labels, found=False)
    target = report.targets[0].model_copy(update={"rounds": (), "outcome": "target_not_in_view"})
    draw_overlay(tmp_path / "a.png", volume, report.model_copy(update={"targets": (target,)}))
    assert picture(tmp_path / "a.png").std() > 10


def test_millimetres_are_square_on_anisotropic_grids(tmp_path):
    """A 40 mm ball looks round in the coronal plane of 8 mm slices: its outline is as wide as high."""
    geometry = Geometry(shape=(20, 80, 80), spacing_mm=(8.0, 2.0, 2.0))
    points = np.stack(np.indices(geometry.shape), -1) * np.asarray(geometry.spacing_mm)
    ball = np.linalg.norm(points - (80, 80, 80), axis=-1) <= 40
    volume = Volume(np.zeros(geometry.shape, dtype=np.int16), geometry, "CT", "HU")
    scene = Scene(volume, (-100, 100), labels=ball.astype(np.uint8), names={1: ""})
    draw_slice(tmp_path / "a.png", scene, "coronal", 40)
    rgb = picture(tmp_path / "a.png")
    wanted = [int(canvas.FINDING[i : i + 2], 16) for i in (1, 3, 5)]
    rows, columns = np.nonzero(np.abs(rgb - wanted).max(axis=2) <= 12)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.15)


def test_radiological_convention(tmp_path):
    """A bright left side of the patient is on the right of the axial and the coronal picture."""
    geometry = Geometry(shape=(10, 20, 30), spacing_mm=(2, 2, 2), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    array = np.zeros(geometry.shape, dtype=np.int16)
    array[:, :, :15] = 1000  # low x is left, for x runs to the right
    scene = Scene(Volume(array, geometry, "CT", "HU"), (0, 1000))
    for plane in ("axial", "coronal"):
        draw_slice(tmp_path / "a.png", scene, plane, 5)
        grey = picture(tmp_path / "a.png").mean(axis=2)
        columns = np.flatnonzero((grey > 240).sum(axis=0) > 30)
        dark = np.flatnonzero((grey < 3).sum(axis=0) > 30)
        assert dark.size
        assert columns.min() > np.median(dark)


def test_a_picture_without_millimetres(tmp_path):
    array = np.tile(np.linspace(0, 255, 200, dtype=np.uint8), (150, 1))[None]
    volume = Volume(
        array, Geometry(shape=(1, 150, 200), spacing_mm=(1, 1, 1), known_spacing="none"), "photo", "arbitrary"
    )
    labels = np.zeros(array.shape, dtype=np.uint8)
    labels[0, 60:80, 90:120] = 1
    draw_slice(tmp_path / "a.png", Scene(volume, (0, 255), labels=labels), "image", 0, note="finding 1")
    assert n_pixels(picture(tmp_path / "a.png"), canvas.FINDING) > 100
    with pytest.raises(ValueError, match="no plane `axial`"):
        draw_slice(tmp_path / "a.png", Scene(volume, (0, 255)), "axial", 0)
    with pytest.raises(ValueError, match="allowed are 0 to 0"):
        draw_slice(tmp_path / "a.png", Scene(volume, (0, 255)), "image", 1)


def test_only_slices_are_copied(tmp_path, anchors, make_report, labels, volume):
    """The peak of new memory stays far below one copy of a large volume."""
    shape = (200, 400, 400)
    geometry = Geometry(shape=shape, spacing_mm=(1, 1, 1))
    array = np.zeros(shape, dtype=np.int16)
    scene = Scene(
        Volume(array, geometry, "CT", "HU"),
        (-100, 100),
        AnchorSet(np.ones(shape, dtype=np.uint8), {"liver": (1,)}, geometry, anchors.info),
        ("liver",),
        np.zeros(shape, dtype=np.uint8),
        rois=(Box(start=(5, 5, 5), stop=(190, 390, 390)),),
    )
    draw_slice(tmp_path / "a.png", scene, "sagittal", 3)  # imports and caches
    tracemalloc.start()
    try:
        draw_slice(tmp_path / "a.png", scene, "sagittal", 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_window_of_the_plan_or_percentiles(volume):
    assert display_window(volume, (-5.0, 7.0)) == (-5.0, 7.0)
    bright = replace(volume, array=np.where(volume.array > 0, 500, 0).astype(np.int16))
    low, high = display_window(bright, None)
    assert low == pytest.approx(500)
    assert high > low
