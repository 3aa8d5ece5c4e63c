"""What a session reports while a turn runs: tools, sentences of the answer, pictures, questions, the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from pydantic import JsonValue

from r2seg_agent.graphs.messages import mark_of
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reason.plan import Choice
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools._runtime import note_of
from r2seg_agent.trace.payloads import Question, TakenBy


@dataclass(frozen=True)
class ToolStarted:
    """A tool begins."""

    tool: str
    args: Mapping[str, JsonValue]
    taken_by: TakenBy


@dataclass(frozen=True)
class ToolFinished:
    """A tool is done; `line` is its result in one sentence, `error` why it refused its arguments: one of them is ""."""

    tool: str
    error: str = ""
    line: str = ""


@dataclass(frozen=True)
class AnswerSentence:
    """One sentence of the answer, written by code from numbers."""

    text: str


@dataclass(frozen=True)
class ModelComment:
    """The model's own comment on the answer: not a result."""

    text: str


@dataclass(frozen=True)
class QuestionAsked:
    """A question to the user; their next message is its answer."""

    question: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class PictureDrawn:
    """A picture (PNG) for the user."""

    path: Path
    caption: str


@dataclass(frozen=True)
class TurnEnded:
    """The turn is over."""

    outcome: OutcomeKind
    answer: str


SessionEvent = ToolStarted | ToolFinished | AnswerSentence | ModelComment | QuestionAsked | PictureDrawn | TurnEnded


def events_of(change: Mapping[str, Any] | None, n_shown: int, store: ArtifactStore) -> Iterator[SessionEvent]:
    """The events of one node's state update; `n_shown` sentences of the answer were reported before."""
    if not change:
        return
    for message in change.get("messages", []):
        if isinstance(message, AIMessage):
            taken_by = (mark := mark_of(message)) and mark.taken_by
            for call in message.tool_calls:
                yield ToolStarted(call["name"], call["args"], taken_by or "planner")
        elif isinstance(message, ToolMessage):
            yield from _of_result(message, store)
    if "search" in change:
        for text in change["search"]["answer_sentences"][n_shown:]:
            yield AnswerSentence(str(text))


def question_of(interrupted: Mapping[str, Any]) -> QuestionAsked:
    """The question that interrupted the graph."""
    question = Question.model_validate(interrupted)
    return QuestionAsked(question.question, question.choices)


def _of_result(message: ToolMessage, store: ArtifactStore) -> Iterator[SessionEvent]:
    note = note_of(message)
    if note is None:
        yield ToolFinished(message.name or "", error=str(message.content))
        return
    yield ToolFinished(message.name or "", line=note.line)
    if note.picture is not None:
        yield PictureDrawn(store.path(note.picture.sha256, ".png"), note.picture.caption)
