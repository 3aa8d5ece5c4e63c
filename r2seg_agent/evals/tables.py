"""An evaluation and a comparison as Markdown: every figure with its interval, its n and its patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from r2seg_agent.evals.grids import (
    bracket,
    cell,
    detection_grid,
    digits,
    froc_grid,
    size_grid,
    value_words,
)
from r2seg_agent.evals.models import (
    Accounting,
    Comparison,
    Difference,
    Evaluation,
    Figure,
    Level,
)

LEVELS: Mapping[Level, str] = MappingProxyType(
    {
        "scan": "Scans",
        "lesion": "Lesions",
        "froc": "FROC: all candidates, rejected ones too",
        "slice": "Slices",
        "voxel": "Voxels",
        "surface": "Surfaces and bodies (MONAI)",
        "volume": "Volumes",
        "paper": "The paper's own figures, with its rules",
    }
)
NOTES: Mapping[Level, str] = MappingProxyType(
    {
        "lesion": "A lesion counts as found when a finding matches it (greedy, one to one, by IoU) or when any finding "
        "shares a voxel with it; the second is generous to findings that cover half an organ.",
        "froc": "Sensitivity is a step function of the threshold; nothing is interpolated. Scores rank, they are no "
        "p-values.",
        "scan": "A finding on a lesion-bearing scan may lie beside the lesion: the line “on a lesion” asks for both.",
        "paper": "For comparison with the paper's tables only. Dice counts a slice that is empty on both sides as 1, "
        "and class accuracy gives a perfect lesion-free slice 0.5: both depend on how many slices are empty. The table "
        "of slices has the same without these.",
        "surface": "Only scans that hold a lesion and a finding have distances; the missed ones are in no mean.",
        "volume": "Limits of agreement are over matched lesions (IoU).",
    }
)
SURE = 0.05
FEW_PATIENTS = 20
"""Below this a bootstrap interval covers visibly less than it says (Davison and Hinkley 1997)."""
PICTURES: Mapping[str, str] = MappingProxyType(
    {
        "froc.png": "FROC curve",
        "roc.png": "ROC curve of scans",
        "dice_by_volume.png": "Dice of each lesion by its volume",
        "bland_altman.png": "Found against true volume (Bland-Altman)",
    }
)


def evaluation_markdown(evaluation: Evaluation, pictures: Sequence[str] = ()) -> str:
    """The whole evaluation as Markdown."""
    settings = evaluation.settings
    lines = [
        f"# Evaluation of {evaluation.name}",
        "",
        f"{evaluation.disclaimer}",
        "",
        *(f"- {method}" for method in evaluation.methods),
        "",
        *_accounting_lines(evaluation.accounting),
        *(line for warning in evaluation.warnings for line in ("", f"**Careful:** {warning}")),
        "",
        f"Intervals: {settings.confidence:.0%}, bootstrap over patients ({settings.resamples} resamples, seed "
        f"{settings.seed}), BCa where defined; “exact” is Clopper-Pearson over patients for shares of 0 or 1, where a "
        "bootstrap sees no spread; – where the data give none. "
        f"A lesion is {'a value' if settings.instances else 'a 26-connected component of a value'} of the truth map"
        f"; candidates and scans are ranked by {evaluation.rank}.",
    ]
    if few_patients(evaluation.accounting.patients):
        lines += ["", few_patients(evaluation.accounting.patients)]
    for level, title in LEVELS.items():
        rows = [figure for figure in evaluation.figures if figure.level == level and figure.n > 0]
        if not rows:
            continue
        lines += ["", f"## {title}", ""]
        if level in NOTES:
            lines += [NOTES[level], ""]
        lines += [*_level_table(evaluation, level, rows)]
    absent = [
        title for level, title in LEVELS.items() if not any(f.level == level and f.n > 0 for f in evaluation.figures)
    ]
    if absent:
        lines += ["", f"Nothing to say about: {', '.join(absent)}."]
    return "\n".join([*lines, *_picture_lines(pictures)]) + "\n"


def _level_table(evaluation: Evaluation, level: Level, rows: Sequence[Figure]) -> Iterator[str]:
    if level == "froc":
        yield from froc_grid(evaluation)
        return
    if level == "lesion":
        yield from detection_grid(evaluation)
        yield ""
        yield from size_grid(evaluation)
        return
    yield "| | value | interval | n | patients |"
    yield "|---|---|---|---|---|"
    for figure in rows:
        interval = bracket(figure.low, figure.high) + (" exact" if figure.interval == "exact" else "")
        value = value_words(figure.value, figure.unit)
        yield f"| {figure.name} | {value} | {interval} | {figure.n} {figure.of} | {figure.patients} |"


def side_by_side_markdown(evaluations: Sequence[Evaluation], pictures: Sequence[str] = ()) -> str:
    """All figures of several evaluations, a column each; the cases need not be the same."""
    lines = ["# Side by side", "", evaluations[0].disclaimer, ""]
    lines += [f"- {e.name}: {next(accounting_words(e.accounting))}" for e in evaluations]
    lines += ["", "Intervals that overlap do not show that two are equal; `r2seg eval A --against B` pairs the cases."]
    for level, title in LEVELS.items():
        keys = [f.key for f in evaluations[0].figures if f.level == level]
        rows = [[evaluation.figure(key) for evaluation in evaluations] for key in keys]
        rows = [row for row in rows if any(figure.value is not None for figure in row)]
        if not rows:
            continue
        lines += ["", f"## {title}", "", f"| | {' | '.join(e.name for e in evaluations)} |"]
        lines += ["|---|" + "---|" * len(evaluations)]
        lines += [f"| {row[0].name} | " + " | ".join(f"{cell(f)} (n {f.n})" for f in row) + " |" for row in rows]
    return "\n".join([*lines, *_picture_lines(pictures)]) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison as Markdown; bold: the interval is without 0, and p, where there is one, below 0.05."""
    lines = [
        f"# {comparison.second} against {comparison.first}",
        "",
        comparison.disclaimer,
        "",
        f"{comparison.paired} cases of {comparison.patients} patients are in both; {comparison.only_first} only in "
        f"{comparison.first}, {comparison.only_second} only in {comparison.second}: these are left out here. "
        f"Differences are second minus first, intervals by paired bootstrap over patients ({comparison.resamples} "
        f"resamples, seed {comparison.seed}), p by swapping the answers of whole patients. One p in "
        "twenty is below 0.05 by chance, and there are many rows: choose the row before you look.",
    ]
    for level, title in LEVELS.items():
        rows = [d for d in comparison.differences if d.level == level and d.difference is not None]
        if rows:
            lines += [
                "",
                f"## {title}",
                "",
                f"| | {comparison.first} | {comparison.second} | difference | p | patients |",
            ]
            lines += ["|---|---|---|---|---|---|", *(_difference_row(row) for row in rows)]
    lines += ["", "## Who got it right alone (McNemar, exact)", ""]
    lines += ["These treat lesions of one patient as independent; the tests above do not.", ""]
    lines += ["| | both | only first | only second | neither | p |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {d.name} | {d.both} | {d.only_first} | {d.only_second} | {d.neither} | {p_words(d.p)} |"
        for d in comparison.discordances
    ]
    return "\n".join(lines) + "\n"


def accounting_words(accounting: Accounting) -> Iterator[str]:
    """Where every case went, a line each."""
    a = accounting
    yield (
        f"{a.cases} cases of {a.patients} patients; {a.evaluated} evaluated: {a.bearing} with {a.lesions} lesions, "
        f"{a.lesion_free} lesion-free; {a.findings} findings."
    )
    if a.unanswered:
        yield f"{len(a.unanswered)} without an answer (second lines count these as missed): {_some(a.unanswered)}"
    if a.not_run:
        yield f"{len(a.not_run)} listed in the truth but not run: {_some(a.not_run)}"
    if a.no_truth:
        yield f"{len(a.no_truth)} without a truth, left out: {_some(a.no_truth)}"
    if a.bad_truth:
        yield f"{len(a.bad_truth)} with a truth that cannot be used, left out: {_some(a.bad_truth)}"
    if a.without_candidates:
        yield f"{a.without_candidates} without their candidates' label maps: left out of FROC and ROC."
    if a.without_spacing:
        yield f"{a.without_spacing} without a spacing: left out of volumes and distances."
    if a.synthetic:
        yield f"{a.synthetic} cases hold synthetic content."


def _accounting_lines(accounting: Accounting) -> list[str]:
    first, *rest = accounting_words(accounting)
    return [first, *(["", *(f"- {line}" for line in rest)] if rest else [])]


def few_patients(patients: int) -> str:
    """A warning where a bootstrap over so few patients says too little; empty otherwise."""
    if patients >= FEW_PATIENTS:
        return ""
    return (
        f"Only {patients} patient{'s' * (patients != 1)}: intervals from fewer than {FEW_PATIENTS} are too narrow; "
        "read them as a lower bound of what is not known."
    )


def _picture_lines(pictures: Sequence[str]) -> list[str]:
    return [line for name in pictures for line in ("", f"![{PICTURES.get(name, name)}]({name})")]


def difference_words(row: Difference) -> str:
    """The difference with its sign and interval."""
    if row.difference is None:
        return "–"
    sign = "+" if row.difference >= 0 else ""
    return f"{sign}{digits(row.difference)} {bracket(row.low, row.high)}"


def p_words(p: float) -> str:
    """A p-value in three digits; a small one is not called 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _difference_row(row: Difference) -> str:
    apart = row.low is not None and row.high is not None and (row.low > 0 or row.high < 0)
    words = difference_words(row)
    if apart and (row.p is None or row.p < SURE):
        words = f"**{words}**"
    p = "–" if row.p is None else p_words(row.p)
    values = [value_words(value, row.unit) for value in (row.first, row.second)]
    return f"| {row.name} | {values[0]} | {values[1]} | {words} | {p} | {row.patients} |"


def _some(names: Sequence[str], most: int = 12) -> str:
    rest = len(names) - most
    return "; ".join(names[:most]) + (f"; and {rest} more" if rest > 0 else "")
