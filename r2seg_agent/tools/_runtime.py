"""What all tools share: reading the state, writing it back with a message, and errors a model can mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import JsonValue

from r2seg_agent.frozen import Frozen
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import GraphState, SearchState, TargetState, dump_search, load_search

Runtime = ToolRuntime[Any, Any]
"""Injected into every tool, hidden from models. LangChain builds a validator from this type, which must not look into
`Context`: `context_of` and `search_of` give the typed parts."""


class ToolUseError(ValueError):
    """The caller (a model) used a tool wrongly; the message names the legal choices and goes back to it."""


def target_at(search: SearchState, number: int, stages: tuple[str, ...], tool: str) -> tuple[int, TargetState]:
    """Index and state of target `number` (1-based), which must stand at one of `stages` for `tool`."""
    if not 1 <= number <= len(search.targets):
        raise ToolUseError(f"there is no target {number}; there are 1 to {len(search.targets)}")
    target = search.targets[number - 1]
    if target.stage not in stages:
        raise ToolUseError(
            f"`{tool}` cannot run: target {number} is at stage `{target.stage}`, not {' or '.join(stages)}"
        )
    return number - 1, target


def context_of(runtime: Runtime) -> Context:
    """The run-time context that the graph was invoked with."""
    context = runtime.context
    assert isinstance(context, Context)
    return context


def search_of(runtime: Runtime) -> SearchState:
    """The typed search state that a tool was called with."""
    state: GraphState = runtime.state
    return load_search(state)


def answer(
    runtime: Runtime,
    search: SearchState,
    result: Frozen,
    tool: str,
    *,
    say: str = "",
    artifacts: Mapping[str, ArtifactRef] | None = None,
) -> Command[str]:
    """State update and tool message for a tool that is done; the trace gets the result and its artifacts by role.

    `say` is what the user is told, written by code from the result's numbers.
    """
    recorder = context_of(runtime).recorder
    recorder.record("tool_result", tool, result.model_dump(mode="json"))
    for role, ref in (artifacts or {}).items():
        recorder.record("artifact", tool, {"role": role, **ref.model_dump(mode="json", exclude={"geometry"})})
    search = search.model_copy(
        update={
            "said": (*search.said, say) if say else search.said,
            "turn_calls": search.turn_calls + 1,
            "invalid_calls": 0,
        }
    )
    message = ToolMessage(content=result.model_dump_json(), name=tool, tool_call_id=runtime.tool_call_id or tool)
    return Command(update={"search": dump_search(search), "messages": [message], "events": recorder.count})


def rounded(values: Mapping[str, float], digits: int = 2) -> dict[str, JsonValue]:
    """Numbers for a message, rounded for reading."""
    return {name: round(value, digits) for name, value in values.items()}
