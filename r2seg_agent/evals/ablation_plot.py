"""The picture of an ablation: lesions found against false findings per scan, a point with its intervals per preset."""

from __future__ import annotations

from pathlib import Path

from r2seg_agent.evals.ablation_models import Ablation
from r2seg_agent.evals.models import Figure

PANELS = (
    ("lesion.iou.sensitivity", "lesions found (one to one, IoU ≥ 0.1)"),
    ("lesion.overlap.sensitivity", "lesions touched by any finding"),
)
FALSE = "lesion.overlap.fp_per_scan"
MARKERS = "osD^vP"
LINEAR_BELOW = 1.0
"""False findings per scan: linear up to here, so that 0 has a place; logarithmic beyond."""


def draw_ablation(ablation: Ablation, path: Path) -> None:
    """Write the picture (PNG) to `path`."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import StrMethodFormatter

    canvas = Canvas(figsize=(10, 4.6), layout="constrained")
    axes = canvas.subplots(1, 2, sharey=True)
    for panel, (key, title) in zip(axes, PANELS, strict=True):
        for number, step in enumerate(ablation.steps):
            x, y = step.figure(FALSE), step.figure(key)
            if x.value is None or y.value is None:
                continue
            panel.errorbar(
                [x.value],
                [y.value],
                xerr=_bars(x),
                yerr=_bars(y),
                fmt=MARKERS[number % len(MARKERS)],
                markersize=15 - 2 * number,  # those that fall together lie inside each other
                markerfacecolor="none",
                markeredgewidth=2,
                elinewidth=1,
                capsize=3,
                color=f"C{number}",
                label=step.preset,
            )
        joined = [(step.figure(FALSE).value, step.figure(key).value) for step in ablation.steps]
        known = [(x, y) for x, y in joined if x is not None and y is not None]
        panel.plot([x for x, _ in known], [y for _, y in known], color="0.75", linewidth=1, zorder=0)
        panel.set_xscale("symlog", linthresh=LINEAR_BELOW)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.set_xlim(left=-0.1)
        panel.set_ylim(-0.03, 1.03)
        panel.set_title(title, fontsize=11)
        panel.set_xlabel("false findings per scan")
        panel.grid(visible=True, color="0.92")
    axes[0].set_ylabel("sensitivity")
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    counted = ablation.steps[0].accounting
    canvas.suptitle(
        f"{counted.evaluated} scans ({counted.lesion_free} lesion-free), {counted.lesions} lesions; 95 % intervals",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110, metadata={"Software": None})


def _bars(figure: Figure) -> list[list[float]] | None:
    if figure.value is None or figure.low is None or figure.high is None:
        return None
    return [[max(0.0, figure.value - figure.low)], [max(0.0, figure.high - figure.value)]]
