"""A run replayed from its trace gives the same bytes without a model; what differs is found and named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.scripted import scripted_planner
from helpers.small_case import open_small_chat
from helpers.traced_runs import Case, ScriptedPlanner, copied
from langchain_core.messages import AIMessage, ToolCall

from r2seg_agent.errors import BudgetError, InputError
from r2seg_agent.runs.api import run_find, run_fork
from r2seg_agent.runs.replay import ReplayPlanner, replay_run
from r2seg_agent.trace.run import TracedRun, open_run


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def found(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TracedRun:
    workspace = tmp_path_factory.mktemp("ws")
    return open_run(workspace, case.find(workspace).folder.name)


@pytest.fixture(scope="module")
def modelled(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TracedRun:
    workspace = tmp_path_factory.mktemp("ws")
    return open_run(workspace, case.find_with_model(workspace).folder.name)


def test_a_search_is_replayed_byte_for_byte(found: TracedRun) -> None:
    replayed = replay_run(found)
    assert replayed.same, replayed.differences
    assert replayed.events == len(found.events)
    assert replayed.files == 6


def test_a_models_run_is_replayed_without_asking_it(modelled: TracedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(ScriptedPlanner, "ask", never)
    replayed = replay_run(modelled)
    assert replayed.same, replayed.differences
    assert sum(event.kind == "model_call" for event in modelled.events) == 2


def test_a_conversation_is_replayed(case: Case, tmp_path: Path) -> None:
    name = case.chat(tmp_path, "find a liver lesion of Doe^Jane", "how big is it?", "use alpha 0.01", "undo that")
    replayed = replay_run(open_run(tmp_path, name))
    assert replayed.same, replayed.differences


def test_a_fork_is_replayed_from_what_it_began_with(case: Case, found: TracedRun, tmp_path: Path) -> None:
    parent = copied(found, tmp_path / "ws")
    build = next(event.seq for event in parent.events if event.kind == "tool_call" and event.step == "build_rois")
    fork = run_fork(parent.id, build, tmp_path / "ws").folder.name
    run = open_run(tmp_path / "ws", fork)
    assert run.started.parent == parent.id
    replayed = replay_run(run)
    assert replayed.same, replayed.differences


def test_a_question_and_its_answer_are_replayed(case: Case, tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(question: str, choices: tuple[str, ...]) -> str | None:
        asked.append(question)
        return "a liver lesion" if len(asked) < 4 else None

    result = run_find("find the flux capacitor", str(case.image), case.options(tmp_path), ask=ask)
    run = open_run(tmp_path, result.folder.name)
    assert asked
    assert [event.kind for event in run.events].count("user_answer") == len(asked)
    replayed = replay_run(run)
    assert replayed.same, replayed.differences


def test_a_stopped_run_is_compared_as_far_as_it_went(case: Case, tmp_path: Path) -> None:
    with pytest.raises(BudgetError):
        run_find(
            "find a liver lesion",
            str(case.image),
            case.options(tmp_path),
            opened=lambda session: session.context.stop.set(),
        )
    (folder,) = (tmp_path / "runs").iterdir()
    run = open_run(tmp_path, folder.name)
    assert run.finished is None
    replayed = replay_run(run)
    assert replayed.same, replayed.differences
    assert replayed.events == len(run.events)


@pytest.fixture
def forged(found: TracedRun, tmp_path: Path) -> TracedRun:
    """A trace in which one number of a result, and nothing else, is another."""
    run = copied(found, tmp_path / "ws")
    text = run.folder.trace.read_text()
    proposed = re.search(r'"candidates":(\d+)', text)
    assert proposed is not None
    run.folder.trace.write_text(text.replace(proposed[0], f'"candidates":{int(proposed[1]) + 1}'))
    return open_run(run.folder.workspace, run.id)


def test_the_first_difference_is_named_field_by_field(forged: TracedRun) -> None:
    replayed = replay_run(forged)
    assert not replayed.same
    at = next(
        event.seq for event in forged.events if event.kind == "tool_result" and "segmenter" in event.data["result"]
    )
    assert all(words.startswith(f"event {at}: ") for words in replayed.differences)
    wrong = next(event.data["result"]["candidates"] for event in forged.events if event.seq == at)
    assert f"event {at}: result.candidates: recorded {wrong}, replayed {wrong - 1}" in replayed.differences


def test_a_file_with_other_bytes_is_named(found: TracedRun, tmp_path: Path) -> None:
    run = copied(found, tmp_path / "ws")
    assert run.finished is not None
    sha256 = run.finished.files["overlay.png"]
    run.folder.trace.write_text(run.folder.trace.read_text().replace(sha256, "0" * 64))
    replayed = replay_run(open_run(run.folder.workspace, run.id))
    assert "overlay.png has other bytes" in replayed.differences


def test_another_scan_is_refused_before_long_work(found: TracedRun, case: Case) -> None:
    with pytest.raises(InputError, match="not the scan of run"):
        replay_run(found, image=str(case.changed))


def test_the_record_has_an_end(modelled: TracedRun) -> None:
    planner = ReplayPlanner(modelled)
    assert (planner.name, planner.kind) == ("test:scripted", "model")
    first, second = planner.ask([], [], optional=False), planner.ask([], [], optional=False)
    assert (first.call, first.problem, first.tokens_in) == (None, "no call", 11)
    assert second.call is not None
    assert second.call["args"] == {"targets": ["liver lesion"]}
    with pytest.raises(BudgetError, match="no further reply"):
        planner.ask([], [], optional=False)


def test_a_command_asks_no_model_and_is_replayed(tmp_path: Path) -> None:
    calls = [
        AIMessage(content="", tool_calls=[ToolCall(name="plan_search", args={"targets": ["liver lesion"]}, id="1")]),
        "That is all.",
    ]
    planner = scripted_planner(*calls)
    with open_small_chat(tmp_path, planner=planner, reject="paper") as session:
        list(session.say("find the liver lesion"))
        before, alpha = session.search.model_calls, 0.01
        assert before > 0
        list(session.say(f"use alpha {alpha}", by_rules=True))
        assert session.search.alpha == alpha
        list(session.say("undo that", by_rules=True))
        assert session.search.alpha is None
        assert session.search.model_calls == before
        session.write()
        name = session.id
    replayed = replay_run(open_run(tmp_path / "ws", name))
    assert replayed.same, replayed.differences
