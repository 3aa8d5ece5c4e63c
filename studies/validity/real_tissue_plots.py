"""Plots of docs/evidence/validity-real-tissue.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studies.validity.intervals import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from r2seg_agent.reject.scores import ScoreName
    from studies.validity.real_tissue_rows import LevelRow, PowerRow

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
                _point(axes, share, place + 0.22 * (step - 1), COLOURS[name], name if place == 0 else None)
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


def draw_power(rows: Mapping[ScoreName, Sequence[PowerRow]], path: Path) -> None:
    """Lesions found by volume at one contrast, a panel per organ, a colour per score; dashed: proposed at all."""
    from matplotlib.figure import Figure

    organs = list(dict.fromkeys(row.organ for own in rows.values() for row in own))
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    (panels,) = figure.subplots(1, len(organs), sharey=True, squeeze=False)
    for axes, organ in zip(panels, organs, strict=True):
        for number, (score, own) in enumerate(rows.items()):
            line = [row for row in own if row.organ == organ]
            volumes = [row.lesion.volume_ml for row in line]
            if number == 0:
                there = [row.proposed.value for row in line]
                axes.plot(volumes, there, "--", color=COLOURS["proposed"], label="proposed by the segmenter")
                axes.set_title(f"{organ}, {line[0].lesion.cnr:g} sd, n = {line[0].proposed.n}")
            found = [row.power["other scans"] for row in line]
            bars = [
                [share.value - share.interval[0] for share in found],
                [share.interval[1] - share.value for share in found],
            ]
            beside = [volume * (1.0 + 0.03 * (number - len(rows) / 2)) for volume in volumes]
            axes.errorbar(
                beside, [s.value for s in found], yerr=bars, marker="o", markersize=4, linewidth=1.4, elinewidth=0.7,
                color=f"C{number}", label=score,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(volumes, [f"{volume:g}" for volume in volumes])
        axes.set_xlabel("lesion volume (ml)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("lesions found, calibration from other scans")
    panels[0].set_ylim(-0.03, 1.03)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
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
