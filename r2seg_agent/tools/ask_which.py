"""`ask_which`: when the user's words fit several findings, the user is asked; nothing is guessed."""

from __future__ import annotations

from typing import Annotated, Literal

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.reason.plan import Choice
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools.referents import choice_of, table_of

MAX_CHOICES = 12


class AskWhichResult(ToolResult):
    """The question and its choices."""

    question: str
    choices: tuple[Choice, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        return f"asks: {self.question}"

    def points(self) -> tuple[str, ...]:
        """The choices."""
        return tuple(choice.line for choice in self.choices)


@search_tool(
    "ask_which",
    ToolCard(
        asked_by="the words fit several findings and none was spoken of last",
        note=", never a guess",
    ),
)
def ask_which(
    kind: Literal["finding", "rejected"],
    numbers: Annotated[list[int], Field(min_length=2, max_length=200, description="Those that may be meant.")],
    runtime: Runtime,
) -> Command[str]:
    """Ask the user which finding (or rejected candidate) is meant, when the words fit several."""
    search, context = search_of(runtime), context_of(runtime)
    table = table_of(search, context.store)
    rows = {row.number: row for row in (table.findings if kind == "finding" else table.rejected)}
    unknown = [number for number in numbers if number not in rows]
    if unknown:
        legal = ", ".join(map(str, rows)) or "none"
        raise ToolUseError(f"there is no {kind} {unknown[0]}; there are: {legal}")
    chosen = list(dict.fromkeys(numbers))
    what = "finding" if kind == "finding" else "rejected candidate"
    result = AskWhichResult(
        question=f"Which {what} do you mean? There are {len(chosen)}; say its number or where it is.",
        choices=tuple(choice_of(rows[number]) for number in chosen[:MAX_CHOICES]),
    )
    search = search.model_copy(update={"question": result.question, "choices": result.choices})
    return answer(runtime, search, result, "ask_which")
