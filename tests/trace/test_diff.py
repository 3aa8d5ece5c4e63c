"""diff names what differs between two runs, and nothing else."""

from __future__ import annotations

from pathlib import Path

from helpers.traced_runs import Case

from r2seg_agent.trace.diff import changed_fields, diff_runs, first_difference, flat
from r2seg_agent.trace.run import TracedRun, open_run


def test_a_run_does_not_differ_from_itself(runs: dict[str, TracedRun]) -> None:
    for run in runs.values():
        assert diff_runs(run, run).same


def test_the_same_run_in_another_workspace_is_the_same(found: TracedRun, case: Case, tmp_path: Path) -> None:
    again = open_run(tmp_path, case.find(tmp_path).folder.name)
    difference = diff_runs(found, again)
    assert difference.same, difference


def test_another_alpha_is_named_as_setting_decision_and_event(found: TracedRun, strict: TracedRun) -> None:
    difference = diff_runs(found, strict)
    assert not difference.same
    assert ("reject.alpha", "0.05", "0.0005") in difference.settings
    assert not difference.plans
    assert {change.name for change in difference.settings} == {"reject.alpha"}
    report = found.report()
    assert report is not None
    assert difference.position is not None
    first, second = difference.events
    assert first is not None
    assert second is not None
    assert (first.kind, first.step) == ("tool_result", "reject_candidates")
    assert changed_fields(first, second)
    changed = {change.name: change for change in difference.decisions}
    assert changed["outcome"] == ("outcome", "lesions found", "no lesion survived")
    assert changed["t1r1c1"].first.startswith("survived, p = 0.00100")
    assert changed["t1r1c1"].second.startswith("rejected, p = 0.00100")
    assert changed["finding 1"].second == "–"


def test_a_trace_that_goes_on_differs_where_the_other_ends(found: TracedRun) -> None:
    assert first_difference(found.events, found.events[:-2]) == len(found.events) - 1
    assert first_difference(found.events, found.events) is None


def test_values_are_flattened_with_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": None}, "d": [1, 2], "e": [{"f": True}], "g": {}}) == {
        "a.b": "1", "a.c": "none", "d": "[1, 2]", "e.1.f": "True", "g": "{}",
    }  # fmt: skip
