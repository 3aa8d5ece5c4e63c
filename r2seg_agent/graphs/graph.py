"""The search graph: planner → tools → referee → planner, tools again, a question, or the end.

    START ─► referee ─┬─► planner ─► tools ─► referee …
                      ├─► tools (the referee takes a settled step itself)
                      ├─► ask   (a question to the user, by `interrupt`) ─► referee
                      └─► END

One graph serves single runs, chat, dataset runs and replay: a conversation is one thread, a turn is one pass from
START to END. State carries references, never arrays; the scan, the models and the store come in through the run-time
`Context`. Every node ends by noting how many trace events belong to its state, so that a killed run can go on from its
last checkpoint with a trace as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from pydantic import JsonValue

from r2seg_agent.cautions import Caution, CautionKind
from r2seg_agent.errors import BudgetError
from r2seg_agent.graphs.ending import answer_targets, close_exhausted, end_turn
from r2seg_agent.graphs.messages import answer_message, call_message, mark_of, problem_messages
from r2seg_agent.graphs.model_call import model_call_event
from r2seg_agent.graphs.model_comment import allowed_words
from r2seg_agent.graphs.planner import Planner, PlannerReply, ReadsState, without_half_characters
from r2seg_agent.graphs.planners.offline import OfflinePlanner
from r2seg_agent.graphs.prompting import (
    drawn_pictures,
    load_pictures,
    planner_messages,
    planner_prompt,
    with_pictures,
)
from r2seg_agent.graphs.referee import Step, Verdict, verdict
from r2seg_agent.reason.language.choices import chosen
from r2seg_agent.tools import ALL_TOOLS
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import GraphState, SearchState, dump_search, load_search
from r2seg_agent.trace.payloads import Question, TakenBy
from r2seg_agent.trace.redact import redact

SearchGraph = CompiledStateGraph[GraphState, Context, GraphState, GraphState]

INVALID_CALLS_BEFORE_REFEREE = 2
"""After this many replies without a valid call the referee takes the step itself."""
RECURSION_LIMIT = 1000
"""LangGraph's own bound, out of the way: the referee's budgets bound the loop."""


class _Node(Protocol):
    def __call__(self, state: GraphState, *, runtime: Runtime[Context]) -> Command[str]: ...


def build_search_graph(
    planner: Planner,
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    tools: Sequence[BaseTool] = ALL_TOOLS,
) -> SearchGraph:
    """Compile the search graph with `planner`."""
    by_name = {tool.name: tool for tool in tools}
    graph: StateGraph[GraphState, Context, GraphState, GraphState] = StateGraph(GraphState, context_schema=Context)
    graph.add_node("referee", _referee_node(planner, by_name), destinations=("planner", "tools", "ask", END))
    graph.add_node("planner", _planner_node(planner, by_name), destinations=("tools", "referee"))
    graph.add_node("tools", ToolNode(list(tools), handle_tool_errors=_refusal))
    graph.add_node("ask", _ask, destinations=("referee",))
    graph.add_edge(START, "referee")
    graph.add_edge("tools", "referee")
    return graph.compile(checkpointer=checkpointer)


def _refusal(error: Exception) -> str:
    """What a tool that refused its arguments says, to a model and to the user alike; other errors end the run."""
    if isinstance(error, ToolInvocationError) and error.source.title != error.tool_name:
        # ToolNode takes every ValidationError for bad arguments. Only that of the tool's own schema is one.
        raise error.source
    if isinstance(error, ToolUseError | ToolInvocationError):
        return str(error)
    raise error


def _referee_node(given: Planner, tools: Mapping[str, BaseTool]) -> _Node:
    def referee(state: GraphState, runtime: Runtime[Context]) -> Command[str]:
        """Count, close what is finished, then send the run on: to the planner, a tool, the user, or the end."""
        context = runtime.context
        if context.stop.is_set():
            # Nothing was done in this step yet: a resumed run comes here again.
            raise BudgetError("stopped by you after the step that was under way")
        search = answer_targets(close_exhausted(_count_error(state, context), context))
        planner = _planner_of(search, given)
        ruling = _verdict(search, planner, context)
        record = context.recorder.record
        if search.question is not None and context.interactive:
            record("question", "plan_search", _question(search))
            return _go("ask", search, context)
        if ruling.outcome is not None:
            return _go(END, end_turn(search, ruling, context), context)
        if len(ruling.steps) == 1 and ruling.steps[0].settled:
            return _take(ruling.steps[0].tool, ruling.steps[0].args, ruling.steps[0].why, "referee", search, context)
        spent = _spent(search, context)
        if spent:
            search = _warn(
                search, context, "budget", f"budget of {spent} used up: the referee continues without the model"
            )
            record("budget", spent, {"used": getattr(search, spent), "limit": getattr(context.budget, spent)})
        if planner.kind != "offline" and (spent or search.invalid_calls >= INVALID_CALLS_BEFORE_REFEREE):
            return _take_instead(state, search, ruling, spent, tools, context)
        record("referee", "ask_planner", {"offered": [step.tool for step in ruling.steps], "optional": ruling.optional})
        return _go("planner", search, context)

    return referee


def _planner_node(given: Planner, tools: Mapping[str, BaseTool]) -> _Node:
    prompt = planner_prompt()

    def ask(state: GraphState, runtime: Runtime[Context]) -> Command[str]:
        context = runtime.context
        search = load_search(state)
        planner = _planner_of(search, given)
        ruling = _verdict(search, planner, context)
        offered = [tools[step.tool] for step in ruling.steps]
        messages = planner_messages(search, state["messages"], offered, prompt, context.store)
        shown = drawn_pictures(state["messages"]) if context.share_images and planner.kind != "offline" else {}
        reply = _looking_at(planner, search, context, state["messages"]).ask(
            with_pictures(messages, load_pictures(shown, context.store)), offered, optional=ruling.optional
        )
        reply = without_half_characters(reply)
        if planner.kind == "model":
            # The trace keeps a model's words redacted; the run continues with the same words, so that it can be
            # replayed. The rules' own sentences hold the user's words as they came in, and names of our own files.
            reply = replace(reply, text=redact(reply.text))
        context.recorder.record(
            "model_call",
            planner.name,
            model_call_event(planner, prompt, messages, [t.name for t in offered], reply, tuple(shown)),
        )
        search = search.model_copy(
            update={
                "model_calls": search.model_calls + (0 if planner.kind == "offline" else 1),
                "tokens": search.tokens + reply.tokens_in + reply.tokens_out,
            }
        )
        if reply.call is not None:
            return _take(
                reply.call["name"], reply.call["args"], "chosen by the planner", "planner", search, context, reply
            )
        if ruling.optional or planner.kind == "offline":
            return _go("referee", _last_words(search, planner, reply, state), context)
        search = search.model_copy(update={"invalid_calls": search.invalid_calls + 1})
        return _go("referee", search, context, problem_messages(reply.text, reply.problem, context.recorder.count))

    return ask


def _ask(state: GraphState, runtime: Runtime[Context]) -> Command[str]:
    """Put the open question to the user. `interrupt` starts this node again, so nothing stands before it."""
    search = load_search(state)
    reply = str(interrupt(_question(search)))
    context = runtime.context
    choice = chosen(reply, search.choices)
    dumped = None if choice is None else choice.model_dump()
    context.recorder.record("user_answer", "user", {"text": reply, "choice": dumped})
    message = answer_message(reply, choice, context.recorder.count)
    return _go("referee", search.answered(reply), context, [message])


def _question(search: SearchState) -> dict[str, JsonValue]:
    """The open question, for the trace and for whoever puts it to the user."""
    assert search.question is not None
    return Question(question=search.question, choices=search.choices).model_dump(mode="json")


def _planner_of(search: SearchState, planner: Planner) -> Planner:
    """The planner of the open turn: a command's words are the rules' own, so no model is asked what they mean."""
    return OfflinePlanner() if search.turns and search.turns[-1].by_rules and planner.kind == "model" else planner


def _looking_at(planner: Planner, search: SearchState, context: Context, history: Sequence[AnyMessage]) -> Planner:
    return planner.reading(search, context.store, history) if isinstance(planner, ReadsState) else planner


def _verdict(search: SearchState, planner: Planner, context: Context) -> Verdict:
    seconds_left = None if context.deadline is None else context.deadline - time.monotonic()
    return verdict(
        search,
        context.budget,
        seconds_left,
        converse=context.converse,
        choices=planner.kind != "offline" and not context.reject.compares_cases,
        parts=context.parts,
    )


def _go(to: str, search: SearchState, context: Context, messages: Sequence[AnyMessage] = ()) -> Command[str]:
    update: dict[str, object] = {"search": dump_search(search), "events": context.recorder.count}
    if messages:
        update["messages"] = list(messages)
    return Command(goto=to, update=update)


def _take(
    tool: str,
    args: Mapping[str, object],
    why: str,
    taken_by: TakenBy,
    search: SearchState,
    context: Context,
    reply: PlannerReply | None = None,
) -> Command[str]:
    """Send one tool call on, with a message as if a model had made it."""
    by_referee = taken_by != "planner"
    search = search.model_copy(
        update={
            "tool_calls": search.tool_calls + 1,
            "referee_steps": search.referee_steps + int(by_referee),
            "invalid_calls": 0 if by_referee else search.invalid_calls,
        }
    )
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in args.items()}
    context.recorder.record("tool_call", tool, {"tool": tool, "args": plain, "taken_by": taken_by, "why": why})
    text = "" if reply is None else reply.text
    # One step at a time: tools read and write the same search state.
    return _go("tools", search, context, [call_message(tool, plain, taken_by, search.tool_calls, text)])


def _take_instead(
    state: GraphState,
    search: SearchState,
    ruling: Verdict,
    spent: str,
    tools: Mapping[str, BaseTool],
    context: Context,
) -> Command[str]:
    """The step that the offline rules take where the model cannot: only one legal step, or the rules' own choice."""
    reason = f"the budget of {spent} is used up" if spent else "the planner made no valid call"
    if not spent:
        text = "the planner made no valid call twice in a row: the referee took the step"
        search = _warn(search, context, "no_valid_call", text)
    if search.current is not None and len(ruling.steps) == 1:
        only = ruling.steps[0]
        return _take(only.tool, only.args, f"{reason}; {only.why}", "referee", search, context)
    offered = [tools[step.tool] for step in ruling.steps]
    history = _without_refused(state["messages"])
    reply = (
        OfflinePlanner()
        .reading(search, context.store, history)
        .ask(
            planner_messages(search, history, offered, planner_prompt(), context.store),
            offered,
            optional=ruling.optional,
        )
    )
    if reply.call is not None:
        why = f"{reason}, so the offline rules chose this step"
        return _take(reply.call["name"], reply.call["args"], why, "offline fallback", search, context)
    if not search.answer_sentences and reply.text:
        search = search.model_copy(update={"answer_sentences": (reply.text,)})
    return _go(
        END, end_turn(search, Verdict(why=f"{reason}, and the offline rules see nothing to do"), context), context
    )


def _without_refused(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The conversation without the model's refused plans: they are not what the user asked for."""
    refused = {
        message.tool_call_id
        for message in messages
        if isinstance(message, ToolMessage) and message.status == "error" and message.name == "plan_search"
    }
    calls = {
        str(call["id"])
        for message in messages
        if isinstance(message, AIMessage) and (mark := mark_of(message)) is not None and mark.taken_by == "planner"
        for call in message.tool_calls
    }
    return [message for message in messages if not (_call_ids(message) & refused & calls)]


def _call_ids(message: AnyMessage) -> set[str]:
    """The ids of the calls that a message makes, or of the call that it answers."""
    if isinstance(message, ToolMessage):
        return {message.tool_call_id}
    return {str(call["id"]) for call in message.tool_calls} if isinstance(message, AIMessage) else set()


def _last_words(search: SearchState, planner: Planner, reply: PlannerReply, state: GraphState) -> SearchState:
    """No call: the turn is over. The rules' own sentences are an answer; a model's words are only a comment."""
    if planner.kind == "offline":
        sentences = (*search.answer_sentences, reply.text) if reply.text else search.answer_sentences
        return search.model_copy(update={"answer_sentences": sentences, "turn_open": False})
    comment = allowed_words(reply.text, search, state["messages"])
    return search.model_copy(update={"comment": comment, "turn_open": False})


def _spent(search: SearchState, context: Context) -> str:
    if search.model_calls >= context.budget.model_calls:
        return "model_calls"
    return "tokens" if search.tokens >= context.budget.tokens else ""


def _warn(search: SearchState, context: Context, kind: CautionKind, text: str) -> SearchState:
    caution = Caution(kind=kind, text=text)
    if caution in search.cautions:
        return search
    context.recorder.record("warning", "referee", caution.model_dump())
    return search.with_caution(caution)


def _count_error(state: GraphState, context: Context) -> SearchState:
    """The search state, with one more invalid call when the last tool refused its arguments."""
    search = load_search(state)
    last = state["messages"][-1]
    if not isinstance(last, ToolMessage) or last.status != "error" or not search.turn_open:
        # Where the planner ended the turn after a refusal, the refusal was counted before.
        return search
    context.recorder.record("tool_error", last.name or "", {"error": str(last.content)})
    return search.model_copy(update={"invalid_calls": search.invalid_calls + 1})


__all__ = ["INVALID_CALLS_BEFORE_REFEREE", "RECURSION_LIMIT", "SearchGraph", "Step", "build_search_graph"]
