"""A trace as a story, a tree, and one step with everything that it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.run import TracedRun, glance, old_runs, open_run
from r2seg_agent.trace.sentences import points, sentence
from r2seg_agent.trace.story import step_at, turns_of
from r2seg_agent.trace.tree import candidates_table, clean, format_seconds, pictures_of, round_of, run_tree, step_view


def printed(thing: object) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(thing)
    return console.export_text()


def test_every_event_belongs_to_exactly_one_step(runs: dict[str, TracedRun]) -> None:
    for run in runs.values():
        told = [event.seq for turn in turns_of(run.events) for step in turn.steps for event in step.events]
        assert told == [event.seq for event in run.events]


def test_the_tree_says_what_was_asked_planned_tried_rejected_and_why(found: TracedRun) -> None:
    text = printed(run_tree(found))
    for words in (
        "turn 1: find a liver lesion", "plan_search", "in liver, margin 10 mm", "locate_organs", "by masks",
        "candidates by contrast (a stand-in)", "survived", "not FDR-valid", "long, like a vessel", "finding 1:",
        "lesions found", "report.json", "referee: ",
    ):  # fmt: skip
        assert words in text, words


def test_every_step_of_every_run_has_a_sentence(runs: dict[str, TracedRun]) -> None:
    for run in runs.values():
        for turn in turns_of(run.events):
            for step in turn.steps:
                if step.head.kind != "answer":
                    assert sentence(step).strip(), (run.id, step.number)
                assert "None" not in sentence(step), (run.id, step.number, sentence(step))
                assert not any("None" in point for point in points(step))


def test_a_conversation_is_told_turn_by_turn(chat: TracedRun) -> None:
    turns = [turn for turn in turns_of(chat.events) if turn.index]
    assert [turn.index for turn in turns] == [1, 2, 3, 4, 5]
    assert turns[0].text == "find a liver lesion of [name]"
    tools = {turn.index: [step.head.step for step in turn.steps if step.is_tool] for turn in turns}
    assert "reject_candidates" in tools[1]
    assert tools[2] == ["describe_findings"]
    assert tools[3] == ["show_slices"]


def test_a_step_shows_its_events_its_candidates_and_its_pictures(chat: TracedRun) -> None:
    steps = [step for turn in turns_of(chat.events) for step in turn.steps if step.is_tool]
    reject = next(step for step in steps if step.head.step == "reject_candidates")
    one = round_of(chat, reject)
    assert one is not None
    text = printed(step_view(chat, reject))
    assert all(candidate.id in text for candidate in one.candidates)
    assert '"survivors"' in text
    assert candidates_table(one).row_count == len(one.candidates)
    shown = next(step for step in steps if step.head.step == "show_slices")
    (picture,) = pictures_of(chat, shown)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in printed(step_view(chat, shown)).replace("\n", "")
    assert step_at(turns_of(chat.events), shown.events[-1].seq) is not None
    assert step_at(turns_of(chat.events), 10_000) is None


def test_words_of_others_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\u202ec\r") == "a [2Jb c "


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0 ms"), (0.34, "340 ms"), (4.24, "4.2 s"), (185.0, "3 min 05 s")])
def test_times_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_runs_are_found_by_a_unique_beginning(found: TracedRun, strict: TracedRun) -> None:
    workspace = found.folder.workspace
    assert open_run(workspace, found.id[:6]).id == found.id
    with pytest.raises(InputError, match=f"near: {found.id}"):
        open_run(workspace, found.id[:-1] + "x")
    with pytest.raises(InputError, match="no runs"):
        open_run(workspace / "elsewhere", "x")
    assert found.record is not None
    assert glance(workspace, found.record) == ("find a liver lesion", found.events[-1].seconds)


def test_a_trace_of_version_1_is_shown_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    lines = [
        ("run_started", "find", {"run_id": "0123456789ab", "r2seg": "0.1.0", "request": "find the lung nodule"}),
        ("referee", "ask_planner", {"offered": ["plan_search"]}),
        ("referee", "locate_organs", {"taken_by": "referee", "args": {"target": 1}, "why": "where are they?"}),
        (
            "tool_result",
            "locate_organs",
            {"source": "hounsfield", "stand_in": True, "anchors_ml": {"lung_left": 900.0}},
        ),
        ("run_finished", "find", {"outcome": "no_lesion_survived", "files": ["report.json"]}),
    ]
    (folder / "trace.jsonl").write_text(
        "".join(
            Event.model_validate(
                {"schema_version": "1", "seq": i, "kind": kind, "step": step, "data": data, "seconds": i / 10}
            ).model_dump_json()
            + "\n"
            for i, (kind, step, data) in enumerate(lines, start=1)
        )
    )
    assert old_runs(tmp_path) == ("0123456789ab",)
    run = open_run(tmp_path, "0123")
    text = printed(run_tree(run))
    assert "trace of version 1" in text
    assert "turn 1: find the lung nodule" in text
    assert "anchors ml lung left 900" in text
    with pytest.raises(InputError, match="`verify` needs version 3"):
        run.need_current("verify")


def test_a_trace_of_version_2_is_shown_without_the_lines_that_it_lacks(found: TracedRun, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes((found.folder.path / "run.json").read_bytes())
    with (folder / "trace.jsonl").open("w", encoding="utf-8") as file:
        for event in found.events:
            data = event.data["result"] if event.kind == "tool_result" else event.data
            old = event.model_copy(update={"schema_version": "2", "data": data})
            file.write(old.model_dump_json() + "\n")
    run = open_run(tmp_path, "0123")
    text = printed(run_tree(run))
    assert "trace of version 2" in text
    assert "mode paper; valid False" in text, "the bare result, as it stands there"
    assert "turn 1: find a liver lesion" in text
    with pytest.raises(InputError, match="`verify` needs version 3"):
        run.need_current("verify")


def test_a_tools_own_line_is_what_the_trace_shows(chat: TracedRun) -> None:
    steps = [step for turn in turns_of(chat.events) for step in turn.steps if step.is_tool and not step.error]
    assert steps
    for step in steps:
        returned = next(event for event in step.events if event.kind == "tool_result")
        assert sentence(step) == step.line == returned.data["line"]
        assert points(step)[:8] == step.points[:8]
        assert step.result == returned.data["result"]


def test_a_run_without_a_trace_is_a_clear_error(found: TracedRun, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "aaaa"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes((found.folder.path / "run.json").read_bytes())
    with pytest.raises(RunFailedError, match="no trace"):
        open_run(tmp_path, "aaaa")
