"""Scoring of planners: what counts as right, the interval, and that held-out answers stay unread."""

from __future__ import annotations

import json

import pytest
from scipy.stats import binomtest

from r2seg_agent.reason.language.plan_request import plan_request
from studies.planner.__main__ import main
from studies.planner.key import Case, Wanted, load
from studies.planner.score import Answer, Rate, judge, markdown, rate, wilson


def _case(*accept, half="tuned", request="left kidney mass", modality="CT"):
    return Case(id="x", category="side", half=half, modality=modality, request=request, accept=accept)


def _wanted(target, side, *anchors):
    return (Wanted(target=target, laterality=side, anchors=anchors),)


def _answer(request, **more):
    planned = plan_request(request, "CT")
    question = planned.clarification.question if planned.clarification else None
    return Answer(plans=planned.plans, question=question, **more)


LEFT = _wanted("kidney_lesion", "left", "kidney_left")


@pytest.mark.parametrize(
    ("request_text", "exact", "targets"),
    [
        ("left kidney mass", True, True),
        ("right kidney mass", False, True),
        ("kidney mass", False, True),
        ("left kidney cyst", False, False),
        ("left kidney mass and liver mass", False, False),
        ("the weather", False, False),
    ],
)
def test_exact_needs_target_side_and_anchors(request_text, exact, targets):
    verdict = judge(_case(LEFT), _answer(request_text))
    assert (verdict.exact, verdict.targets) == (exact, targets)


def test_a_question_is_right_only_where_the_key_allows_it():
    assert not judge(_case(LEFT), Answer(question="Which?")).exact
    assert judge(_case(LEFT, None), Answer(question="Which?")).exact
    assert not judge(_case(None), _answer("left kidney mass")).exact


def test_a_group_is_the_same_anchor_as_its_members():
    both = judge(_case(_wanted("kidney_lesion", None, "kidneys")), _answer("kidney mass"))
    assert [plan.anchors for plan in both.answer.plans] == [("kidney_left", "kidney_right")]
    assert both.exact


def test_the_referees_plans_serve_the_user_but_are_not_the_models():
    verdict = judge(_case(LEFT), _answer("left kidney mass", referee=True))
    assert verdict.served
    assert not verdict.exact
    assert not verdict.targets


def test_a_failure_is_wrong_even_with_right_plans():
    assert not judge(_case(LEFT), _answer("left kidney mass", failure="cut off")).exact


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (203, 223), (219, 219), (5, 10)])
def test_interval_is_scipys(right, n):
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_nothing_asked_gives_no_rate():
    assert wilson(0, 0) == (0.0, 1.0)
    assert str(Rate(0, 0)) == "–"


def test_table_has_a_row_per_category_and_one_for_all():
    verdicts = [judge(case, _answer("left kidney mass")) for case in load()[:150]]
    lines = markdown(verdicts).splitlines()
    assert len(lines) == 2 + len({v.case.category for v in verdicts}) + 1
    assert rate(verdicts, "tuned").n + rate(verdicts, "held_out").n == 150


def test_the_command_never_tells_what_the_held_out_half_got_wrong(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    wrong = {case.id: Answer(failure="no idea") for case in load()}
    log.write_text("".join(json.dumps({"id": i, "answer": a.model_dump(mode="json")}) + "\n" for i, a in wrong.items()))
    assert main(["--per-category", "2", "--out", str(tmp_path), "--log", str(log)]) == 0
    told = capsys.readouterr().out + (tmp_path / "planner-eval.json").read_text(encoding="utf-8")
    seen = {half: [c for c in load() if c.half == half and repr(c.request) in told] for half in ("held_out", "tuned")}
    assert not seen["held_out"]
    assert len(seen["tuned"]) == 38
    data = json.loads((tmp_path / "planner-eval.json").read_text(encoding="utf-8"))
    assert data["halves"]["held_out"] == data["halves"]["tuned"] | {"n": 38}
    assert [("answer" in case) for case in data["cases"]].count(True) == 38


def test_a_kept_answer_is_not_asked_again(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        main(["--half", "tuned", "--per-category", "1", "--log", str(log)])
    assert len(log.read_text(encoding="utf-8").splitlines()) == 19
    assert "19 of 19" in capsys.readouterr().out


def test_an_unknown_planner_is_refused(capsys):
    assert main(["--planner", "nobody:x"]) == 2
    assert "unknown planner" in capsys.readouterr().err


def test_the_offline_planner_keeps_its_figure():
    verdicts = [judge(case, _offline(case)) for case in load()]
    assert rate(verdicts, "held_out").value >= 0.97
    assert rate(verdicts, "tuned").value >= 0.97


def _offline(case):
    from studies.planner.offline import answer_offline

    return answer_offline(case)
