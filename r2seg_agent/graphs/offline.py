"""The offline planner: a chat model of our own, so that the same graph runs with no key and no network.

It is deterministic and knows one thing: hand the user's words to the first tool that is offered. The language work
(concepts, laterality, negation, typos) is done by `reason/offline.py` inside `plan_search`. It is a stand-in for a
language model and is named so wherever results are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

OFFLINE_PLANNER_NAME = "offline"


class OfflinePlanner(BaseChatModel):
    """Calls the first offered tool: `plan_search` with the user's own words, others with target 1."""

    offered: tuple[str, ...] = ()

    @property
    def _llm_type(self) -> str:
        return "r2seg-offline-planner"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A copy that is offered exactly these tools."""
        names = tuple(tool.name for tool in tools if isinstance(tool, BaseTool))
        return self.model_copy(update={"offered": names})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = next((str(m.content) for m in reversed(messages) if isinstance(m, HumanMessage)), "")
        calls: list[ToolCall] = []
        if "plan_search" in self.offered:
            calls = [ToolCall(name="plan_search", args={"targets": [request]}, id=f"plan-{len(messages)}")]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="", tool_calls=calls))])
