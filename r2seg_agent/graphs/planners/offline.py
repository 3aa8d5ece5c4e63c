"""The offline planner: rules in the planner's seat, so that the same graph runs with no key and no network.

It is deterministic. The language work (concepts, laterality, negation, typos) is done by `reason/`. It is a stand-in
for a language model and is named so wherever results are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.tools import BaseTool

from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.state import SearchState

OFFLINE_PLANNER_NAME = "offline planner (a stand-in for a language model)"


class OfflinePlanner:
    """Hands the user's own words to `plan_search`."""

    name = OFFLINE_PLANNER_NAME
    kind: PlannerKind = "offline"

    def __init__(self, search: SearchState | None = None, store: ArtifactStore | None = None) -> None:
        self._search, self._store = search, store

    def reading(self, search: SearchState, store: ArtifactStore) -> OfflinePlanner:
        """This planner, looking at `search`."""
        return OfflinePlanner(search, store)

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """The next call by rules; none where the message is dealt with."""
        if self._search is None or optional or all(tool.name != "plan_search" for tool in tools):
            return PlannerReply(call=None)
        call = ToolCall(name="plan_search", args={"targets": [self._search.message]}, id="plan")
        return PlannerReply(call=call, road="rules")
