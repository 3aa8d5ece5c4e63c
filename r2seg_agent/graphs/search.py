"""The search graph: planner → tools → referee → planner, tools again, or the end.

    START ─► referee ─┬─► planner ─► tools ─► referee …
                      ├─► tools (the referee takes a settled step itself)
                      └─► END

One graph serves single runs, chat, dataset runs and replay. State carries references, never arrays; the scan, the
models and the store come in through the run-time `Context`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Command

from r2seg_agent.graphs.answer import budget_answer, exhausted_answer, overall_answer
from r2seg_agent.graphs.referee import Step, is_exhausted, verdict
from r2seg_agent.prompts import prompt_file
from r2seg_agent.tools import SEARCH_TOOLS
from r2seg_agent.tools._use import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import GraphState, SearchState, dump_search, load_search

SearchGraph = CompiledStateGraph[GraphState, Context, GraphState, GraphState]

INVALID_CALLS_BEFORE_REFEREE = 2
"""After this many replies without a valid call the referee takes the step itself."""
RECURSION_LIMIT = 1000
"""LangGraph's own bound, out of the way: the referee's budgets bound the loop."""


class _Node(Protocol):
    def __call__(self, state: GraphState, *, runtime: Runtime[Context]) -> Command[str]: ...


def build_search_graph(
    planner: BaseChatModel,
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    tools: Sequence[BaseTool] = SEARCH_TOOLS,
) -> SearchGraph:
    """Compile the search graph with `planner` in the planner's seat."""
    by_name = {tool.name: tool for tool in tools}
    graph: StateGraph[GraphState, Context, GraphState, GraphState] = StateGraph(GraphState, context_schema=Context)
    graph.add_node("referee", _referee, destinations=("planner", "tools", END))
    graph.add_node("planner", _planner_node(planner, by_name), destinations=("tools", "referee"))
    graph.add_node("tools", ToolNode(list(tools), handle_tool_errors=(ToolUseError, ToolInvocationError)))
    graph.add_edge(START, "referee")
    graph.add_edge("tools", "referee")
    return graph.compile(checkpointer=checkpointer)


def _referee(state: GraphState, runtime: Runtime[Context]) -> Command[str]:
    """Count, close what is finished, then send the run on: to the planner, to a tool, or to the end."""
    context = runtime.context
    search = _close_exhausted(_count_error(state, context), context)
    seconds_left = None if context.deadline is None else context.deadline - time.monotonic()
    ruling = verdict(search, context.budget, seconds_left)
    if ruling.outcome is not None:
        search = _finish(search, ruling.outcome, context)
        context.recorder.record("referee", "finish", {"outcome": ruling.outcome, "why": ruling.why})
        return Command(goto=END, update={"search": dump_search(search)})
    only = ruling.steps[0]
    stubborn = search.invalid_calls >= INVALID_CALLS_BEFORE_REFEREE or search.model_calls >= context.budget.model_calls
    if len(ruling.steps) == 1 and (only.settled or stubborn):
        why = only.why if only.settled else f"{only.why}; the planner made no valid call, so the referee takes the step"
        search = search.model_copy(
            update={
                "tool_calls": search.tool_calls + 1,
                "referee_steps": search.referee_steps + 1,
                "invalid_calls": 0,
            }
        )
        context.recorder.record(
            "referee", only.tool, {"taken_by": "referee", "args": only.model_dump(mode="json")["args"], "why": why}
        )
        return Command(goto="tools", update={"search": dump_search(search), "messages": [_referee_call(only, search)]})
    context.recorder.record("referee", "ask_planner", {"offered": [step.tool for step in ruling.steps]})
    return Command(goto="planner", update={"search": dump_search(search)})


def _planner_node(planner: BaseChatModel, tools: dict[str, BaseTool]) -> _Node:
    prompt = prompt_file("planner")

    def ask(state: GraphState, runtime: Runtime[Context]) -> Command[str]:
        context = runtime.context
        search = load_search(state)
        steps = verdict(search, context.budget).steps
        offered = [tools[step.tool] for step in steps]
        messages: list[AnyMessage] = [SystemMessage(prompt.text), *state["messages"]]
        reply = planner.bind_tools(offered).invoke(messages)
        names = {tool.name for tool in offered}
        # One step at a time: tools read and write the same search state.
        calls = [call for call in reply.tool_calls if call["name"] in names][:1]
        context.recorder.record(
            "model_call",
            planner._llm_type,
            {
                "prompt_sha256": prompt.sha256,
                "offered": sorted(names),
                "called": [{"tool": call["name"], "args": call["args"]} for call in calls],
            },
        )
        search = search.model_copy(
            update={
                "model_calls": search.model_calls + 1,
                "tool_calls": search.tool_calls + len(calls),
                "invalid_calls": search.invalid_calls + (0 if calls else 1),
            }
        )
        update = {"search": dump_search(search)}
        if not calls:
            return Command(goto="referee", update=update)
        message = AIMessage(content=reply.content, tool_calls=calls, id=f"planner-{search.tool_calls}")
        return Command(goto="tools", update={**update, "messages": [message]})

    return ask


def _count_error(state: GraphState, context: Context) -> SearchState:
    """The search state, with one more invalid call when the last tool refused its arguments, none when it ran."""
    search = load_search(state)
    last = state["messages"][-1]
    if not isinstance(last, ToolMessage):
        return search
    if last.status != "error":
        return search.model_copy(update={"invalid_calls": 0})
    context.recorder.record("tool_error", last.name or "", {"error": str(last.content)})
    return search.model_copy(update={"invalid_calls": search.invalid_calls + 1})


def _referee_call(step: Step, search: SearchState) -> AIMessage:
    args = {name: list(value) if isinstance(value, tuple) else value for name, value in step.args.items()}
    identity = f"referee-{search.tool_calls}"
    return AIMessage(
        content="", name="referee", id=identity, tool_calls=[ToolCall(name=step.tool, args=args, id=identity)]
    )


def _close_exhausted(search: SearchState, context: Context) -> SearchState:
    """Give the current target its outcome when no candidate survived its last round."""
    index = search.current
    if index is None or not is_exhausted(search.targets[index], context.budget):
        return search
    target = search.targets[index]
    context.recorder.record(
        "referee",
        "close_target",
        {"target": index + 1, "outcome": "no_lesion_survived", "why": f"all {target.round_index} rounds are used"},
    )
    answer = exhausted_answer(target, context.store)
    return search.with_target(index, outcome="no_lesion_survived", answer=answer)


def _finish(search: SearchState, outcome: str, context: Context) -> SearchState:
    if outcome == "budget_exhausted":
        for index, target in enumerate(search.targets):
            if target.outcome is None:
                search = search.with_target(index, outcome="budget_exhausted", answer=budget_answer(target))
    search = search.model_copy(update={"outcome": outcome})
    return search.model_copy(update={"answer": overall_answer(search)})
