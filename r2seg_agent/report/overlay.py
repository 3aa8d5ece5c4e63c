"""`overlay.png`: every finding in three planes and enlarged, or what was searched and why nothing was kept."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.files import write_bytes_atomic
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.report import canvas, captions
from r2seg_agent.report.canvas import Outline, Panel
from r2seg_agent.report.format import plural
from r2seg_agent.report.models import Report, TargetReport
from r2seg_agent.report.planes import planes
from r2seg_agent.report.rejections import rejected_of
from r2seg_agent.report.scene import Scene, display_window, finding_panels, nothing_panels, slice_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 6
"""Rows drawn (findings, or targets without any); a line says how many more there are."""
MAX_REJECTED = 5
"""Rejected candidates outlined when nothing survived, best first."""
WIDTH_IN, MAX_ROW_IN = 14.0, 4.4
MARGIN_IN, GAP_IN, LINE_IN, CAPTION_IN = 0.35, 0.08, 0.2, 0.56


@dataclass(frozen=True)
class _Row:
    title: str
    detail: str
    panels: tuple[Panel, ...]


def best_rejected(target: TargetReport, n: int = MAX_REJECTED) -> tuple[Candidate, ...]:
    """The rejected candidates nearest to being kept, over all rounds: highest score, then probability, then size."""
    return rejected_of(target)[:n]


def draw_overlay(
    path: Path,
    volume: Volume,
    report: Report,
    *,
    anchors: AnchorSet | None = None,
    labels: NDArray[np.integer] | None = None,
    truth: NDArray[np.integer] | None = None,
    rejected: Mapping[str, Mask] | None = None,
) -> None:
    """Draw `report` over `volume` and write a PNG to `path`, atomically; same input, same bytes.

    `labels` (z, y, x) holds each finding's voxels under its `number` (needed when there are findings), `truth` is
    the reference mask, `rejected` maps candidate ids to masks on the candidates' boxes: pass those of
    `best_rejected`. A row per finding: the planes through it with anchor, ROIs of its round and contour, then an
    enlargement with both diameters. A target without findings gets a row through the middle of its anchor with the
    shadows of the best rejected candidates dashed. Only slices are copied, never the volume.
    """
    rows = _rows(volume, report, anchors, labels, truth, rejected or {})
    wanted = len(report.findings) + sum(not target.findings for target in report.targets)
    entries = captions.legend_entries(
        report,
        anchors=anchors is not None,
        truth=truth is not None,
        rejected=any(o.style == "dashed" for row in rows for panel in row.panels for o in panel.outlines),
    )
    with canvas.default_style():
        figure = _layout(report, rows, wanted - len(rows), entries)
        write_bytes_atomic(path, canvas.write(figure))


def draw_slice(
    path: Path,
    scene: Scene,
    plane_name: str,
    index: int,
    note: str = "",
    extra: Sequence[Outline] = (),
) -> None:
    """Draw one slice of `scene` as a PNG: `plane_name` "axial", "coronal", "sagittal", or "image" for a picture.

    `note` stands above it, `extra` is outlined besides what the scene holds.

    Raises `ValueError` for a plane or an index that the image does not have.
    """
    known = {plane.name: plane for plane in planes(scene.volume)}
    plane = known.get(plane_name)  # type: ignore[call-overload]  # any text may come; None says it is unknown
    if plane is None:
        raise ValueError(f"no plane `{plane_name}` in this image; it has {', '.join(known)}")
    n = scene.volume.geometry.shape[plane.slice_axis]
    if not 0 <= index < n:
        raise ValueError(f"slice {index} of {n} {plane.name} slices; allowed are 0 to {n - 1}")
    with canvas.default_style():
        figure = _layout(None, [_Row(note, "", (slice_panel(scene, plane, index, extra=extra),))], 0, [])
        write_bytes_atomic(path, canvas.write(figure))


def _rows(
    volume: Volume,
    report: Report,
    anchors: AnchorSet | None,
    labels: NDArray[np.integer] | None,
    truth: NDArray[np.integer] | None,
    rejected: Mapping[str, Mask],
) -> list[_Row]:
    rows: list[_Row] = []
    drawn: set[int] = set()
    for target in report.targets:
        window = display_window(volume, target.plan.window)
        organs = target.plan.anchors
        if target.findings:
            own = [f for f in target.findings if f.number not in drawn and _has_voxels(labels, f)]
            for finding in own[: MAX_ROWS - len(rows)]:
                drawn.add(finding.number)
                rois = _rois_of(target, finding)
                scene = Scene(volume, window, anchors, organs, labels, truth, rois)
                rows.append(_Row(*captions.caption_of_finding(finding, window, report), finding_panels(scene, finding)))
        elif len(rows) < MAX_ROWS:
            rois = tuple(roi.box for roi in target.rounds[-1].rois) if target.rounds else ()
            scene = Scene(volume, window, anchors, organs, None, truth, rois)
            shown = [(c, rejected[c.id]) for c in best_rejected(target) if c.id in rejected]
            title, detail = captions.caption_of_nothing(target, len(shown), window, volume.unit)
            rows.append(_Row(title, detail, nothing_panels(scene, shown)))
    return rows


def _has_voxels(labels: NDArray[np.integer] | None, finding: Finding) -> bool:
    """False for a finding that smaller ones of other targets cover wholly."""
    assert labels is not None  # findings come with their label map
    return bool((labels[finding.candidate.box.slices] == finding.number).any())


def _rois_of(target: TargetReport, finding: Finding) -> tuple[Box, ...]:
    """The ROIs of the round that found it."""
    rounds = (r for r in target.rounds if any(c.id == finding.candidate.id for c in r.candidates))
    return tuple(roi.box for r in rounds for roi in r.rois)


def _layout(report: Report | None, rows: list[_Row], left_out: int, entries: list[tuple[str, str, bool]]) -> Figure:
    """Place header, rows, legend and footer from the top down, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    header = textwrap.wrap(report.answer, 118) if report else []
    footer = [line for text in captions.footer_lines(report) for line in textwrap.wrap(text, 165)] if report else []
    scales = [_scale(row.panels) for row in rows]
    heights = [_row_height(row.panels, scale) for row, scale in zip(rows, scales, strict=True)]
    synthetic = report is not None and report.image is not None and report.image.synthetic
    total = 2 * MARGIN_IN + sum(heights) + len(rows) * (CAPTION_IN + 0.15)
    if report:
        total += 0.3 + 0.3 * len(header) + (0.45 if synthetic else 0) + 0.35 + LINE_IN * len(footer)
        total += LINE_IN if left_out else 0
    figure = Figure(figsize=(WIDTH_IN, total), dpi=canvas.DPI, facecolor=canvas.BACKGROUND)
    FigureCanvasAgg(figure)  # text widths need a renderer
    page = _Page(figure, total)
    if report:
        page.header(report, header, synthetic)
    for row, scale, height in zip(rows, scales, heights, strict=True):
        page.row(row, scale, height)
    if report:
        page.footer(entries, footer, left_out)
    return figure


def _sizes(panels: tuple[Panel, ...], scale: float) -> list[tuple[float, float]]:
    """(width, height) in inches of each panel: the wide ones to one scale, the enlargement as high as the row."""
    wide = [p for p in panels if not p.smooth]
    sizes = [p.shown.size(p.spacing) for p in wide]
    row = max(height for height, _ in sizes) * scale
    found: list[tuple[float, float]] = []
    for panel in panels:
        height, width = panel.shown.size(panel.spacing)
        s = row / max(height, width) if panel.smooth else scale
        found.append((width * s, height * s))
    return found


def _scale(panels: tuple[Panel, ...]) -> float:
    """Inches per mm of the wide panels: as large as the page's width and `MAX_ROW_IN` allow."""
    room = WIDTH_IN - 2 * MARGIN_IN - GAP_IN * (len(panels) - 1)
    width_at_1 = sum(width for width, _ in _sizes(panels, 1.0))
    height_at_1 = max(height for _, height in _sizes(panels, 1.0))
    return min(room / width_at_1, MAX_ROW_IN / height_at_1)


def _row_height(panels: tuple[Panel, ...], scale: float) -> float:
    return max(height for _, height in _sizes(panels, scale))


class _Page:
    """A cursor that moves down a figure in inches."""

    def __init__(self, figure: Figure, height_in: float) -> None:
        self.figure = figure
        self.height = height_in
        self.y = MARGIN_IN

    def text(self, x_in: float, text: str, size: float, colour: str, weight: str = "normal") -> float:
        """Write at the cursor; returns the width in inches."""
        written = self.figure.text(
            x_in / WIDTH_IN, 1 - self.y / self.height, text,
            fontsize=size, color=colour, fontweight=weight, ha="left", va="top", parse_math=False,
        )  # fmt: skip
        return float(written.get_window_extent().width) / canvas.DPI

    def header(self, report: Report, lines: list[str], synthetic: bool) -> None:
        from matplotlib.patches import Rectangle

        if synthetic:
            bottom = 1 - (self.y + 0.3) / self.height
            self.figure.add_artist(
                Rectangle(
                    (MARGIN_IN / WIDTH_IN, bottom), 1 - 2 * MARGIN_IN / WIDTH_IN, 0.3 / self.height,
                    facecolor=canvas.SYNTHETIC, edgecolor="none", transform=self.figure.transFigure,
                )
            )  # fmt: skip
            self.y += 0.075
            self.text(MARGIN_IN + 0.12, captions.SYNTHETIC_BANNER, 9, canvas.BACKGROUND, "bold")
            self.y += 0.375
        image = report.image
        about = f"“{report.request}”"
        if image:
            shape = " × ".join(str(n) for n in reversed(image.geometry.shape) if n > 1)
            about += f"   {image.name} · {image.modality} · {shape}"
        self.text(MARGIN_IN, about, 8.5, canvas.MUTED)
        self.y += 0.26
        for line in lines:
            self.text(MARGIN_IN, line, 13, canvas.INK, "bold")
            self.y += 0.3
        self.y += 0.04

    def row(self, row: _Row, scale: float, height: float) -> None:
        self.y += 0.1
        self.text(MARGIN_IN, row.title, 10, canvas.FINDING if row.detail else canvas.INK, "bold")
        self.y += 0.23
        self.text(MARGIN_IN, row.detail, 8.5, canvas.INK)
        self.y += 0.23
        sizes = _sizes(row.panels, scale)
        left = MARGIN_IN
        for panel, (panel_width, panel_height) in zip(row.panels, sizes, strict=True):
            axes = self.figure.add_axes(
                (
                    left / WIDTH_IN,
                    1 - (self.y + panel_height) / self.height,
                    panel_width / WIDTH_IN,
                    panel_height / self.height,
                )
            )
            canvas.draw_panel(axes, panel)
            left += panel_width + GAP_IN
        self.y += height + 0.15

    def footer(self, entries: list[tuple[str, str, bool]], lines: list[str], left_out: int) -> None:
        if left_out:
            self.text(MARGIN_IN, f"{plural(left_out, 'more finding')} not drawn: see report.md", 8.5, canvas.INK)
            self.y += LINE_IN
        self._legend(entries)
        self.y += 0.33
        for line in lines:
            self.text(MARGIN_IN, line, 7.5, canvas.MUTED)
            self.y += LINE_IN

    def _legend(self, entries: list[tuple[str, str, bool]]) -> None:
        from matplotlib.lines import Line2D

        x, y = MARGIN_IN, 1 - (self.y + 0.07) / self.height
        for colour, text, dashed in entries:
            self.figure.add_artist(
                Line2D(
                    [x / WIDTH_IN, (x + 0.3) / WIDTH_IN], [y, y],
                    color=colour, linewidth=1.6, linestyle=(0, (3, 2)) if dashed else "solid",
                    transform=self.figure.transFigure,
                )
            )  # fmt: skip
            x += 0.38 + self.text(x + 0.38, text, 8, canvas.INK) + 0.35
