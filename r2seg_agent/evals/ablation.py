"""`run_ablation`: a batch per preset over the same cases, each evaluated and compared with the one before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.row import Job, jobs_with_requests, make_jobs
from r2seg_agent.batch.run import BatchResult
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.evals.ablation_models import Ablation, Forgetting, Step, WeightsState
from r2seg_agent.evals.compare import compare
from r2seg_agent.evals.evaluate import evaluate_runs
from r2seg_agent.evals.forgetting import segmenter_of_all, weights_state
from r2seg_agent.evals.models import Evaluation, EvaluationSettings
from r2seg_agent.evals.write import write_evaluation
from r2seg_agent.files import write_text_atomic
from r2seg_agent.method.presets import PARTS, Preset
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.registry import AUTO
from r2seg_agent.version import __version__

Batch = Callable[[Preset, Sequence[Job], Path], BatchResult]
"""Runs the jobs of one preset into a folder, resumable (`batch.run.run_batch` with its engine and progress)."""

BEFORE = "forgetting-before.json"


def presets_named(text: str | None, *, calibrated: bool) -> tuple[Preset, ...]:
    """The presets that a comma list names, in the order of the ablation; None: all that can run.

    Raises `InputError` for an unknown one, and for `conformal` without a calibration.
    """
    if text is None:
        return tuple(preset for preset in PARTS if calibrated or preset != "conformal")
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in PARTS]
    if unknown or not wanted:
        raise InputError(
            f"there is no preset `{unknown[0] if unknown else text}`; there are: {', '.join(PARTS)}",
            "Give them with commas between: --presets baseline,+roi,full",
        )
    chosen = tuple(preset for preset in PARTS if preset in wanted)
    if "conformal" in chosen and not calibrated:
        raise InputError(
            "the preset `conformal` needs a calibration (--calibration), and none was given",
            "`r2seg calibrate` makes one from lesion-free scans; or leave `conformal` out of --presets.",
        )
    return chosen


def folder_of(preset: Preset) -> str:
    """The name of a preset's folder below the ablation's."""
    return preset.removeprefix("+")


def run_ablation(
    cases: Sequence[Case],
    request: str | None,
    options: RunOptions,
    out: Path,
    *,
    presets: Sequence[Preset],
    calibration: Path | None,
    batch: Batch,
    lesion_free: str | None = None,
    settings: EvaluationSettings | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Ablation:
    """Run every preset on all cases (what is done is not done again), evaluate, compare, look what was forgotten.

    All presets share one store of artifacts: what a later one has in common with an earlier one is not computed again.
    No overlays are drawn. `lesion_free` and `workers` as in `evaluate_runs`. Writes `evaluation.json` and more into
    each preset's folder; the caller writes the `Ablation`. Raises `InputError` where no case of a preset could be run,
    and what batch and evaluation raise.
    """
    plain = options.model_copy(update={"preset": "full", "reject": "auto", "calibration": None, "overlays": False})
    jobs = jobs_with_requests(tuple(cases), request, plain)
    if plain.segmenter == AUTO:  # one model in all presets and cases, or they could not be compared
        plain = plain.model_copy(update={"segmenter": segmenter_of_all(jobs)})
        jobs = jobs_with_requests(tuple(cases), request, plain)
    loaded = _calibration(calibration) if "conformal" in presets else None
    before = _before(out / BEFORE, jobs)
    evaluations: list[Evaluation] = []
    steps: list[Step] = []
    for preset in presets:
        own = plain.model_copy(update={"preset": preset, "calibration": calibration if preset == "conformal" else None})
        folder, due = out / folder_of(preset), make_jobs(tuple(cases), request, own)
        _check_folder(folder, due)
        _share_artifacts(out, folder)
        done = batch(preset, due, folder)
        if not any(row.status == "done" for row in done.rows):
            raise InputError(
                f"no case of preset `{preset}` could be run: {done.rows[0].error}", "Try it with `r2seg find`."
            )
        evaluation = evaluate_runs(
            folder, lesion_free=lesion_free, settings=settings, name=preset, workers=workers, progress=progress
        )
        write_evaluation(evaluation, folder)
        evaluations.append(evaluation)
        steps.append(
            Step(
                preset=preset,
                folder=folder.name,
                methods=evaluation.methods,
                accounting=evaluation.accounting,
                figures=evaluation.figures,
            )
        )
    return Ablation(
        r2seg_version=__version__,
        calibration_sha256=None if loaded is None else loaded.contents_sha256,
        steps=tuple(steps),
        comparisons=tuple(compare(a, b) for a, b in itertools.pairwise(evaluations)),
        forgetting=Forgetting(before=before, after=weights_state(jobs)),
    )


def _calibration(path: Path | None) -> Calibration:
    from r2seg_agent.reject.calibration_file import load_calibration

    assert path is not None  # `presets_named` asks for it
    return load_calibration(path)


def _before(path: Path, jobs: Sequence[Job]) -> WeightsState:
    """What was there before the first step, also where the ablation is resumed."""
    with suppress(OSError, ValidationError):
        return WeightsState.model_validate_json(path.read_bytes())
    state = weights_state(jobs)
    write_text_atomic(path, state.model_dump_json(indent=1) + "\n")
    return state


def _check_folder(folder: Path, jobs: Sequence[Job]) -> None:
    """Raise `InputError` where the folder holds cases of another ablation: they would be counted with these."""
    wanted = {job.key for job in jobs}
    others = {row.key for row in read_rows(folder / "journal.jsonl")} - wanted
    if others:
        raise InputError(
            f"`{folder}` holds {len(others)} cases that were run with other cases or settings",
            "Choose another --out, or give the command that began it.",
        )


def _share_artifacts(out: Path, folder: Path) -> None:
    """One store for all presets, by a link; where links cannot be made each preset has its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (out / "artifacts").mkdir(exist_ok=True)
    link = folder / "artifacts"
    if not link.exists() and not link.is_symlink():
        with suppress(OSError):
            link.symlink_to(Path("..") / "artifacts", target_is_directory=True)
