"""The messages of the graph, each with a typed mark that says what it is: code decides by the mark, never by the text,
the id or the name of a message.

The mark stands in `additional_kwargs`, which checkpoints keep. Planners get messages that `prompting.py` makes anew, so
no mark is ever sent to a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.plan import Choice
from r2seg_agent.trace.payloads import TakenBy

MARK = "r2seg"
"""Its key in `additional_kwargs`."""

MessageKind = Literal["request", "answer", "call", "comment", "problem"]


class Mark(Frozen):
    """What a message is.

    `request`: the user's, which opens turn `turn`. `answer`: the user's, to a question; `choice` is the one that it
    names. `call`: a tool call, taken by `taken_by`. `comment`: what the planner wrote without a valid call, and
    `problem` what the referee says to it then.
    """

    kind: MessageKind
    turn: int | None = None
    choice: Choice | None = None
    taken_by: TakenBy | None = None


def mark_of(message: AnyMessage) -> Mark | None:
    """The mark of a message; None for a tool's result and for a message that the graph did not make."""
    found = message.additional_kwargs.get(MARK)
    return None if found is None else Mark.model_validate(found)


def kind_of(message: AnyMessage) -> MessageKind | None:
    """The kind that its mark names."""
    mark = mark_of(message)
    return None if mark is None else mark.kind


def request_message(text: str, turn: int) -> HumanMessage:
    """The user's message that opens turn `turn` (1-based)."""
    return HumanMessage(text, id=f"user-{turn}", additional_kwargs=_marked(Mark(kind="request", turn=turn)))


def answer_message(text: str, choice: Choice | None, number: int) -> HumanMessage:
    """The user's answer to a question; `number` makes its id unique in the conversation."""
    return HumanMessage(text, id=f"answer-{number}", additional_kwargs=_marked(Mark(kind="answer", choice=choice)))


def call_message(tool: str, args: Mapping[str, object], taken_by: TakenBy, number: int, text: str = "") -> AIMessage:
    """One tool call; `text` is what a model wrote beside it, `number` makes its id unique in the conversation."""
    identity = f"call-{number}"
    call = ToolCall(name=tool, args=dict(args), id=identity)
    mark = Mark(kind="call", taken_by=taken_by)
    return AIMessage(content=text, id=identity, tool_calls=[call], additional_kwargs=_marked(mark))


def problem_messages(text: str, problem: str, number: int) -> tuple[AIMessage, HumanMessage]:
    """What a planner wrote without a valid call, and what the referee says to it."""
    return (
        AIMessage(content=text, id=f"comment-{number}", additional_kwargs=_marked(Mark(kind="comment"))),
        HumanMessage(content=problem, id=f"problem-{number}", additional_kwargs=_marked(Mark(kind="problem"))),
    )


def _marked(mark: Mark) -> dict[str, object]:
    return {MARK: mark.model_dump(mode="json")}
