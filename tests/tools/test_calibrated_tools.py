"""Conversations that a calibration judges: what they may not change, and what they say after a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.calibrated import REQUEST, calibrated_chat, said, small_calibration
from helpers.scripted import call, scripted_planner
from helpers.small_case import open_small_chat
from langchain.tools import ToolRuntime

from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.runs.session import Session
from r2seg_agent.tools import widen_search
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.state import dump_search


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """99 cases, all below the ball."""
    return small_calibration(tmp_path_factory.mktemp("large"), 99)


def _runtime(session: Session) -> ToolRuntime[Any, Any]:
    state = {"messages": [], "search": dump_search(session.search), "events": 0}
    return ToolRuntime(
        state=state,
        context=session.context,
        config={},
        stream_writer=lambda _: None,
        tool_call_id="call-1",
        store=None,
    )


def test_no_organ_comes_into_a_search_that_is_compared_with_other_scans(large: Calibration, tmp_path: Path) -> None:
    """The calibration's cases were not searched there, whoever asks for it."""
    with calibrated_chat(tmp_path, large) as chat:
        said(chat, REQUEST)
        assert len(chat.findings()) == 1
        with pytest.raises(ToolUseError, match="nothing can be included in conformal mode"):
            widen_search.func(target=1, include=["spleen"], runtime=_runtime(chat))
        widen_search.func(target=1, runtime=_runtime(chat))


@pytest.mark.parametrize(("mode", "taken"), [("score", False), ("paper", True)])
def test_a_model_is_not_asked_what_to_include_where_scans_are_compared(tmp_path: Path, mode: str, taken: bool) -> None:
    """`taken`: in paper mode the model's word counts."""
    plan, widen = call("plan_search", targets=["liver lesion"]), call("widen_search", target=1, include=["spleen"])
    gates = {"max_elongation": 1.0, "max_flatness": 1.0}
    with open_small_chat(tmp_path, scripted_planner(plan, widen, "done"), reject=mode, gates=gates) as chat:
        said(chat, REQUEST)
        target = chat.search.targets[0]
        assert len(target.rounds) > 1
        offered = [names for names in chat.planner.model.offered if "widen_search" in names and len(names) == 1]
        assert bool(offered) == taken
        second = chat.report().targets[0].rounds[1]
        assert ("spleen" in second.anchors) == taken
