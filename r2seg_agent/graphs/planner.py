"""`Planner`: who chooses the next tool, seen from the graph. One question, at most one call as the answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.tools import BaseTool

from r2seg_agent.errors import readable_json, readable_text
from r2seg_agent.report.models import PlannerKind
from r2seg_agent.trace.payloads import CallFormat

if TYPE_CHECKING:
    from r2seg_agent.store.artifacts import ArtifactStore
    from r2seg_agent.tools.state import SearchState

__all__ = ["CallFormat", "Planner", "PlannerKind", "PlannerReply", "ReadsState", "Waits"]


@dataclass(frozen=True)
class PlannerReply:
    """What a planner answered.

    `call` names one of the offered tools and holds a dict of arguments (the tool itself validates them). `text` is the
    model's own words, never an answer by themselves. `problem` says why there is no usable call and names the legal
    choices: it goes back to the model. `requests` counts what was sent to a server, retries included; `cost_usd` is
    None where the price is unknown; `tokens_estimated` when the server did not count and the numbers are ours.
    """

    call: ToolCall | None
    text: str = ""
    problem: str = ""
    call_format: CallFormat = "none"
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    requests: int = 0
    tokens_estimated: bool = False


def without_half_characters(reply: PlannerReply) -> PlannerReply:
    """`reply` as it can be written anywhere: half a character (a lone surrogate, "\\ud83d") becomes "�".

    Servers cut emoji in two, and JSON can spell the halves; neither UTF-8 nor a checkpoint holds them.
    """
    call = reply.call
    if call is not None:
        call = ToolCall(name=readable_text(call["name"]), args=readable_json(call["args"]), id=call["id"])
    return replace(reply, call=call, text=readable_text(reply.text), problem=readable_text(reply.problem))


class Planner(Protocol):
    """A language model, the offline rules, or the record of an earlier run."""

    @property
    def name(self) -> str:
        """For reports: `openai:gpt-4o`, or words that say that it is a stand-in."""
        ...

    @property
    def kind(self) -> PlannerKind:
        """What kind of planner this is."""
        ...

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """One reply to `messages`, which may call one of `tools`; `optional` when a reply without a call is legal.

        Raises `PlannerUnavailableError` when its server cannot be reached after all retries.
        """
        ...


@runtime_checkable
class ReadsState(Protocol):
    """A planner that reads the typed state of the search instead of messages about it (the offline rules)."""

    def reading(self, search: SearchState, store: ArtifactStore, history: Sequence[AnyMessage]) -> Planner:
        """This planner, looking at `search` and the graph's messages; `store` holds what they refer to."""
        ...


@runtime_checkable
class Waits(Protocol):
    """A planner that may wait long, for a server."""

    def stop_by(self, stop: threading.Event) -> None:
        """Once `stop` is set, `ask` gives up waiting and raises `BudgetError` (resumable)."""
        ...
