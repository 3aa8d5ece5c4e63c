"""Tools of a session called as the graph calls them."""

from __future__ import annotations

from typing import Any

from langchain.tools import ToolRuntime

from r2seg_agent.runs.session import Session
from r2seg_agent.tools.state import SearchState, dump_search

Runtime = ToolRuntime[Any, Any]


def runtime_of(session: Session, search: SearchState | None = None) -> Runtime:
    """What a tool is given, with the session's state or `search` in its place."""
    state = {"messages": [], "search": dump_search(search or session.search), "events": 0}
    return ToolRuntime(
        state=state,
        context=session.context,
        config={},
        stream_writer=lambda _: None,
        tool_call_id="call-1",
        store=None,
    )
