"""`verify`: is a run still what its trace says? Nothing is repeated that needs the scan or a model.

Checked: the trace is well-formed; its events, `run.json` and the bytes of both have the hashes that they hold of
themselves and of each other; what stands in report, trace and `run.json` is the same; every artifact has its hash, and
those that artifacts refer to; every file of the run has the hash that the trace ends with, and the lesion mask the
voxels that the report names; every p- and q-value, score and verdict is derived again from the stored evidence and is
the same to the last bit in the round, the trace and the report. What verify cannot see: a forger who changes all of
them together, since a trace carries no signature (`replay` finds that, with the scan).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import R2SegError, RunFailedError
from r2seg_agent.files import file_sha256
from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.reject.decide import Decided, judge
from r2seg_agent.report.models import Report
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.store.runs import RunRecord
from r2seg_agent.trace.artifacts_check import artifact_problem, references
from r2seg_agent.trace.events import chain_sha256
from r2seg_agent.trace.evidence import read_evidence
from r2seg_agent.trace.payloads import Answer, Artifact, UserMessage, check_payload, payload
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.story import Step, turns_of


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: how many there were, and what is wrong with some, in words."""

    name: str
    count: int
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems


def verify_run(run: TracedRun) -> tuple[Check, ...]:
    """Every check of one run, in the order in which a reader wants them.

    Raises `InputError` for a trace of an earlier version.
    """
    run.need_current("verify")
    trace = _check_trace(run)
    if not trace.passed:
        # What else could be read from it means nothing.
        return (trace,)
    steps = [step for turn in turns_of(run.events) for step in turn.steps]
    return (trace, _check_artifacts(run), _check_files(run), _check_values(run, steps), _check_report(run))


def _check_trace(run: TracedRun) -> Check:
    problems: list[str] = []
    last = 0.0
    for number, event in enumerate(run.events, start=1):
        if event.seq != number:
            problems.append(f"event {number} is numbered {event.seq}: something was taken out or put in")
            break
        if event.seconds < last:
            problems.append(f"event {number} happened before the one above it")
        last = event.seconds
        try:
            check_payload(event)
        except R2SegError as error:
            problems.append(error.message)
    try:
        started = run.started
        if started.run_id != run.id:
            problems.append(f"the trace is one of run `{started.run_id}`")
    except R2SegError as error:
        problems.append(error.message)
    problems += _seal_problems(run)
    noted = run.record is not None and (run.record.kind, run.record.status) == ("find", "finished")
    if noted and (not run.events or run.events[-1].kind != "run_finished"):
        problems.append("the run is noted as finished and its trace has no `run_finished`: events are missing")
    return Check("trace", len(run.events), tuple(problems))


def _seal_problems(run: TracedRun) -> Iterator[str]:
    """The hashes that trace and `run.json` hold of themselves and of each other."""
    last = next((n for n, event in reversed(list(enumerate(run.events))) if event.kind == "run_finished"), None)
    chain = None if last is None else run.events[last].data.get("chain")
    if chain is not None and chain != chain_sha256(run.events[:last]):
        yield "an event was changed after the run ended: the chain of their hashes is another"
    record = run.record
    if record is None or (chain is None and record.record_sha256 is None):
        return  # written by an earlier r2seg
    if record.record_sha256 != record.own_sha256:
        yield "run.json was changed after it was written"
    if record.status != "running" and record.trace_sha256 != file_sha256(run.folder.trace):
        yield "trace.jsonl was changed after the run was put down"


def _check_artifacts(run: TracedRun) -> Check:
    store, problems = run.store, []
    waiting: list[tuple[str, str, str]] = [
        (artifact.sha256, artifact.kind, f"{event.step}: {artifact.role}")
        for event in run.events
        if event.kind == "artifact"
        for artifact in (payload(event, Artifact),)
    ]
    seen: set[str] = set()
    while waiting:
        sha256, kind, role = waiting.pop(0)
        if sha256 in seen:
            continue
        seen.add(sha256)
        problem = artifact_problem(store, sha256, kind)
        if problem:
            problems.append(f"artifact {sha256[:12]} ({role}, {kind}): {problem}")
        elif kind == "json":
            waiting += [(inner, inner_kind, role) for inner, inner_kind in references(store, sha256)]
    return Check("artifacts", len(seen), tuple(problems))


def _check_files(run: TracedRun) -> Check:
    files = {} if run.finished is None else dict(run.finished.files)
    problems: list[str] = []
    for name, sha256 in files.items():
        path = run.folder.path / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != sha256:
            problems.append(f"{name} was changed after the run ended")
    return Check("files", len(files), tuple(problems))


def _check_values(run: TracedRun, steps: list[Step]) -> Check:
    """Rounds as the trace has them: verdicts from evidence against the round and against the tool's result."""
    problems: list[str] = []
    judged = 0
    for step in steps:
        found = step.artifacts.get("round") if step.is_tool else None
        if found is None:
            continue
        try:
            round_ = SearchRound.model_validate_json(run.store.json(ArtifactRef(sha256=found, kind="json")))
            verdicts = _derived(run.store, round_)
        except (R2SegError, ValidationError) as error:
            words = error.message if isinstance(error, R2SegError) else "it is no search round"
            problems.append(f"event {step.number}: cannot be derived again: {words}")
            continue
        judged += len(verdicts)
        problems += [f"event {step.number}: {words}" for words in _differences(round_.candidates, verdicts)]
        problems += [f"event {step.number}: {words}" for words in _against_result(round_, verdicts, step)]
    return Check("p and q from evidence", judged, tuple(problems))


def _derived(store: ArtifactStore, round_: SearchRound) -> tuple[Decided, ...]:
    if round_.evidence is None:
        raise RunFailedError(f"round {round_.index} names no evidence")
    _, evidence = read_evidence(store, round_.evidence)
    return judge(evidence)


def _differences(candidates: tuple[Candidate, ...], verdicts: tuple[Decided, ...]) -> Iterator[str]:
    if len(candidates) != len(verdicts):
        yield f"{len(candidates)} candidates, evidence for {len(verdicts)}"
        return
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        decision = "survived" if verdict.survived else "rejected"
        pairs = (
            ("p", candidate.p, verdict.p),
            ("q", candidate.q, verdict.q),
            ("score", candidate.score, verdict.score),
            ("decision", candidate.decision, decision),
            ("cause", candidate.cause, verdict.cause),
            ("failed gate", candidate.failed_gate, verdict.failed_gate),
            ("gates", candidate.gates, verdict.gates),
        )
        for name, recorded, derived in pairs:
            if recorded != derived:
                yield f"candidate {candidate.id}: {name} is {_short(recorded)}, the evidence gives {_short(derived)}"


def _against_result(round_: SearchRound, verdicts: tuple[Decided, ...], step: Step) -> Iterator[str]:
    result = step.result or {}
    survivors = [c.id for c, v in zip(round_.candidates, verdicts, strict=False) if v.survived]
    rejected = {
        c.id: {"cause": v.cause, "failed_gate": v.failed_gate}
        for c, v in zip(round_.candidates, verdicts, strict=False)
        if not v.survived
    }
    if result.get("survivors") != survivors:
        yield f"the trace names the survivors {result.get('survivors')}, the evidence gives {survivors}"
    traced = result.get("rejected")
    if traced != rejected:
        wrong = [name for name, why in rejected.items() if not isinstance(traced, dict) or traced.get(name) != why]
        yield f"the trace gives other reasons for {', '.join(wrong) or 'candidates that were not rejected'}"


def _check_report(run: TracedRun) -> Check:
    """The report against evidence, trace and mask."""
    try:
        report = run.report()
    except R2SegError as error:
        return Check("report", 1, (error.message,))
    if report is None:
        return Check("report", 0, ())
    problems: list[str] = []
    if report.run_id != run.id:
        problems.append(f"report.json is of run `{report.run_id}`")
    problems += (
        f"report.json says {_short(said)} as {name}, {where} {_short(other)}"
        for name, said, where, other in _told_twice(run, report)
        if said != other
    )
    rounds = [round_ for target in report.targets for round_ in target.rounds]
    for round_ in rounds:
        try:
            problems += [
                f"report.json: {words}" for words in _differences(round_.candidates, _derived(run.store, round_))
            ]
        except R2SegError as error:
            problems.append(f"report.json: round {round_.index} cannot be derived again: {error.message}")
    known = {candidate.id: candidate for round_ in rounds for candidate in round_.candidates}
    problems += [
        f"report.json: finding {finding.number} and candidate {finding.candidate.id} differ"
        for finding in report.findings
        if known.get(finding.candidate.id) != finding.candidate
    ]
    problems += _mask_problems(run.folder.path, report)
    return Check("report", len(known), tuple(problems))


def _told_twice(run: TracedRun, report: Report) -> Iterator[tuple[str, object, str, object]]:
    """(what, report.json's, where else, what stands there) of everything that stands in two places."""
    started, record = run.started, run.record
    yield "image", report.image, "the trace", started.image
    yield "choice of the segmenter", report.segmenter_choice, "the trace", started.segmenter_choice
    yield "seed", None if report.reject is None else report.reject.seed, "the trace", started.seed
    if run.finished is not None:
        yield "outcome", report.outcome, "the trace", run.finished.outcome
    if record is None:
        return
    yield "image's name", started.image.name, "run.json", record.image
    yield "kind", started.kind, "run.json", record.kind
    yield "parent", started.parent, "run.json", record.parent
    if record.status == "finished":
        yield "number of findings", len(report.findings), "run.json", record.findings
        yield "outcome", report.outcome, "run.json", record.outcome
    if record.resumed == 0:  # another r2seg, or another planner, may go on
        yield "version of r2seg", report.r2seg_version, "the trace", started.r2seg
        yield "versions", dict(report.versions), "the trace", dict(started.versions)
    if record.kind == "find":
        yield from _told_twice_by_find(run, report, record)


def _told_twice_by_find(run: TracedRun, report: Report, record: RunRecord) -> Iterator[tuple[str, object, str, object]]:
    """What a search of one turn says twice; in a conversation the report sums its turns up."""
    if run.started.parent is None:
        words = " / ".join(payload(event, UserMessage).text for event in run.events if event.kind == "user_message")
        yield "request", report.request, "the trace", words
        yield "request", run.started.request, "run.json", record.request
    answers = [payload(event, Answer) for event in run.events if event.kind == "answer"]
    if answers:
        yield "answer", report.answer, "the trace", answers[-1].answer
        yield "outcome", report.outcome, "the answer in the trace", answers[-1].outcome
    if record.resumed == 0 and report.planner_kind != "plan_file":
        yield "planner", report.planner, "the trace", run.started.planner
        yield "kind of planner", report.planner_kind, "the trace", run.started.planner_kind


def _mask_problems(folder: Path, report: Report) -> Iterator[str]:
    """The voxels of `lesions.*` against the hash in the report; a DICOM SEG is checked by its file's hash alone."""
    from r2seg_agent.imaging.identity import array_sha256
    from r2seg_agent.imaging.masks import read_label_map

    if report.lesions_sha256 is None or report.image is None or not report.findings:
        return
    for path in sorted(folder.glob("lesions.*")):
        if path.suffix == ".dcm":
            continue
        try:
            labels = read_label_map(path, report.image.geometry)
        except R2SegError as error:
            yield f"{path.name} cannot be read: {error.message}"
            continue
        if array_sha256(labels, report.image.geometry) != report.lesions_sha256:
            yield f"{path.name}: its voxels are not those of the report"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
