"""What all tools share: how one is declared, reading the state, writing it back, and errors that a model can mend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as langchain_tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import GraphState, SearchState, TargetState, dump_search, load_search

Runtime = ToolRuntime[Any, Any]
"""Injected into every tool, hidden from models. LangChain builds a validator from this type, which must not look into
`Context`: `context_of` and `search_of` give the typed parts."""

_CARD = "r2seg_card"


class ToolUseError(ValueError):
    """The caller (a model) used a tool wrongly; the message names the legal choices and goes back to it."""


class ToolCard(Frozen):
    """What planners must know of a tool besides its arguments; declared once, with the tool.

    `asked_by`: the words of a user that ask for it, as the prompt of a language model lists them; "" for a step that
    no words ask for. `note` follows the tool's name there. `part_of_search`: a step that follows from a plan.
    `set_by_user`: an argument that only the user may set: a model may pass on what stands in the user's message.
    `unavailable`: the sentence for the user when the tool is not legal now; `{findings}` and `{rejected}` in it stand
    for what there is. `before_search`: that sentence is right before the first search too.
    """

    asked_by: str = ""
    note: str = ""
    part_of_search: bool = False
    set_by_user: str = ""
    unavailable: str = "That is not possible now. {findings}"
    before_search: bool = False


class ShownPicture(Frozen):
    """A stored picture (PNG) for the user, by its sha256."""

    sha256: str
    caption: str


NO_FINDING = "Nothing was found so far, so there is no finding to speak of. {rejected}"
"""`ToolCard.unavailable` of the tools that speak of findings."""


class ToolResult(Frozen):
    """What a tool returns: to a model as JSON, to a reader of the trace as `line` and `points`."""

    @abstractmethod
    def line(self) -> str:
        """The result in one plain sentence."""

    def points(self) -> tuple[str, ...]:
        """Further lines below it: plans, reasons with their counts, findings."""
        return ()

    def shown_picture(self) -> ShownPicture | None:
        """The picture that the tool drew for the user."""
        return None


class ResultNote(Frozen):
    """What a tool message carries besides the result's JSON, for the terminal; no model is sent it."""

    line: str
    picture: ShownPicture | None = None


def search_tool(name: str, card: ToolCard | None = None) -> Callable[[Callable[..., Command[str]]], BaseTool]:
    """Declare a tool of the search graph; its function's docstring and arguments are what a model reads of it."""

    def declare(function: Callable[..., Command[str]]) -> BaseTool:
        declared = langchain_tool(name)(function)
        declared.metadata = {_CARD: card or ToolCard()}
        return declared

    return declare


def card_of(tool: BaseTool) -> ToolCard:
    """The card that a tool was declared with."""
    card = (tool.metadata or {}).get(_CARD)
    return card if isinstance(card, ToolCard) else ToolCard()


def note_of(message: ToolMessage) -> ResultNote | None:
    """What `answer` put beside the result; None where the tool refused its arguments."""
    return None if message.artifact is None else ResultNote.model_validate(message.artifact)


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
    result: ToolResult,
    tool: str,
    *,
    say: str = "",
    artifacts: Mapping[str, ArtifactRef] | None = None,
) -> Command[str]:
    """State update and tool message for a tool that is done; the trace gets the result and its artifacts by role.

    `say` is the sentence for the user, written by code from the result's numbers.
    """
    recorder, known = context_of(runtime).recorder, search_of(runtime).cautions
    line, points = result.line(), list(result.points())
    recorder.record("tool_result", tool, {"result": result.model_dump(mode="json"), "line": line, "points": points})
    for role, ref in (artifacts or {}).items():
        recorder.record("artifact", tool, {"role": role, **ref.model_dump(mode="json", exclude={"geometry"})})
    for caution in search.cautions:
        if caution not in known:
            recorder.record("warning", tool, caution.model_dump())
    search = search.model_copy(
        update={
            "answer_sentences": (*search.answer_sentences, say) if say else search.answer_sentences,
            "turn_calls": search.turn_calls + 1,
            "invalid_calls": 0,
        }
    )
    message = ToolMessage(
        content=result.model_dump_json(),
        name=tool,
        tool_call_id=runtime.tool_call_id or tool,
        artifact=ResultNote(line=line, picture=result.shown_picture()).model_dump(mode="json"),
    )
    return Command(update={"search": dump_search(search), "messages": [message], "events": recorder.count})
