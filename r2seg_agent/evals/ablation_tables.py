"""An ablation as Markdown: the paper's columns, the same questions without its traps, and each step's difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from r2seg_agent.evals.ablation_models import Ablation, Forgetting, Step
from r2seg_agent.evals.models import Comparison, Figure
from r2seg_agent.method.presets import Preset

WORDS: Mapping[Preset, str] = {
    "baseline": "the frozen model alone on the whole image; every connected piece of its mask is a finding",
    "+roi": "Reason's regions around the located organs; every candidate there is a finding",
    "+roi+reject": "the same, and the two-sample test (MMD², voxel permutation, BH): its p-values are not FDR-valid",
    "+gates": "the same, and the paper's gates L1 to L3",
    "full": "the same, and our plausibility gates: what `find` does without a calibration",
    "conformal": "a calibration's p-values in place of the two-sample test and L1; a faint candidate is not refused "
    "for neighbours that look like it",
}
PAPER = {
    "Dice": "paper.dice",
    "Sens.": "paper.sensitivity",
    "Spec.": "paper.specificity",
    "Acc.": "paper.accuracy",
    "CA": "paper.class_accuracy",
}
OURS = {
    "Dice of bearing slices": "slice.dice",
    "voxel Dice per bearing scan": "voxel.dice",
    "lesions found, IoU ≥ 0.1": "lesion.iou.sensitivity",
    "lesions touched": "lesion.overlap.sensitivity",
    "false findings per bearing scan": "lesion.overlap.fp_per_scan.bearing_scans",
    "false findings per lesion-free scan": "lesion.overlap.fp_per_scan.free_scans",
    "lesion-free scans left alone": "scan.specificity",
    "findings that are lesions": "lesion.overlap.precision",
}
IN_BRIEF = {
    "Dice": "voxel.dice",
    "found": "lesion.iou.sensitivity",
    "touched": "lesion.overlap.sensitivity",
    "false a scan": "lesion.overlap.fp_per_scan",
    "false a lesion-free scan": "lesion.overlap.fp_per_scan.free_scans",
    "lesion-free left alone": "scan.specificity",
}
"""For a terminal, without intervals."""
CHANGES = {
    "lesions found, IoU ≥ 0.1": "lesion.iou.sensitivity",
    "false findings per scan": "lesion.overlap.fp_per_scan",
    "voxel Dice per bearing scan": "voxel.dice",
    "lesion-free scans left alone": "scan.specificity",
}
MISSING = "–"


def ablation_markdown(ablation: Ablation, plot: str | None = None) -> str:
    """The whole ablation; `plot` is the picture's file name."""
    counted = ablation.steps[0].accounting
    lines = [
        "# Ablation",
        "",
        ablation.disclaimer,
        "",
        f"{counted.evaluated} of {counted.cases} scans of {counted.patients} patients evaluated: {counted.bearing} "
        f"with {counted.lesions} lesions, {counted.lesion_free} lesion-free"
        + (f"; {counted.synthetic} hold synthetic content" if counted.synthetic else "")
        + ". In brackets: 95 % intervals, bootstrap over patients.",
        "",
        *(f"- `{step.preset}`: {WORDS[step.preset]}" for step in ablation.steps),
        "",
        *_unanswered(ablation.steps),
        "## The paper's columns, by its own definitions",
        "",
        "Per slice; a slice that is empty on both sides has Dice 1, and class accuracy (CA) gives a perfect "
        "lesion-free slice 0.5. For comparison with the paper's tables only.",
        "",
        *_table(ablation.steps, PAPER),
        "",
        "## Without its traps",
        "",
        *_table(ablation.steps, OURS),
        "",
        "A lesion is *found* where a finding matches it one to one with IoU ≥ 0.1, *touched* where any finding shares "
        "a voxel with it: a mask of the whole patient touches every lesion and finds none. A false finding touches "
        "none.",
        "",
    ]
    if plot is not None:
        lines += [f"![Sensitivity against false findings per scan, by preset]({plot})", ""]
    if ablation.comparisons:
        lines += [
            "## Each step against the one before",
            "",
            "Differences on the same scans, resampled by patient; p: two-sided permutation over patients, not "
            "corrected for the number of comparisons.",
            "",
            *_changes(ablation.comparisons),
            "",
        ]
    lines += ["## Forgetting", "", forgetting_words(ablation.forgetting)]
    return "\n".join(lines) + "\n"


def forgetting_words(forgetting: Forgetting) -> str:
    """One paragraph: what was looked at before and after, and whether a bit of it changed."""
    before, after = forgetting.before, forgetting.after
    parts = [
        _weights(f"segmenter `{before.segmenter}`", before.segmenter_sha256, after.segmenter_sha256),
        _weights(f"anchors `{before.anchors}`", before.anchors_sha256, after.anchors_sha256),
    ]
    if before.anchors_kind == "masks":
        parts.append("the organs are masks that the cases bring along: no organ model ran, so none could forget")
    else:
        pairs = list(zip(before.organs, after.organs, strict=False))
        same = sum(a == b for a, b in pairs)
        named = ", ".join(f"{len(a.volumes_ml)} organs, `{a.labels_sha256[:12]}`" for a, _ in pairs)
        parts.append(
            f"organs located again before and after in {len(pairs)} scan{'s' * (len(pairs) != 1)} ({named}): "
            f"{same} of {len(pairs)} label maps are equal to the last bit"
            + (", so every organ's Dice of after with before is 1" if same == len(pairs) and pairs else "")
        )
    head = "Nothing was forgotten" if forgetting.same else "**Something changed**"
    return f"{head}: {'; '.join(parts)}. No weight is ever changed: there is no training anywhere in the method."


def _weights(name: str, before: str | None, after: str | None) -> str:
    if before is None and after is None:
        return f"{name} has no weights"
    if before == after and before is not None:
        return f"{name}: weights `{before[:12]}` before and after"
    return f"{name}: weights `{(before or 'none')[:12]}` before, `{(after or 'none')[:12]}` after"


def figure_words(figure: Figure) -> str:
    """Value and interval, as a table's cell."""
    if figure.low is None or figure.high is None:
        return value_words(figure)
    return f"{value_words(figure)} [{_number(figure.low)}, {_number(figure.high)}]"


def value_words(figure: Figure) -> str:
    """The value alone."""
    return MISSING if figure.value is None or figure.n == 0 else _number(figure.value)


def _table(steps: Sequence[Step], columns: Mapping[str, str]) -> list[str]:
    rows = [[f"`{step.preset}`", *(figure_words(step.figure(key)) for key in columns.values())] for step in steps]
    return _rows(["step", *columns], rows)


def _changes(comparisons: Sequence[Comparison]) -> list[str]:
    rows = []
    for comparison in comparisons:
        cells = [f"`{comparison.second}` − `{comparison.first}`", str(comparison.paired)]
        for key in CHANGES.values():
            gap = comparison.difference(key)
            if gap.difference is None:
                cells.append(MISSING)
                continue
            low, high = gap.low, gap.high
            interval = "" if low is None or high is None else f" [{_signed(low)}, {_signed(high)}]"
            p = "" if gap.p is None else f", p {gap.p:.2g}"
            cells.append(f"{_signed(gap.difference)}{interval}{p}")
        rows.append(cells)
    return _rows(["step", "scans", *CHANGES], rows)


def _unanswered(steps: Sequence[Step]) -> Iterable[str]:
    words = [
        f"- `{step.preset}`: {'; '.join(step.accounting.unanswered)}" for step in steps if step.accounting.unanswered
    ]
    return ["Cases without an answer:", "", *words, ""] if words else []


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _signed(value: float) -> str:
    text = _number(abs(value))
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"
