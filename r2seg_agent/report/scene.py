"""Which slices of a scan show a finding best, and what is outlined on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Index3
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.imaging.window import percentile_window
from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.report import canvas
from r2seg_agent.report.canvas import Outline, Panel, View
from r2seg_agent.report.diameters import in_plane_diameters
from r2seg_agent.report.organ_index import organ_index
from r2seg_agent.report.planes import Plane, axial_axis, planes

WINDOW_SAMPLE = 500_000
"""Voxels looked at for a percentile window."""
CONTEXT_MM = 20.0
"""Shown around the ROIs in the wide panels."""
ZOOM_FACTOR, ZOOM_MIN_MM = 2.5, 40.0
"""The enlargement is this many times the finding's size, and at least so wide; pixels where there are no mm."""


@dataclass(frozen=True)
class Scene:
    """A scan with everything that may be outlined on it. Label maps and masks are (z, y, x) on the image grid."""

    volume: Volume
    window: tuple[float, float]
    anchors: AnchorSet | None = None
    organs: tuple[str, ...] = ()
    labels: NDArray[np.integer] | None = None
    truth: NDArray[np.integer] | None = None
    rois: tuple[Box, ...] = ()
    names: dict[int, str] = field(default_factory=dict)


def display_window(volume: Volume, window: tuple[float, float] | None) -> tuple[float, float]:
    """The plan's window, else the 0.5–99.5 percentile of voxels > 0 (of all voxels where none is), from a sample
    on a regular grid so that it is the same every time."""
    if window is not None:
        return window
    axes = sum(n > 1 for n in volume.geometry.shape)
    step = max(1, round((volume.array.size / WINDOW_SAMPLE) ** (1 / max(1, axes))))
    return percentile_window(volume.array[tuple(slice(None, None, step if n > 1 else 1) for n in volume.array.shape)])


def finding_panels(scene: Scene, finding: Finding) -> tuple[Panel, ...]:
    """The wide planes through `finding`, then its enlargement in the measuring plane with both diameters.

    Each shows `slice_of_finding`.
    """
    assert scene.labels is not None  # findings come with their label map
    m = finding.measurements
    mask: Mask = np.asarray(scene.labels[m.box.slices] == finding.number)
    volume = scene.volume
    axis = axial_axis(volume.geometry)
    panels = [
        slice_panel(scene, plane, slice_of_finding(scene, finding, plane), strong=finding.number)
        for plane in planes(volume)
    ]
    measuring = next(plane for plane in planes(volume) if plane.slice_axis == axis)
    d = in_plane_diameters(mask, volume.geometry.spacing_mm, axis)
    rows, cols = sorted({0, 1, 2} - {axis})
    offset = (m.box.start[rows], m.box.start[cols])
    lines = tuple(
        ((a[0] + offset[0], a[1] + offset[1]), (b[0] + offset[0], b[1] + offset[1]))
        for a, b in (d.longest_ends, d.perpendicular_ends)
    )
    if measuring.row_axis > measuring.col_axis:
        lines = tuple(((a[1], a[0]), (b[1], b[0])) for a, b in lines)
    return (*panels, zoom_panel(scene, measuring, m.diameter_slice, m.box, lines))


def slice_of_finding(scene: Scene, finding: Finding, plane: Plane) -> int:
    """The one slice of a plane that stands for `finding` (0-based): that of the longest diameter in the measuring
    plane, the one with most of the finding in others.
    """
    assert scene.labels is not None  # findings come with their label map
    m = finding.measurements
    if plane.slice_axis == axial_axis(scene.volume.geometry):
        return m.diameter_slice
    mask = scene.labels[m.box.slices] == finding.number
    areas = mask.sum(axis=tuple(a for a in range(3) if a != plane.slice_axis))
    return m.box.start[plane.slice_axis] + int(areas.argmax())


def nothing_panels(scene: Scene, rejected: Sequence[tuple[Candidate, Mask]]) -> tuple[Panel, ...]:
    """The wide planes through the middle of the anchor with the shadows of `rejected` candidates, best first, then
    the best one enlarged."""
    centre = middle_of(scene)
    shape = scene.volume.geometry.shape
    panels: list[Panel] = []
    for plane in planes(scene.volume):
        shadows = [
            Outline(
                _on_slice(plane.project(mask), canvas.view_of(c.box, plane, shape), plane, shape),
                canvas.REJECTED, 1.0, "dashed", c.id,
            )
            for c, mask in rejected
        ]  # fmt: skip
        panels.append(slice_panel(scene, plane, centre[plane.slice_axis], extra=shadows))
    if rejected:
        candidate, mask = rejected[0]
        axis = axial_axis(scene.volume.geometry)
        plane = next(plane for plane in planes(scene.volume) if plane.slice_axis == axis)
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        at = int(areas.argmax())
        outline = Outline(
            _on_slice(plane.take(mask, at), canvas.view_of(candidate.box, plane, shape), plane, shape),
            canvas.REJECTED, 1.4, "dashed",
        )  # fmt: skip
        zoom = zoom_panel(scene, plane, candidate.box.start[axis] + at, candidate.box, extra=(outline,))
        panels.append(zoom)
    return tuple(panels)


def rejected_outline(scene: Scene, plane: Plane, index: int, candidate: Candidate, mask: Mask) -> Outline:
    """A rejected candidate on slice `index`, dashed; `mask` (z, y, x) covers its box."""
    shape = scene.volume.geometry.shape
    within = index - candidate.box.start[plane.slice_axis]
    view = canvas.view_of(candidate.box, plane, shape)
    return Outline(_on_slice(plane.take(mask, within), view, plane, shape), canvas.REJECTED, 1.4, "dashed", "rejected")


def slice_panel(
    scene: Scene, plane: Plane, index: int, *, strong: int | None = None, extra: Sequence[Outline] = ()
) -> Panel:
    """One slice, cut to the ROIs and some context, with anchor, truth and findings outlined."""
    return Panel(
        volume=scene.volume,
        plane=plane,
        index=index,
        window=scene.window,
        outlines=(*_outlines(scene, plane, index, strong), *extra),
        rois=scene.rois,
        view=_wide_view(scene, plane),
        title=_slice_title(scene.volume, plane, index),
    )


def zoom_panel(
    scene: Scene,
    plane: Plane,
    index: int,
    box: Box,
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
    extra: Sequence[Outline] = (),
) -> Panel:
    """A square enlargement around `box`, image smoothed, without the ROIs."""
    outlines = [*_outlines(scene, plane, index, None), *extra]
    return Panel(
        volume=scene.volume,
        plane=plane,
        index=index,
        window=scene.window,
        outlines=[o._replace(width=max(1.3, o.width), label="") for o in outlines],
        lines=lines,
        view=_zoom_view(scene.volume, plane, box),
        title=f"enlarged {plane.name}" if plane.letters[0] else "enlarged",
        smooth=True,
    )


def _outlines(scene: Scene, plane: Plane, index: int, strong: int | None) -> list[Outline]:
    box = _slice_box(plane, index, scene.volume.geometry.shape)
    found: list[Outline] = []
    if scene.anchors is not None and scene.organs:
        found.append(Outline(plane.take(scene.anchors.mask(scene.organs, box), 0), canvas.ANCHOR, 0.8))
    if scene.truth is not None:
        found.append(Outline(plane.take(scene.truth, index) != 0, canvas.TRUTH, 1.0))
    if scene.labels is not None:
        labels = plane.take(scene.labels, index)
        for value in np.unique(labels[labels != 0]).tolist():
            name = scene.names.get(value, str(value))
            width = 1.3 if strong in (None, value) else 0.8
            found.append(Outline(labels == value, canvas.FINDING, width, "solid", name))
    return found


def _slice_box(plane: Plane, index: int, shape: Index3) -> Box:
    start, stop = [0, 0, 0], list(shape)
    start[plane.slice_axis], stop[plane.slice_axis] = index, index + 1
    return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))


def _on_slice(mask: NDArray[np.bool_], view: View, plane: Plane, shape: Index3) -> NDArray[np.bool_]:
    whole = np.zeros((shape[plane.row_axis], shape[plane.col_axis]), dtype=bool)
    whole[view.row_start : view.row_stop, view.col_start : view.col_stop] = mask
    return whole


def _slice_title(volume: Volume, plane: Plane, index: int) -> str:
    n = volume.geometry.shape[plane.slice_axis]
    return "" if n == 1 else f"{plane.name} {index + 1}/{n}"


def _wide_view(scene: Scene, plane: Plane) -> View | None:
    """The ROIs and `CONTEXT_MM` around them; the whole slice where there are no ROIs or no millimetres."""
    geometry = scene.volume.geometry
    if not scene.rois or geometry.known_spacing == "none":
        return None
    around = scene.rois[0]
    for box in scene.rois[1:]:
        around = around.union(box)
    dz, dy, dx = (round(CONTEXT_MM / s) for s in geometry.spacing_mm)
    return canvas.view_of(around.dilated((dz, dy, dx), geometry.shape), plane, geometry.shape)


def _zoom_view(volume: Volume, plane: Plane, box: Box) -> View:
    """A square in mm around the middle of `box`, moved inside the slice where it would stick out."""
    shape, spacing = volume.geometry.shape, volume.geometry.spacing_mm
    view = canvas.view_of(box, plane, shape)
    sy, sx = spacing[plane.row_axis], spacing[plane.col_axis]
    height, width = view.size((sy, sx))
    side = max(ZOOM_FACTOR * max(height, width), ZOOM_MIN_MM)
    rows = _span(view.row_start, view.row_stop, side / sy, shape[plane.row_axis])
    cols = _span(view.col_start, view.col_stop, side / sx, shape[plane.col_axis])
    return View(*rows, *cols)


def _span(start: int, stop: int, length: float, n: int) -> tuple[int, int]:
    size = min(n, max(1, round(length)))
    first = min(max(0, round((start + stop) / 2 - size / 2)), n - size)
    return first, first + size


def middle_of(scene: Scene) -> Index3:
    """The middle (z, y, x) of the anchor's box, else of the ROIs', else of the image."""
    box: Box | None = None
    if scene.anchors is not None:
        extents = [organ_index(scene.anchors).extent(organ) for organ in scene.organs]
        for extent in extents:
            if extent is not None:
                box = extent.box if box is None else box.union(extent.box)
    for roi in scene.rois if box is None else ():
        box = roi if box is None else box.union(roi)
    box = box or scene.volume.geometry.full_box
    z, y, x = ((a + b - 1) // 2 for a, b in zip(box.start, box.stop, strict=True))
    return z, y, x
