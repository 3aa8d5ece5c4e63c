"""Plots of docs/validity-real-tissue.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.evals.fdr.intervals import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from r2seg_agent.evals.fdr.real_tissue_tables import LevelRow, PowerRow

COLOURS = {"paper": "tab:red", "other half": "tab:blue", "other scans": "tab:green", "proposed": "0.6"}


def draw_levels(rows: Sequence[LevelRow], alpha: float, path: Path) -> None:
    """Lesion-free blocks called a finding, with intervals, in paper mode and in conformal mode by two calibrations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        series = (
            ("paper", row.paper),
            ("other half", row.level["other half"]),
            ("other scans", row.level["other scans"]),
        )
        for step, (name, share) in enumerate(series):
            if share is not None:
                _point(axes, share, place + 0.22 * (step - 1), COLOURS[name], name if place == 1 else None)
    axes.axvline(alpha, color="black", linewidth=1, linestyle="--", label=f"level {alpha:g}")
    axes.set_yticks(range(len(rows)), [f"{row.name} ({row.blocks})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.01, 1.0)
    axes.set_xlabel("share of lesion-free blocks called a finding, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    _legend(
        axes, {"paper": "paper mode", "other half": "conformal, other half", "other scans": "conformal, other scans"}
    )
    figure.savefig(path, dpi=110)


def draw_power(rows: Sequence[PowerRow], path: Path) -> None:
    """Lesions found by volume, a panel per organ, a colour per contrast; dashed: proposed by the segmenter at all."""
    from matplotlib.figure import Figure

    organs = list(dict.fromkeys(row.organ for row in rows))
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    panels = figure.subplots(1, len(organs), sharey=True)
    for axes, organ in zip(panels, organs, strict=True):
        own = [row for row in rows if row.organ == organ]
        for number, cnr in enumerate(sorted({row.lesion.cnr for row in own})):
            line = [row for row in own if row.lesion.cnr == cnr]
            volumes = [row.lesion.volume_ml for row in line]
            colour = f"C{number}"
            axes.plot(volumes, [row.proposed.value for row in line], "--", color=colour, alpha=0.6)
            found = [row.power["other scans"] for row in line]
            low = [share.value - share.interval[0] for share in found]
            high = [share.interval[1] - share.value for share in found]
            axes.errorbar(
                volumes,
                [s.value for s in found],
                yerr=[low, high],
                marker="o",
                capsize=2,
                color=colour,
                label=f"{cnr:g}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            sorted({row.lesion.volume_ml for row in own}), [f"{v:g}" for v in sorted({r.lesion.volume_ml for r in own})]
        )
        axes.set_title(organ)
        axes.set_xlabel("lesion volume (ml)")
        axes.grid(alpha=0.3)
        axes.legend(title="contrast / sd", fontsize=8, title_fontsize=8)
    panels[0].set_ylabel("lesions found (dashed: proposed)")
    panels[0].set_ylim(-0.03, 1.03)
    figure.savefig(path, dpi=110)


def _point(axes: Axes, share: Share, y: float, colour: str, label: str | None) -> None:
    low, high = share.interval
    axes.errorbar(
        [share.value], [y], xerr=[[share.value - low], [high - share.value]],
        marker="o", markersize=5, capsize=2, color=colour, label=label,
    )  # fmt: skip


def _legend(axes: Axes, words: dict[str, str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, [words.get(label, label) for label in labels], loc="lower right")
