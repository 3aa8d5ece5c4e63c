"""`diff`: what differs between two runs: settings, plans, decisions, the first differing event, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel, JsonValue, TypeAdapter

from r2seg_agent.method.models import Candidate
from r2seg_agent.report.format import format_equals
from r2seg_agent.report.models import Report
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.sentences import sentence
from r2seg_agent.trace.story import Step

ABSENT = "–"
_TREE: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


class Change(NamedTuple):
    """One thing that differs: its name, and how it stands in either run."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class RunDiff:
    """Everything that differs; `events` are the first two that do (None where one trace has ended)."""

    settings: tuple[Change, ...]
    plans: tuple[Change, ...]
    decisions: tuple[Change, ...]
    files: tuple[Change, ...]
    position: int | None
    events: tuple[Event | None, Event | None] = (None, None)

    @property
    def same(self) -> bool:
        """True where nothing differs but names and times."""
        return not (self.settings or self.plans or self.decisions or self.files or self.position)


def diff_runs(first: TracedRun, second: TracedRun) -> RunDiff:
    """What differs between two runs, of the same scan or not. Raises `InputError` for traces of an earlier version."""
    for run in (first, second):
        run.need_current("diff")
    reports = first.report(), second.report()
    position = first_difference(first.events, second.events)
    return RunDiff(
        settings=tuple(_changes(_settings(first), _settings(second))),
        plans=tuple(_changes(*(_plans(report) for report in reports))),
        decisions=tuple(_changes(*(_decisions(report) for report in reports))),
        files=tuple(_changes(_files(first), _files(second))),
        position=position,
        events=(None, None) if position is None else (_at(first.events, position), _at(second.events, position)),
    )


def first_difference(first: Sequence[Event], second: Sequence[Event]) -> int | None:
    """`seq` of the first event that is not the same in both, times and the run's own name apart; None when all are."""
    for position in range(max(len(first), len(second))):
        a, b = _at(first, position + 1), _at(second, position + 1)
        if a is None or b is None or comparable(a) != comparable(b):
            return position + 1
    return None


def comparable(event: Event) -> Event:
    """The event without what two equal runs may differ in: `seconds`, the run's id, its parent, its settings.

    Settings are compared by themselves; two runs that differ in nothing else should not differ at event 1.
    """
    data = dict(event.data)
    if event.kind == "run_started":
        for name in ("run_id", "parent", "settings", "seed"):
            data.pop(name, None)
    if event.kind == "run_finished":
        # Report and chain cover the run's id, so hashes differ where the ids do; files are compared by themselves.
        data.pop("files", None)
        data.pop("chain", None)
    return event.model_copy(update={"data": data, "seconds": 0.0})


def changed_fields(first: Event, second: Event) -> tuple[Change, ...]:
    """What differs between two events of the same kind and step, field by field; else the two events in words."""
    if (first.kind, first.step) != (second.kind, second.step):
        return (Change("event", describe(first), describe(second)),)
    return tuple(_changes(flat(comparable(first).data), flat(comparable(second).data)))


def describe(event: Event | None) -> str:
    """An event in one line."""
    if event is None:
        return "the trace has ended"
    return f"{event.seq} {event.kind} {event.step}: {sentence(Step([event], event.seconds))}"


def flat(value: Mapping[str, JsonValue], prefix: str = "") -> dict[str, str]:
    """Dotted names → values as text; lists of scalars stay one value."""
    found: dict[str, str] = {}
    for name, inner in value.items():
        key = f"{prefix}{name}"
        if isinstance(inner, dict) and inner:
            found |= flat(inner, f"{key}.")
        elif isinstance(inner, list) and any(isinstance(item, dict) for item in inner):
            found |= flat({str(i + 1): item for i, item in enumerate(inner)}, f"{key}.")
        else:
            found[key] = "none" if inner is None else str(inner)
    return found


def _settings(run: TracedRun) -> dict[str, str]:
    started = run.started
    own: dict[str, JsonValue] = {"planner": started.planner, "seed": started.seed, "r2seg": started.r2seg}
    versions: dict[str, JsonValue] = {f"version of {name}": version for name, version in started.versions.items()}
    settings = {name: value for name, value in started.settings.items() if name != "plans"}
    return flat({**settings, **own, **versions})


def _plans(report: Report | None) -> dict[str, str]:
    targets = report.targets if report else ()
    return flat({f"target {i}": _dump(target.plan) for i, target in enumerate(targets, start=1)})


def _decisions(report: Report | None) -> dict[str, str]:
    if report is None:
        return {}
    found = {"outcome": report.outcome.replace("_", " ")}
    for target in report.targets:
        found |= {candidate.id: _verdict(candidate) for round_ in target.rounds for candidate in round_.candidates}
    for finding in report.findings:
        found[f"finding {finding.number}"] = f"{finding.candidate.id}, {finding.measurements.volume_ml:.3f} ml"
    return found


def _verdict(candidate: Candidate) -> str:
    return f"{candidate.decision}, {format_equals('p', candidate.p)}, {format_equals('q', candidate.q)}"


def _files(run: TracedRun) -> dict[str, str]:
    files = run.finished.files if run.finished else {}
    # The two reports carry the run's id and differ wherever it does; masks and pictures are what a reader compares.
    return {name: sha256[:12] for name, sha256 in files.items() if name not in ("report.json", "report.md")}


def _changes(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Change]:
    for name in [*first, *(name for name in second if name not in first)]:
        a, b = first.get(name, ABSENT), second.get(name, ABSENT)
        if a != b:
            yield Change(name, a, b)


def _at(events: Sequence[Event], seq: int) -> Event | None:
    return events[seq - 1] if seq <= len(events) else None


def _dump(model: BaseModel) -> dict[str, JsonValue]:
    return _TREE.validate_json(model.model_dump_json())
