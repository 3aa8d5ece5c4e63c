"""verify finds a tampered number, a changed voxel, a missing or changed artifact, and passes what was left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.traced_runs import Case, copied

from r2seg_agent.errors import InputError, R2SegError
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.runs.api import open_chat
from r2seg_agent.trace.run import TracedRun, open_run
from r2seg_agent.trace.story import Step, turns_of
from r2seg_agent.trace.verify import verify_run

Rewrite = Callable[[TracedRun, str, str], TracedRun]


def problems(run: TracedRun) -> dict[str, tuple[str, ...]]:
    return {check.name: check.problems for check in verify_run(run) if not check.passed}


def reject_step(run: TracedRun) -> Step:
    return next(
        s for turn in turns_of(run.events) for s in turn.steps if s.is_tool and s.head.step == "reject_candidates"
    )


@pytest.mark.parametrize("name", ["found", "strict", "nothing", "modelled", "conformal", "chat"])
def test_runs_that_were_left_alone_pass_every_check(runs: dict[str, TracedRun], name: str) -> None:
    checks = {check.name: check for check in verify_run(runs[name])}
    assert all(check.passed for check in checks.values()), problems(runs[name])
    for what in ("trace", "artifacts", "files", "p and q from evidence", "report"):
        assert checks[what].count > 0, what


def test_a_tampered_p_in_the_report_is_found(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    report = run.folder.path / "report.json"
    text = report.read_text()
    candidate = json.loads(text)["targets"][0]["rounds"][0]["candidates"][0]
    report.write_text(re.sub(rf'"p": {candidate["p"]}\b', '"p": 0.0007', text))
    wrong = problems(run)
    assert "report.json was changed after the run ended" in wrong["files"]
    assert any(f"{candidate['id']}: p is 0.0007, the evidence gives {candidate['p']}" in w for w in wrong["report"])


def test_a_tampered_p_is_found_even_when_its_artifact_is_forged_with_its_hash(
    found: TracedRun, tmp_path: Path, rewrite: Rewrite
) -> None:
    """A forger who writes a new round and puts its own hash into the trace is found by the evidence."""
    run = copied(found, tmp_path / "copy")
    old = reject_step(run).artifacts["round"]
    document = json.loads(run.store.path(old, ".doc.json").read_bytes())
    document["candidates"][0]["p"] = 0.0007
    forged = run.store.put_json(document)
    run = rewrite(run, old, forged.sha256)
    wrong = problems(run)
    assert set(wrong) == {"p and q from evidence"}
    assert "p is 0.0007, the evidence gives 0.001" in wrong["p and q from evidence"][0]


def test_a_tampered_cause_in_the_trace_is_found(nothing: TracedRun, tmp_path: Path, rewrite: Rewrite) -> None:
    run = rewrite(
        copied(nothing, tmp_path / "copy"), '"failed_gate":"ours.contrast"', '"failed_gate":"L2.anchor_overlap"'
    )
    assert "other reasons" in problems(run)["p and q from evidence"][0]


def test_a_survivor_that_was_put_in_is_found(nothing: TracedRun, tmp_path: Path, rewrite: Rewrite) -> None:
    run = rewrite(copied(nothing, tmp_path / "copy"), '"survivors":[]', '"survivors":["t1r1c1"]')
    assert (
        "the trace names the survivors ['t1r1c1'], the evidence gives []" in problems(run)["p and q from evidence"][0]
    )


def test_a_changed_voxel_is_found(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    report = run.report()
    assert report is not None
    assert report.image is not None
    path = run.folder.path / "lesions.nii.gz"
    labels = np.array(read_label_map(path, report.image.geometry))
    labels[0, 0, 0] = 1
    write_label_map(path, labels, report.image.geometry, names={1: "1 lesion"})
    wrong = problems(run)
    assert "lesions.nii.gz was changed after the run ended" in wrong["files"]
    assert "lesions.nii.gz: its voxels are not those of the report" in wrong["report"]


@pytest.mark.parametrize("suffix", [".npy", ".doc.json"])
def test_a_missing_artifact_is_found(found: TracedRun, tmp_path: Path, suffix: str) -> None:
    run = copied(found, tmp_path / "copy")
    artifacts = reject_step(run).artifacts
    evidence = json.loads(run.store.path(artifacts["evidence"], ".doc.json").read_bytes())
    gone = evidence["samples"]["sha256"] if suffix == ".npy" else artifacts["evidence"]
    run.store.path(gone, suffix).unlink()
    wrong = problems(run)
    assert any(gone[:12] in words and "missing" in words for words in wrong["artifacts"])
    assert any("cannot be derived again" in words for words in wrong["p and q from evidence"])


def test_a_changed_artifact_is_found_wherever_it_is_named(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    segment = next(s for t in turns_of(run.events) for s in t.steps if s.is_tool and s.head.step == "segment_lesions")
    regions = json.loads(run.store.path(segment.artifacts["regions"], ".doc.json").read_bytes())
    hidden = regions["probability"]["sha256"]
    assert hidden not in segment.artifacts.values()
    path = run.store.path(hidden, ".npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert any(hidden[:12] in words and "was changed" in words for words in problems(run)["artifacts"])


def test_an_event_that_was_taken_out_is_found(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    lines = run.folder.trace.read_text().splitlines(keepends=True)
    run.folder.trace.write_text("".join(lines[:5] + lines[6:]))
    wrong = problems(open_run(run.folder.workspace, run.id))
    assert list(wrong) == ["trace"]
    assert "event 6 is numbered 7" in wrong["trace"][0]


def test_a_trace_without_its_end_is_found(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    lines = run.folder.trace.read_text().splitlines(keepends=True)
    run.folder.trace.write_text("".join(lines[:-1]))
    wrong = problems(open_run(run.folder.workspace, run.id))["trace"]
    assert any("events are missing" in words for words in wrong)


def test_the_trace_of_another_run_is_found(found: TracedRun, strict: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    run.folder.trace.write_bytes(strict.folder.trace.read_bytes())
    assert f"the trace is one of run `{strict.id}`" in problems(open_run(run.folder.workspace, run.id))["trace"]


def test_settings_that_were_changed_in_the_evidence_are_found(
    found: TracedRun, tmp_path: Path, rewrite: Rewrite
) -> None:
    """Evidence with other settings, forged through to the trace, gives another p than the round."""
    run, _ = forged_evidence(copied(found, tmp_path / "copy"), rewrite, '"permutations":999', '"permutations":99')
    assert "p is 0.001, the evidence gives 0.01" in problems(run)["p and q from evidence"][0]


def test_a_changed_calibration_is_found(conformal: TracedRun, tmp_path: Path, rewrite: Rewrite) -> None:
    """One score of one lesion-free case is another: its own hash tells, even where all references are forged."""
    run = copied(conformal, tmp_path / "copy")
    evidence = run.store.path(reject_step(run).artifacts["evidence"], ".doc.json")
    old = json.loads(evidence.read_bytes())["calibration"]["sha256"]
    calibration = json.loads(run.store.path(old, ".doc.json").read_bytes())
    calibration["seed"] += 1
    run, _ = forged_evidence(run, rewrite, old, run.store.put_json(calibration).sha256)
    assert "the stored calibration and its own hash differ" in problems(run)["p and q from evidence"][0]


def forged_evidence(run: TracedRun, rewrite: Rewrite, old: str, new: str) -> tuple[TracedRun, str]:
    """The run with one text of its evidence changed, and with round and trace made to fit by their hashes."""
    artifacts = reject_step(run).artifacts
    text = run.store.path(artifacts["evidence"], ".doc.json").read_text()
    assert old in text
    forged = run.store.put_json(json.loads(text.replace(old, new))).sha256
    one = run.store.path(artifacts["round"], ".doc.json").read_text().replace(artifacts["evidence"], forged)
    return rewrite(run, artifacts["round"], run.store.put_json(json.loads(one)).sha256), forged


def test_verify_refuses_an_earlier_version(found: TracedRun) -> None:
    old = tuple(event.model_copy(update={"schema_version": "1"}) for event in found.events)
    with pytest.raises(InputError, match="version 1"):
        verify_run(TracedRun(folder=found.folder, record=found.record, events=old))


SEALED = ("trace.jsonl", "run.json", "report.json")


def _same_to_a_parser(name: str, before: bytes, after: bytes) -> bool:
    """True where a JSON parser sees no change, line by line in a trace."""
    old, new = (text.split(b"\n") if name == "trace.jsonl" else [text] for text in (before, after))
    try:
        return [json.loads(line or b"null") for line in old] == [json.loads(line or b"null") for line in new]
    except ValueError:
        return False


@pytest.mark.parametrize("name", SEALED)
def test_any_changed_byte_is_reported(found: TracedRun, tmp_path: Path, name: str) -> None:
    """67 random changes of one byte in each file that a run says of itself: 201 in all."""
    run = copied(found, tmp_path / "copy")
    path = run.folder.path / name
    before = path.read_bytes()
    rng = np.random.default_rng(20251112)
    unseen = []
    for at in rng.integers(0, len(before), 67):
        after = bytearray(before)
        after[at] ^= int(rng.integers(1, 256))
        path.write_bytes(after)
        try:
            reported = bool(problems(open_run(run.folder.workspace, run.id)))
        except R2SegError:
            reported = True
        if not reported and not _same_to_a_parser(name, before, bytes(after)):
            unseen.append((int(at), before[at], after[at]))
    assert unseen == []
    path.write_bytes(before)
    assert problems(open_run(run.folder.workspace, run.id)) == {}


FORGED = [
    ("find a liver lesion", "find a kidney tumour", "request"),
    ('"seed":0,"versions"', '"seed":7,"versions"', "seed"),
    ('"planner_kind":"offline"', '"planner_kind":"model"', "kind of planner"),
    ('"synthetic":true', '"synthetic":false', "image"),
    ('"unit":"HU"', '"unit":"arbitrary"', "image"),
]


@pytest.mark.parametrize(("old", "new", "what"), FORGED)
def test_a_trace_that_is_edited_alone_and_sealed_again_differs_from_the_report(
    found: TracedRun, tmp_path: Path, rewrite: Rewrite, old: str, new: str, what: str
) -> None:
    run = rewrite(copied(found, tmp_path / "copy"), old, new)
    assert any(f" as {what}" in words for words in problems(run)["report"])


def test_an_edited_answer_differs_from_the_report(found: TracedRun, tmp_path: Path, rewrite: Rewrite) -> None:
    text = next(str(event.data["answer"]) for event in found.events if event.kind == "answer")
    line = next(line for line in found.folder.trace.read_text().splitlines() if '"kind":"answer"' in line)
    run = rewrite(copied(found, tmp_path / "copy"), line, line.replace(text[:12], "Nothing at all"))
    assert any(" as answer" in words for words in problems(run)["report"])


def test_an_edited_trace_breaks_its_chain(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "copy")
    text = run.folder.trace.read_text()
    run.folder.trace.write_text(text.replace("find a liver lesion", "find a liver lesioN", 1))
    wrong = problems(open_run(run.folder.workspace, run.id))["trace"]
    assert any("chain" in words for words in wrong)
    assert any("trace.jsonl was changed" in words for words in wrong)


def test_a_conversation_that_goes_on_after_it_was_written_still_passes(case: Case, tmp_path: Path) -> None:
    with open_chat(str(case.image), case.options(tmp_path), session_id="chat-on") as session:
        list(session.say("find a liver lesion"))
        session.write()
        list(session.say("how big is it?"))
    run = open_run(tmp_path, "chat-on")
    assert run.record is not None
    assert run.record.status == "finished"
    assert [words for check in verify_run(run) for words in check.problems if check.name == "trace"] == []
