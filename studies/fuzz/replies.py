"""Replies of language models: calls and texts of every shape, through the planner that reads them all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from r2seg_agent.graphs.planner import without_half_characters
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.retry import Backoff, Retrier
from r2seg_agent.tools import ALL_TOOLS
from studies.fuzz.mutate import ODD_JSON, ODD_TEXT

_NAMES = st.one_of(
    st.sampled_from([tool.name for tool in ALL_TOOLS]),
    st.sampled_from(ODD_TEXT),
    st.sampled_from(["default_api.plan_search", "functions.widen_search", "plan_search()", "none"]),
)
_VALUES = st.recursive(
    st.one_of(st.sampled_from([v for v in ODD_JSON if not isinstance(v, dict | list)]), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
_KEYS = st.one_of(
    st.sampled_from(["targets", "target", "finding", "alpha", "candidate", "organs"]), st.text(max_size=6)
)
_ARGS = st.dictionaries(_KEYS, _VALUES, max_size=3)
_WRITTEN = st.tuples(
    st.sampled_from(["name", "tool", "action", "function", "x"]), _NAMES, st.sampled_from(["arguments", "args"]), _ARGS
).map(lambda parts: json.dumps({parts[0]: parts[1], parts[2]: parts[3]}))
_PIECE = st.one_of(
    _WRITTEN,
    st.sampled_from(
        ["<think>", "</think>", "<thought>", "```json\n", "```", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "{"]
    ),
    st.sampled_from(["<|channel|>analysis<|message|>", "<|end|>", "<|channel|>commentary to=functions.plan_search"]),
    st.sampled_from(ODD_TEXT),
    st.text(max_size=20),
)  # fmt: skip
_CALL = st.fixed_dictionaries({"name": _NAMES, "args": _ARGS})
_BROKEN = st.fixed_dictionaries({"name": _NAMES, "args": st.one_of(_WRITTEN, st.sampled_from(ODD_TEXT))})
REPLIES = st.tuples(
    st.lists(_PIECE, max_size=6).map("".join),
    st.lists(_CALL, max_size=2),
    st.lists(_BROKEN, max_size=2),
    st.booleans(),
)
"""(text, calls, calls that the client could not read, whether a call may be left out)."""


class _Says(BaseChatModel):
    """Gives one message, whatever it is asked."""

    message: AIMessage

    @property
    def _llm_type(self) -> str:
        return "says"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """The model itself."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message.model_copy())])


def ask(given: tuple[str, list[dict[str, Any]], list[dict[str, Any]], bool], folder: Path, work: Path) -> None:
    """One question to a model that answers so; what comes of it must be writable, and of the offered tools."""
    text, calls, broken, optional = given
    message = AIMessage(
        text,
        tool_calls=[ToolCall(name=call["name"], args=call["args"], id="1") for call in calls],
        invalid_tool_calls=[
            InvalidToolCall(name=call["name"], args=call["args"], id="2", error=None, type="invalid_tool_call")
            for call in broken
        ],
    )
    retrier = Retrier(name="says", backoff=Backoff(attempts=1), sleep=lambda _: None)
    asked: list[AnyMessage] = [SystemMessage("rules"), HumanMessage("find a liver lesion at alpha 0.01")]
    for way in ("native", "json_text"):
        planner = ChatModelPlanner(model=_Says(message=message), name="says", retrier=retrier, call_format=way)
        reply = without_half_characters(planner.ask(asked, list(ALL_TOOLS), optional=optional))
        json.dumps([reply.text, reply.problem, reply.call], ensure_ascii=False, allow_nan=False).encode()
        assert reply.call is None or reply.call["name"] in {tool.name for tool in ALL_TOOLS}
        assert reply.call is not None or reply.problem or optional
