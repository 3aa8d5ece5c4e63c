"""Pictures of an evaluation: FROC, ROC, Dice by volume, Bland-Altman. Each only where the data allow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from r2seg_agent.evals.grids import digits
from r2seg_agent.evals.models import (
    FROC_RATES,
    PAPER_FROC_RATE,
    CurvePoint,
    Evaluation,
)
from r2seg_agent.files import write_bytes_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY, GREEN = "#1f5fa8", "#c75b12", "#6b6b6b", "#2c7a3f"
COLOURS = (BLUE, ORANGE, GREEN, "#7b3fa0", "#a03f52", GREY)
STYLES = ("-", "--", "-.", ":")
SIZE_INCHES, DPI = (6.4, 4.8), 130
LARGEST_RATE = 16.0
"""The FROC axis ends here, or at the operating point where that is farther out."""


def draw_evaluation(evaluation: Evaluation, out: Path) -> tuple[str, ...]:
    """Draw what the data allow into `out`; the names of the pictures."""
    drawn = draw_curves((evaluation,), out)
    lesions = [m for case in evaluation.cases for m in case.lesions]
    if lesions:
        _save(out / "dice_by_volume.png", lambda axes: _dice_by_volume(axes, evaluation))
        drawn = (*drawn, "dice_by_volume.png")
    if sum(m.found_ml is not None for m in lesions) > 1:
        _save(out / "bland_altman.png", lambda axes: _bland_altman(axes, evaluation))
        drawn = (*drawn, "bland_altman.png")
    return drawn


def draw_curves(evaluations: Sequence[Evaluation], out: Path) -> tuple[str, ...]:
    """FROC and ROC of one or several evaluations, one colour each; the names of the pictures that could be drawn."""
    drawn = []
    if any(len(e.curves.froc_iou) > 1 for e in evaluations):
        _save(out / "froc.png", lambda axes: _froc(axes, evaluations))
        drawn.append("froc.png")
    if any(e.curves.roc for e in evaluations):
        _save(out / "roc.png", lambda axes: _roc(axes, evaluations))
        drawn.append("roc.png")
    return tuple(drawn)


def _froc(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    many = len(evaluations) > 1
    farthest = LARGEST_RATE
    for evaluation, (colour, style) in zip(evaluations, _looks(evaluations), strict=True):
        cpm = _two_decimals(evaluation, "froc.iou.cpm")
        name = f"{evaluation.name}: " if many else ""
        label = f"{name}IoU ≥ {evaluation.settings.iou:g} (CPM {cpm})"
        _steps(axes, evaluation.curves.froc_iou, colour, style, label)
        if not many:
            cpm = _two_decimals(evaluation, "froc.overlap.cpm")
            _steps(axes, evaluation.curves.froc_overlap, ORANGE, "--", f"any overlap (CPM {cpm})")
        rate = evaluation.figure("lesion.iou.fp_per_scan").value
        found = evaluation.figure("lesion.iou.sensitivity").value
        if rate is not None and found is not None:
            shown = max(rate, FROC_RATES[0] / 2)
            farthest = max(farthest, shown)
            kept = "the findings" if not many else None
            axes.plot([shown], [found], "o", ms=8, mfc="white", mec=colour, mew=2, label=kept, clip_on=False, zorder=5)
    axes.set_xscale("log", base=2)
    axes.set_xlim(FROC_RATES[0] / 2, farthest * 1.1)
    ticks = [*FROC_RATES, LARGEST_RATE]
    axes.set_xticks(ticks, ["1/8", "1/4", "1/2", *(f"{rate:g}" for rate in ticks[3:])])
    axes.minorticks_off()
    axes.axvline(PAPER_FROC_RATE, color=GREY, lw=1, ls=":")
    axes.text(PAPER_FROC_RATE * 0.96, 0.02, "10, as in the paper", color=GREY, fontsize=8, ha="right", rotation=90)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positives per scan")
    axes.set_ylabel("lesions found")
    a, rank = evaluations[0].accounting, evaluations[0].rank
    axes.set_title(f"FROC, candidates ranked by {rank}: {a.lesions} lesions in {a.evaluated} scans", fontsize=10)
    axes.legend(loc="upper left" if not many else "best", fontsize=8)


def _roc(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    many = len(evaluations) > 1
    for evaluation, (colour, style) in zip(evaluations, _looks(evaluations), strict=True):
        points = evaluation.curves.roc
        if not points:
            continue
        name = f"{evaluation.name}: " if many else ""
        label = f"{name}area {_two_decimals(evaluation, 'scan.auc')}"
        axes.plot([p.x for p in points], [p.y for p in points], color=colour, ls=style, lw=2, label=label)
        false, true = (evaluation.figure(key).value for key in ("scan.false_alarm", "scan.sensitivity"))
        if false is not None and true is not None:
            kept = None if many else "scans with a finding"
            axes.plot([false], [true], "o", ms=8, mfc="white", mec=colour, mew=2, label=kept, clip_on=False, zorder=5)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="chance")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("lesion-free scans flagged")
    axes.set_ylabel("lesion-bearing scans flagged")
    a = evaluations[0].accounting
    axes.set_title(f"ROC of scans: {a.bearing} with a lesion, {a.lesion_free} without", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)


def _dice_by_volume(axes: Axes, evaluation: Evaluation) -> None:
    lesions = [m for case in evaluation.cases for m in case.lesions]
    found = [m for m in lesions if m.overlapped]
    missed = [m for m in lesions if not m.overlapped]
    if found:
        axes.plot([m.volume_ml for m in found], [m.dice for m in found], "o", color=BLUE, alpha=0.7, label="found")
    if missed:
        axes.plot(
            [m.volume_ml for m in missed], [0.0] * len(missed), "x", color=ORANGE, ms=8, label="missed", clip_on=False
        )
    axes.set_xscale("log")
    volumes = [m.volume_ml for m in lesions]
    axes.set_xlim(min(volumes) / 2, max(volumes) * 2)
    _plain_ticks(axes)
    for bound in evaluation.settings.size_bounds_ml:
        if min(volumes) / 2 < bound < max(volumes) * 2:
            axes.axvline(bound, color=GREY, lw=1, ls=":")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("true volume (ml)")
    axes.set_ylabel("Dice with the finding on it")
    axes.set_title(f"{len(lesions)} lesions, {len(missed)} of them missed; lines: size classes", fontsize=10)
    axes.legend(fontsize=8)


def _bland_altman(axes: Axes, evaluation: Evaluation) -> None:
    pairs = [(m.volume_ml, m.found_ml) for case in evaluation.cases for m in case.lesions if m.found_ml is not None]
    true, found = np.array(pairs).T
    axes.plot((true + found) / 2, found - true, "o", color=BLUE, alpha=0.7)
    for key, style in (("bias", "-"), ("low", "--"), ("high", "--")):
        value = evaluation.figure(f"volume.agreement.{key}").value
        if value is not None:
            words = {"bias": "bias", "low": "−1.96 SD", "high": "+1.96 SD"}[key]
            axes.axhline(value, color=ORANGE, ls=style, lw=1.5)
            axes.text(0.995, value, f"{words} {digits(value)} ml", color=ORANGE, fontsize=8, ha="right", va="bottom",
                      transform=axes.get_yaxis_transform())  # fmt: skip
    axes.axhline(0, color=GREY, lw=1, ls=":")
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.margins(x=0.1, y=0.15)
    axes.set_xlabel("mean of true and found volume (ml)")
    axes.set_ylabel("found − true (ml)")
    axes.set_title(f"{len(pairs)} lesions that a finding matched (IoU ≥ {evaluation.settings.iou:g})", fontsize=10)


def _steps(axes: Axes, points: Sequence[CurvePoint], colour: str, style: str, label: str) -> None:
    """A step curve on an axis without 0: what lies left of it stands at its left end."""
    if not points:
        return
    x = np.maximum([p.x for p in points], FROC_RATES[0] / 2)
    y = [p.y for p in points]
    axes.step([*x, 1e9], [*y, y[-1]], where="post", color=colour, lw=2, ls=style, label=label)


def _plain_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def _two_decimals(evaluation: Evaluation, key: str) -> str:
    value = evaluation.figure(key).value
    return "–" if value is None else f"{value:.2f}"


def _looks(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """Colour and line of each, so that equal curves on top of each other still show both."""
    return [(COLOURS[k % len(COLOURS)], STYLES[k % len(STYLES)]) for k in range(len(evaluations))]


def _save(path: Path, draw: Callable[[Axes], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.annotate(
        "research software, not a medical device", (0, 0), (0, -38), xycoords="axes fraction",
        textcoords="offset points", fontsize=7, color=GREY,
    )  # fmt: skip
    data = BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_bytes_atomic(path, data.getvalue())
