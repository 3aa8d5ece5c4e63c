"""LangChain tools, one per file, thin over the science. No tool takes a file path, runs code or reaches the network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from langchain_core.tools import BaseTool

from r2seg_agent.tools._runtime import ToolCard, card_of
from r2seg_agent.tools.ask_which import ask_which
from r2seg_agent.tools.build_rois import build_rois_tool
from r2seg_agent.tools.change_alpha import change_alpha
from r2seg_agent.tools.describe_findings import describe_findings
from r2seg_agent.tools.explain_candidate import explain_candidate
from r2seg_agent.tools.include_organs import include_organs
from r2seg_agent.tools.locate_finding import locate_finding
from r2seg_agent.tools.locate_organs import locate_organs
from r2seg_agent.tools.measure_finding import measure_finding
from r2seg_agent.tools.plan_search import plan_search
from r2seg_agent.tools.reject_candidates import reject_candidates
from r2seg_agent.tools.segment_lesions import segment_lesions
from r2seg_agent.tools.show_slices import show_slices
from r2seg_agent.tools.summarize_session import summarize_session
from r2seg_agent.tools.undo_turn import undo_turn
from r2seg_agent.tools.widen_search import widen_search

ALL_TOOLS: tuple[BaseTool, ...] = (
    plan_search,
    locate_organs,
    build_rois_tool,
    segment_lesions,
    reject_candidates,
    measure_finding,
    describe_findings,
    locate_finding,
    explain_candidate,
    show_slices,
    ask_which,
    widen_search,
    include_organs,
    change_alpha,
    undo_turn,
    summarize_session,
)
"""All tools of the search graph; the referee offers only those whose preconditions the state meets. The prompt of a
language model lists them in this order."""

CARDS: Mapping[str, ToolCard] = MappingProxyType({tool.name: card_of(tool) for tool in ALL_TOOLS})
"""What planners must know of each tool, by name."""
