"""A run's files besides its results: what it was asked, how it stands, and the first event of its trace."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter

from r2seg_agent.errors import InputError
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.imaging.in_memory import IN_MEMORY
from r2seg_agent.report.models import Report
from r2seg_agent.runs.options import NOT_SAVED, RunOptions
from r2seg_agent.runs.prepare import Prepared
from r2seg_agent.segment.auto import SegmenterChoice
from r2seg_agent.store.runs import RunFolder, RunInputs, RunKind, RunRecord, RunStatus, utc_now
from r2seg_agent.trace.redact import redact
from r2seg_agent.version import __version__

_JSON: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def inputs_of(
    kind: RunKind,
    request: str,
    image: str,
    options: RunOptions,
    parent: str | None,
    choice: SegmenterChoice | None = None,
) -> RunInputs:
    """Everything needed to resume a run; `options` name the segmenter that `choice` speaks of."""
    saved = _JSON.validate_python(options.model_dump(mode="json", exclude=set(NOT_SAVED)))
    why = None if choice is None else _JSON.validate_python(choice.model_dump(mode="json"))
    return RunInputs(
        kind=kind, request=redact(request), image=image, options=saved, parent=parent, segmenter_choice=why
    )


def choice_of(inputs: RunInputs) -> SegmenterChoice | None:
    """Why the run's segmenter was chosen; None where it was named."""
    return None if inputs.segmenter_choice is None else SegmenterChoice.model_validate(inputs.segmenter_choice)


def options_of(inputs: RunInputs) -> RunOptions:
    """The options that a run was started with; what belongs to one process is at its default."""
    return RunOptions.model_validate(inputs.options)


def file_of_run(inputs: RunInputs, run_id: str) -> str:
    """The path of a run's scan; `InputError` for a scan that was given in memory, of which only a hash is kept."""
    if inputs.image == IN_MEMORY:
        raise InputError(
            f"the scan of run `{run_id}` was given in memory, and a run folder holds no scan",
            "Give it again: a file of the same voxels and grid with --image, in Python the scan itself.",
        )
    return inputs.image


def begin_record(folder: RunFolder, kind: RunKind, image: str, request: str, parent: str | None, *, anew: bool) -> None:
    """Note that the run works: as a new one, or as one that is resumed."""
    if not anew and folder.exists():
        note(folder, "running", resumed=folder.record().resumed + 1)
        return
    now = utc_now()
    record = RunRecord(
        id=folder.id,
        kind=kind,
        status="running",
        request=redact(request),
        image=image,
        created=now,
        updated=now,
        parent=parent,
    )
    folder.write_record(record)


def note(folder: RunFolder, status: RunStatus, **changes: object) -> None:
    """Note how the run stands now."""
    folder.write_record(folder.record().model_copy(update={"status": status, **changes}))


def started(
    report: Report, planner: Planner, prepared: Prepared, folder: RunFolder, parent: str | None
) -> dict[str, object]:
    """The payload of `run_started`: everything that the run's results depend on."""
    inputs = folder.inputs()
    return {
        "run_id": folder.id,
        "kind": inputs.kind,
        "r2seg": __version__,
        "request": inputs.request,
        "image": prepared.image.model_dump(mode="json"),
        "planner": planner.name,
        "planner_kind": planner.kind,
        "settings": prepared.identity,
        "segmenter_choice": None if prepared.choice is None else prepared.choice.model_dump(mode="json"),
        "seed": inputs.options.get("seed"),
        "versions": dict(report.versions),
        "parent": parent,
    }


def new_chat_id() -> str:
    """A fresh id for a conversation."""
    import secrets

    return f"chat-{secrets.token_hex(4)}"
