"""One slice as a panel: grey image, outlines, boxes, orientation letters, scale bar. matplotlib's object API only."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.report.planes import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND = "#0d1014"
INK = "#e8eaed"
MUTED = "#98a1ad"
FINDING = "#ffb224"
ANCHOR = "#53c7f0"
ROI_BOX = "#8b97a8"
TRUTH = "#6ee787"
REJECTED = "#d19bff"
SYNTHETIC = "#ff6b57"

MAX_PIXELS = 1200
"""Slices longer than this are averaged down before they are drawn: no picture shows more, and memory stays bounded."""
DPI = 150

LineStyle = Literal["solid", "dashed"]


class View(NamedTuple):
    """A rectangle of a turned slice in display pixels, half-open: rows, then columns."""

    row_start: int
    row_stop: int
    col_start: int
    col_stop: int

    def size(self, spacing: tuple[float, float]) -> tuple[float, float]:
        """(height, width) in mm or px."""
        return (self.row_stop - self.row_start) * spacing[0], (self.col_stop - self.col_start) * spacing[1]


class Outline(NamedTuple):
    """A mask to outline: rows × columns of the whole turned slice."""

    mask: NDArray[np.bool_]
    colour: str
    width: float = 1.0
    style: LineStyle = "solid"
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """What to draw on one slice; `rois` are boxes of the image grid, `lines` are in (row, column) image indices."""

    volume: Volume
    plane: Plane
    index: int
    window: tuple[float, float]
    outlines: Sequence[Outline] = ()
    rois: Sequence[Box] = ()
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()
    view: View | None = None
    title: str = ""
    smooth: bool = False

    @property
    def spacing(self) -> tuple[float, float]:
        """Display (row, column) spacing in mm, or 1 px where the image has none."""
        s = self.volume.geometry.spacing_mm
        return s[self.plane.row_axis], s[self.plane.col_axis]

    @property
    def full_view(self) -> View:
        """The whole slice."""
        shape = self.volume.geometry.shape
        return View(0, shape[self.plane.row_axis], 0, shape[self.plane.col_axis])

    @property
    def shown(self) -> View:
        """The part of the slice that is drawn."""
        return self.view or self.full_view


def view_of(box: Box, plane: Plane, shape: tuple[int, int, int]) -> View:
    """Where a box of the image grid lies on a turned slice."""
    rows = _turned(box.start[plane.row_axis], box.stop[plane.row_axis], shape[plane.row_axis], plane.flip_rows)
    cols = _turned(box.start[plane.col_axis], box.stop[plane.col_axis], shape[plane.col_axis], plane.flip_cols)
    return View(*rows, *cols)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw `panel` into `axes`; the data coordinates are display mm (or px) from the slice's top left corner."""
    view, (dy, dx) = panel.shown, panel.spacing
    pixels = panel.plane.take(panel.volume.array, panel.index)
    pixels = pixels[view.row_start : view.row_stop, view.col_start : view.col_stop]
    step = max(1, -(-max(pixels.shape) // MAX_PIXELS))
    low, high = panel.window
    axes.set_facecolor(BACKGROUND)
    axes.imshow(
        _shrink(pixels, step),
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(view.col_start * dx, view.col_stop * dx, view.row_stop * dy, view.row_start * dy),
        interpolation="bicubic" if panel.smooth else "antialiased",
        aspect="equal",
    )
    axes.set_xlim(view.col_start * dx, view.col_stop * dx)
    axes.set_ylim(view.row_stop * dy, view.row_start * dy)
    axes.set_axis_off()
    for box in panel.rois:
        _draw_box(axes, panel, box)
    for outline in panel.outlines:
        _draw_outline(axes, panel, outline)
    for start, stop in panel.lines:
        points = [_display(panel, point) for point in (start, stop)]
        axes.plot([p[1] for p in points], [p[0] for p in points], color=INK, linewidth=0.8, alpha=0.9)
    _letters(axes, panel)
    _scale_bar(axes, panel)
    if panel.title:
        _write(axes, 0.015, 0.015, panel.title, ha="left", va="bottom")


def write(figure: Figure) -> bytes:
    """The figure as PNG bytes without date or software, so that the same picture is the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=BACKGROUND, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def default_style() -> Iterator[None]:
    """matplotlib's own defaults, whatever the user's matplotlibrc says, restored afterwards."""
    import matplotlib.style

    with matplotlib.style.context("default"):
        yield


def _turned(start: int, stop: int, n: int, flip: bool) -> tuple[int, int]:
    return (n - stop, n - start) if flip else (start, stop)


def _display(panel: Panel, point: tuple[float, float]) -> tuple[float, float]:
    """Image indices along (row axis, column axis) → display mm, voxel i covering i to i + 1 spacings."""
    shape, plane = panel.volume.geometry.shape, panel.plane
    row = shape[plane.row_axis] - 1 - point[0] if plane.flip_rows else point[0]
    col = shape[plane.col_axis] - 1 - point[1] if plane.flip_cols else point[1]
    return (row + 0.5) * panel.spacing[0], (col + 0.5) * panel.spacing[1]


def _shrink(pixels: NDArray[Any], step: int) -> NDArray[np.float32]:
    small = np.asarray(pixels, dtype=np.float32)
    if step == 1:
        return small
    rows, cols = (n // step * step for n in small.shape)
    blocks = small[:rows, :cols].reshape(rows // step, step, cols // step, step)
    shrunk: NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return shrunk


def _draw_outline(axes: Axes, panel: Panel, outline: Outline) -> None:
    (dy, dx), mask = panel.spacing, outline.mask
    # One pixel more than is shown, so that a mask which continues outside the view has no edge along the view.
    view = panel.shown
    top, left = max(0, view.row_start - 1), max(0, view.col_start - 1)
    mask = mask[top : view.row_stop + 1, left : view.col_stop + 1]
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return
    r0, r1, c0, c1 = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    padded = np.pad(mask[r0:r1, c0:c1], 1).astype(np.float32)
    step = max(1, -(-max(padded.shape) // (2 * MAX_PIXELS)))
    y = (np.arange(r0 - 1, r1 + 1) + top + 0.5) * dy
    x = (np.arange(c0 - 1, c1 + 1) + left + 0.5) * dx
    lines = axes.contour(
        x[::step], y[::step], padded[::step, ::step], levels=[0.5], colors=[outline.colour], linewidths=outline.width
    )
    if outline.style == "dashed":
        lines.set_linestyle((0.0, (3.0, 2.0)))
    if outline.label:
        # Beside the outline's upper right corner, or its upper left near the panel's right edge.
        right = c1 < 0.85 * mask.shape[1]
        corner_x, corner_y = (x[-1] if right else x[0]), y[0]
        _text_at(axes, float(corner_x), float(corner_y), outline.label, outline.colour, "left" if right else "right")


def _draw_box(axes: Axes, panel: Panel, box: Box) -> None:
    from matplotlib.patches import Rectangle

    axis = panel.plane.slice_axis
    if not box.start[axis] <= panel.index < box.stop[axis]:
        return
    view = view_of(box, panel.plane, panel.volume.geometry.shape)
    (dy, dx), (height, width) = panel.spacing, view.size(panel.spacing)
    axes.add_patch(
        Rectangle(
            (view.col_start * dx, view.row_start * dy), width, height,
            fill=False, edgecolor=ROI_BOX, linewidth=0.7, alpha=0.85,
        )
    )  # fmt: skip


def _letters(axes: Axes, panel: Panel) -> None:
    left, right, top, bottom = panel.plane.letters
    _write(axes, 0.015, 0.5, left, ha="left", va="center")
    _write(axes, 0.985, 0.5, right, ha="right", va="center")
    _write(axes, 0.5, 0.985, top, ha="center", va="top")
    _write(axes, 0.5, 0.015, bottom, ha="center", va="bottom")


def _scale_bar(axes: Axes, panel: Panel) -> None:
    height, width = panel.shown.size(panel.spacing)
    length = nice_length(0.3 * width)
    view, (dy, dx) = panel.shown, panel.spacing
    x1, y = view.col_stop * dx - 0.03 * width, view.row_stop * dy - 0.035 * height
    axes.plot([x1 - length, x1], [y, y], color=INK, linewidth=2.0, solid_capstyle="butt", path_effects=_halo())
    unit = "px" if panel.volume.geometry.known_spacing == "none" else "mm"
    axes.text(
        x1 - length / 2, y - 0.015 * height, f"{length:g} {unit}", color=INK, fontsize=6.5,
        ha="center", va="bottom", path_effects=_halo(),
    )  # fmt: skip


def nice_length(at_most: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above `at_most`."""
    power = 10.0 ** np.floor(np.log10(at_most))
    return float(max(m * power for m in (1.0, 2.0, 5.0) if m * power <= at_most * (1 + 1e-9)))


def _write(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str) -> None:
    if text:
        axes.text(
            x, y, text, transform=axes.transAxes, ha=ha, va=va, color=INK, fontsize=7, path_effects=_halo(),
        )  # fmt: skip


def _text_at(axes: Axes, x: float, y: float, text: str, colour: str, ha: str) -> None:
    axes.text(x, y, text, color=colour, fontsize=7.5, fontweight="bold", ha=ha, va="bottom", path_effects=_halo())


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.8, foreground=BACKGROUND)]
