"""A scripted chat model: tool calls, structured output and plain text; it notes what it was offered and shown.

Used for every agent path, through the same `ChatModelPlanner` as a real model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool
from pydantic import Field

from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner, Way
from r2seg_agent.graphs.planners.retry import Backoff, Retrier

Line = AIMessage | str | BaseException | Callable[[list[AnyMessage]], "Line"]
"""A message, words, an exception to raise, or a function of the messages that gives one of them."""


class ScriptedChatModel(BaseChatModel):
    """Says the script's lines in order, the last one again and again.

    `native` and `structured` say whether it has tool calls and structured output. `offered`, `seen`, `schemas` and
    `call_formats` note, question by question, the tools' names, the messages, the schema and how it was asked.
    """

    script: tuple[Any, ...]
    native: bool = True
    structured: bool = True
    offered: list[tuple[str, ...]] = Field(default_factory=list)
    seen: list[list[AnyMessage]] = Field(default_factory=list)
    schemas: list[dict[str, Any]] = Field(default_factory=list)
    call_formats: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        if not self.native:
            raise NotImplementedError
        return self.bind(offered=tuple(tool.name for tool in tools if isinstance(tool, BaseTool)), call_format="native")

    def with_structured_output(  # type: ignore[override]
        self, schema: dict[str, Any], *, method: str = "json_schema", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        if not self.structured:
            raise NotImplementedError
        assert method == "json_schema"
        assert include_raw
        self.schemas.append(schema)
        bound = self.bind(offered=tools_of_schema(schema), call_format="json_schema")
        return bound | RunnableLambda(lambda message: {"raw": message, "parsed": None, "parsing_error": None})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        offered: tuple[str, ...] = (),
        call_format: str = "json_text",
        **kwargs: Any,
    ) -> ChatResult:
        self.offered.append(offered)
        self.seen.append(list(messages))  # type: ignore[arg-type]
        self.call_formats.append(call_format)
        line = self.script[min(len(self.seen), len(self.script)) - 1]
        while callable(line):
            line = line(messages)
        if isinstance(line, BaseException):
            raise line
        message = AIMessage(line) if isinstance(line, str) else line.model_copy()
        return ChatResult(generations=[ChatGeneration(message=message)])


def tools_of_schema(schema: dict[str, Any]) -> tuple[str, ...]:
    """The tools that a structured-output schema lets a model choose from."""
    branch = schema["properties"]["call"]
    return tuple(one["properties"]["tool"]["enum"][0] for one in branch.get("anyOf", [branch]))


def call(tool: str, /, **arguments: Any) -> AIMessage:
    """A native tool call."""
    return AIMessage("", tool_calls=[ToolCall(name=tool, args=arguments, id=f"id-{tool}")], usage_metadata=usage())


def broken_call(tool: str, arguments: str) -> AIMessage:
    """A native tool call whose arguments are not JSON, as LangChain's clients hand it on."""
    broken = InvalidToolCall(name=tool, args=arguments, id="id", error="not JSON", type="invalid_tool_call")
    return AIMessage("", invalid_tool_calls=[broken])


def written(tool: str, /, **arguments: Any) -> str:
    """A call as JSON in the text."""
    return f"```json\n{json.dumps({'name': tool, 'arguments': arguments})}\n```"


def usage(tokens_in: int = 100, tokens_out: int = 10) -> Any:
    """Token counts as a server sends them."""
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def no_sleep(_: float) -> None:
    """Back-off without waiting."""


def planner_of(
    model: BaseChatModel, *, call_format: Way | None = None, attempts: int = 3, **more: Any
) -> ChatModelPlanner:
    """`model` as the planner, with retries that do not wait."""
    retrier = Retrier(name="scripted", backoff=Backoff(attempts=attempts), sleep=no_sleep, timeout_s=20.0)
    return ChatModelPlanner(model=model, name="scripted", retrier=retrier, call_format=call_format, **more)


def scripted_planner(*script: Line, **more: Any) -> ChatModelPlanner:
    """A planner over a `ScriptedChatModel`; the model is `planner.model`."""
    return planner_of(ScriptedChatModel(script=script), **more)
