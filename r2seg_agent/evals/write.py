"""The files of an evaluation: JSON (all of it), Markdown, CSV per case, lesion and finding, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.evals.models import Comparison, Evaluation
from r2seg_agent.evals.tables import comparison_markdown, evaluation_markdown, side_by_side_markdown
from r2seg_agent.files import write_text_atomic
from r2seg_agent.report.table_rows import FINDINGS_FILE, csv_text, findings_csv

CASE_COLUMNS = (
    "number", "name", "patient", "run_id", "status", "outcome", "answered", "truth", "synthetic", "lesions", "findings",
    "lesions_found_iou", "lesions_found_overlap", "false_findings", "true_ml", "found_ml", "dice", "hd95_mm", "assd_mm",
    "nsd", "p",
)  # fmt: skip
LESION_COLUMNS = (
    "number", "name", "patient", "lesion", "volume_ml", "size", "finding", "iou", "found_ml", "overlapped", "dice",
)  # fmt: skip


def write_evaluation(evaluation: Evaluation, out: Path, *, pictures: bool = True) -> tuple[str, ...]:
    """Write `evaluation.json`, `evaluation.md`, tables of cases, lesions and findings, and pictures.

    Returns the names of the files. Raises `InputError` where `out` cannot be written.
    """
    files = {
        "evaluation.json": evaluation.model_dump_json(indent=1) + "\n",
        "cases.csv": csv_text(CASE_COLUMNS, _case_rows(evaluation)),
        "lesions.csv": csv_text(LESION_COLUMNS, _lesion_rows(evaluation)),
        FINDINGS_FILE: findings_csv(row for case in evaluation.cases for row in case.rows),
    }
    for name, text in files.items():
        write_text_atomic(out / name, text)
    drawn: tuple[str, ...] = ()
    if pictures:
        from r2seg_agent.evals.plots import draw_evaluation

        drawn = draw_evaluation(evaluation, out)
    write_text_atomic(out / "evaluation.md", evaluation_markdown(evaluation, drawn))
    return ("evaluation.md", *files, *drawn)


def write_comparison(comparison: Comparison, out: Path) -> tuple[str, ...]:
    """Write `comparison.json` and `comparison.md`; returns their names."""
    write_text_atomic(out / "comparison.json", comparison.model_dump_json(indent=1) + "\n")
    write_text_atomic(out / "comparison.md", comparison_markdown(comparison))
    return ("comparison.md", "comparison.json")


def write_side_by_side(evaluations: Sequence[Evaluation], out: Path) -> tuple[str, ...]:
    """Write `side-by-side.md` and the curves of several evaluations in one picture each; returns the names."""
    from r2seg_agent.evals.plots import draw_curves

    drawn = draw_curves(evaluations, out)
    write_text_atomic(out / "side-by-side.md", side_by_side_markdown(evaluations, drawn))
    return ("side-by-side.md", *drawn)


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation of an `evaluation.json`; `InputError` where it is none of this version."""
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"`{path.name}` is no evaluation of this version of r2seg", "Make it again with `r2seg eval`."
        ) from error


def _case_rows(evaluation: Evaluation) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for case in evaluation.cases:
        v = case.voxels
        known = (
            {}
            if v is None
            else {
                "lesions": len(case.lesions),
                "findings": len(case.findings),
                "lesions_found_iou": sum(m.finding is not None for m in case.lesions),
                "lesions_found_overlap": sum(m.overlapped for m in case.lesions),
                "false_findings": sum(not f.touches for f in case.findings),
                "dice": 2 * v.tp / (2 * v.tp + v.fp + v.fn) if v.tp + v.fp + v.fn else None,
            }
        )
        surface = {} if case.surface is None else case.surface.model_dump()
        rows.append({**case.model_dump(exclude={"lesions", "findings", "rows"}), **known, **surface})
    return rows


def _lesion_rows(evaluation: Evaluation) -> list[Mapping[str, object]]:
    return [
        {"number": case.number, "name": case.name, "patient": case.patient, "lesion": m.label, **m.model_dump()}
        for case in evaluation.cases
        for m in case.lesions
    ]
