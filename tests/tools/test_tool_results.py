"""What every tool declares once: its result's own line, and its card for planners."""

from __future__ import annotations

import re

import pytest

from r2seg_agent.graphs.planners.calls import Offer
from r2seg_agent.graphs.planners.remarks import unavailable_text
from r2seg_agent.graphs.planners.turn_log import SEARCH_STEPS
from r2seg_agent.graphs.prompting import planner_prompt
from r2seg_agent.graphs.referee import CONVERSATION
from r2seg_agent.reason.language.dialogue import Table, TargetRow
from r2seg_agent.reject.decide import Rejection
from r2seg_agent.tools import ALL_TOOLS, CARDS
from r2seg_agent.tools._runtime import ToolResult, card_of
from r2seg_agent.tools.change_alpha import ChangeAlphaResult
from r2seg_agent.tools.locate_organs import LocateOrgansResult
from r2seg_agent.tools.reject_candidates import RejectCandidatesResult
from r2seg_agent.tools.segment_lesions import SegmentLesionsResult
from r2seg_agent.tools.undo_turn import UndoTurnResult

REJECTED = {
    "t1r1c2": Rejection(cause="gate", failed_gate="ours.flatness"),
    "t1r1c3": Rejection(cause="test"),
    "t1r1c4": Rejection(cause="test"),
}


def test_a_result_without_a_line_cannot_be_made() -> None:
    class Silent(ToolResult):
        number: int

    with pytest.raises(TypeError, match="line"):
        Silent(number=1)  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("result", "line", "points"),
    [
        (
            RejectCandidatesResult(mode="paper", valid=False, survivors=("t1r1c1",), rejected=REJECTED),
            "1 survived (t1r1c1), 3 rejected (paper mode, not FDR-valid)",
            ("2 × looks like normal tissue (above α)", "1 × flat, like a rim"),
        ),
        (
            RejectCandidatesResult(mode="conformal", valid=True, survivors=(), rejected={}),
            "none survived, 0 rejected (conformal mode)",
            (),
        ),
        (
            SegmentLesionsResult(
                segmenter="contrast", stand_in=True, candidates=1, volumes_ml=(1.0,),
                too_small=2, too_thin=0, over_limit=3, artifact="a" * 64,
            ),
            "1 candidate by contrast (a stand-in); left out: 2 too small, 3 beyond the limit",
            (),
        ),
        (
            LocateOrgansResult(
                source="masks", stand_in=False, anchors_ml={"lung_left": 900.0, "liver": 0.0}, in_view=(), artifact=""
            ),
            "left lung 900 ml, liver not in view, by masks",
            (),
        ),
        (
            ChangeAlphaResult(
                before=0.05,
                alpha=0.01,
                first_alpha=0.05,
                after_p=True,
                valid=False,
                guarantee="",
                judged_again=(1,),
            ),
            "from 0.05 to 0.01 (a threshold, no error rate in this mode); 1 target judged again",
            (),
        ),
        (
            UndoTurnResult(turn=2, text="use alpha 0.5", targets=1, findings=2),
            "turn 2 (“use alpha 0.5”) undone: 1 target, 2 findings again",
            (),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ToolResult) else "",
)  # fmt: skip
def test_a_result_says_its_own_line(result: ToolResult, line: str, points: tuple[str, ...]) -> None:
    assert result.line() == line
    assert result.points() == points


def test_every_tool_is_a_step_of_the_search_or_legal_in_a_conversation() -> None:
    offered = {row.tool for row in CONVERSATION} | {"plan_search"}
    assert offered | SEARCH_STEPS == {tool.name for tool in ALL_TOOLS}
    assert not offered & SEARCH_STEPS
    assert [row.tool for row in CONVERSATION] == [name for name in CARDS if name in offered and name != "plan_search"]


def test_the_prompt_names_every_tool_that_words_can_ask_for_and_no_other() -> None:
    guide = planner_prompt().text.split("Which tool for which question", 1)[1]
    named = re.findall(r"^- .*?: `(\w+)`", guide, re.MULTILINE)
    assert named == [name for name, card in CARDS.items() if not card.part_of_search]


def test_every_card_fits_its_tool() -> None:
    searched = Table(targets=(TargetRow(1, "liver_lesion", "lesion of liver", ("liver",), "no_lesion_survived", 1),))
    offer = Offer(ALL_TOOLS)
    for tool in ALL_TOOLS:
        card = card_of(tool)
        assert card == CARDS[tool.name]
        assert not card.set_by_user or card.set_by_user in offer.arguments[tool.name]
        for table in (Table(), searched):
            text = unavailable_text(tool.name, table)
            assert text.endswith((".", "why."))
            assert "{" not in text
    assert CARDS["change_alpha"].set_by_user == "alpha"
