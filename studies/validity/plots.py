"""The plots of docs/evidence/validity.md: docs/images/fdr-*.png. Colours by Okabe and Ito (2008)."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from r2seg_agent.files import write_bytes_atomic
from studies.validity.cells import SHIFT_NAMES
from studies.validity.intervals import Share
from studies.validity.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
MARKERS = ("o", "s", "^", "D", "v", "P")
DPI = 110


def draw_all(results: StudyResults, folder: Path) -> None:
    """Write every plot to `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, figure in (
            ("fdr-level", _level(results)),
            ("fdr-power", _power(results)),
            ("fdr-calibration", _calibration(results)),
            ("fdr-shift", _shift(results)),
        ):
            write_bytes_atomic(folder / f"{name}.png", _png(figure))


def _png(figure: Figure) -> bytes:
    """A PNG of few colours: a third of the size, and nobody sees the difference in a line drawing."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, dpi=DPI, format="png")
    Image.open(full).convert("RGB").quantize(colors=128).save(small, "PNG", optimize=True)
    return small.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _level(r: StudyResults) -> Figure:
    """Share of lesion-free cases with any finding, per mode and smoothing; 95 % intervals; logarithmic."""
    figure = _figure(7.6, 4.0)
    axes = figure.subplots()
    names = ["FWHM 1", "FWHM 2", "FWHM 3", "FWHM 4"]
    at = np.arange(len(names), dtype=float)
    blind = {b.scanner: b.blind_permutation for b in r.blobs}
    paper = {p.scanner: p.false_positive for p in r.paper if p.gates == "L2"}
    _shares(axes, at[1:] - 0.24, [blind[n] for n in names[1:]], RED, "X", "voxel permutation (paper), blind region")
    _shares(axes, at - 0.12, [paper[n] for n in names], ORANGE, "s", "paper mode with its own gates (L1, L2)")
    own = {level.scanner: level for level in r.levels if (level.gates, level.score) == (r.study_gates, r.default_score)}
    values = [own[n].level for n in names]
    errors = [1.96 * own[n].se for n in names]
    low = [min(e, v) for e, v in zip(errors, values, strict=True)]
    axes.errorbar(
        at, values, yerr=[low, errors], fmt=MARKERS[0], color=BLUE, capsize=2, markersize=5, label="conformal"
    )
    axes.axhline(r.alpha, color="black", linewidth=1, linestyle="--")
    axes.text(-0.48, r.alpha * 1.03, f"α = {r.alpha:g}", va="bottom", ha="left")
    axes.set_yscale("symlog", linthresh=0.05, linscale=1.0)
    axes.set_yticks([0, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0], ["0", "0.025", "0.05", "0.1", "0.2", "0.5", "1"])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15)
    axes.set_xlim(-0.5, len(names) - 0.4)
    axes.set_xticks(at, [f"{n.split()[1]}" for n in names])
    axes.set_xlabel("smoothing of the noise, FWHM (voxels)")
    axes.set_ylabel("lesion-free cases with a finding (share)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _shares(axes: Axes, at: np.ndarray, shares: list[Share], colour: str, marker: str, label: str) -> None:
    values = [s.value for s in shares]
    below = [max(0.0, s.value - s.interval[0]) for s in shares]
    above = [max(0.0, s.interval[1] - s.value) for s in shares]
    axes.errorbar(at, values, yerr=[below, above], fmt=marker, color=colour, capsize=2, markersize=5, label=label)


def _power(r: StudyResults) -> Figure:
    """Power by contrast: rows by edge, columns by smoothing, a colour per lesion volume; dashed: proposed at all."""
    figure = _figure(9.0, 5.2)
    scanners, edges = ("FWHM 2", "FWHM 3", "FWHM 4"), ("sharp", "blurred")
    grid = figure.subplots(len(edges), len(scanners), sharex=True, sharey=True)
    volumes = {0.3: (ORANGE, "^"), 1.0: (BLUE, "o"), 3.0: (GREEN, "s")}
    for row, edge in enumerate(edges):
        for column, scanner in enumerate(scanners):
            axes = grid[row][column]
            for volume, (colour, marker) in volumes.items():
                own = sorted(
                    (p for p in r.powers
                     if (p.scanner, p.lesion.edge, p.lesion.volume_ml) == (scanner, edge, volume)),
                    key=lambda p: p.lesion.cnr,
                )  # fmt: skip
                cnr = [p.lesion.cnr for p in own]
                found = [p.power[r.study_gates][r.default_score] for p in own]
                axes.plot(cnr, [p.proposed.value for p in own], "--", color=colour, linewidth=1)
                axes.errorbar(
                    cnr,
                    [m.value for m in found],
                    yerr=[1.96 * m.se for m in found],
                    fmt=f"{marker}-",
                    color=colour,
                    capsize=2,
                    markersize=4.5,
                    label=f"{volume:g} ml",
                )
            axes.set_title(f"noise {scanner} voxels, {edge} lesion", fontsize=9)
            axes.set_ylim(-0.03, 1.05)
            axes.set_xticks([1, 2, 3, 4])
            axes.grid(alpha=0.25)
    for axes in grid[-1]:
        axes.set_xlabel("contrast to noise ratio")
    for axes in grid[:, 0]:
        axes.set_ylabel("share of lesions")
    grid[0][0].plot([], [], "k--", linewidth=1, label="proposed at all")
    grid[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _calibration(r: StudyResults) -> Figure:
    """Level (left) and power (right) against the number of calibration cases; bands: 5 to 95 % of calibrations."""
    figure = _figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    n = [c.n for c in r.curve]
    left.fill_between(
        n, [c.theory_5 for c in r.curve], [c.theory_95 for c in r.curve], color=SKY, alpha=0.35, linewidth=0,
        label="theory (Beta), 5–95 % of calibrations",
    )  # fmt: skip
    left.plot(n, [c.theory_mean for c in r.curve], color=SKY, label="theory, mean")
    left.errorbar(
        n,
        [c.level_mean for c in r.curve],
        yerr=[
            [max(0.0, c.level_mean - c.level_5) for c in r.curve],
            [max(0.0, c.level_95 - c.level_mean) for c in r.curve],
        ],
        fmt="o",
        color=BLUE,
        capsize=2,
        markersize=4.5,
        label="measured, mean and 5–95 %",
    )
    left.axhline(r.alpha, color="black", linewidth=1, linestyle="--")
    left.set_ylabel("lesion-free cases with a finding (share)")
    left.set_ylim(0, None)
    for (name, colour), marker in zip(zip(r.curve[0].power, (BLUE, ORANGE, GREEN), strict=True), MARKERS, strict=False):
        points = [c.power[name] for c in r.curve]
        right.fill_between(n, [p[1] for p in points], [p[2] for p in points], color=colour, alpha=0.15, linewidth=0)
        right.plot(n, [p[0] for p in points], f"{marker}-", color=colour, markersize=4.5, label=f"1 ml, {name}")
    right.set_ylabel("lesions found (share)")
    right.set_ylim(0, 1.03)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(n, [str(value) for value in n])
        axes.minorticks_off()
        axes.set_xlabel("lesion-free calibration cases")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _shift(r: StudyResults) -> Figure:
    """Heat map of the level: rows the scan, columns the calibration; beside it how often the profile warns."""
    from matplotlib.colors import LogNorm

    figure = _figure(8.4, 5.4)
    axes = figure.subplots()
    own = {(s.test, s.calibration): s for s in r.shifts if s.gates == r.study_gates}
    grid = np.asarray([[own[test, cal].level for cal in SHIFT_NAMES] for test in SHIFT_NAMES])
    image = axes.imshow(np.maximum(grid, 0.005), cmap="cividis", norm=LogNorm(0.005, 1.0), aspect="auto")
    for i, test in enumerate(SHIFT_NAMES):
        for j, calibration in enumerate(SHIFT_NAMES):
            one = own[test, calibration]
            failed = one.level > r.alpha + 2 * one.se
            colour = "black" if one.level > math.sqrt(0.005) else "white"
            axes.text(
                j, i, f"{one.level:.2f}{' !' if failed else ''}\nwarns {one.warned.value:.0%}", ha="center",
                va="center", color=colour, fontsize=8, fontweight="bold" if failed else "normal",
            )  # fmt: skip
    axes.set_xticks(range(len(SHIFT_NAMES)), [_two_lines(name) for name in SHIFT_NAMES])
    axes.set_yticks(range(len(SHIFT_NAMES)), SHIFT_NAMES)
    axes.set_xlabel("calibration cases")
    axes.set_ylabel("scan")
    axes.set_title("! above α + 2 standard errors", fontsize=9, loc="right")
    figure.colorbar(image, ax=axes, label="lesion-free scans with a finding (share)", ticks=[0.005, 0.05, 0.2, 1.0],
                    format="%g")  # fmt: skip
    return figure


def _two_lines(name: str) -> str:
    words = name.split(" ")
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]) + "\n" + " ".join(words[middle:])
