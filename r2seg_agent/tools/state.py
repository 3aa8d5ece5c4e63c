"""What the graph carries from node to node: JSON values and artifact references, never arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from pydantic import JsonValue
from typing_extensions import TypedDict

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI, WidenStep, widen
from r2seg_agent.report.models import ImageInfo, OutcomeKind
from r2seg_agent.store.refs import ArtifactRef

Stage = Literal["planned", "anchored", "roi_built", "segmented", "rejected", "measured"]


class TargetState(Frozen):
    """How far the search for one target has come.

    `plan` is the plan as it stands in this round (widening changes its padding and anchors); `why` says what the
    current round does differently. `rounds` refer to stored `SearchRound`s, `findings` to stored `Finding`s.
    """

    plan: AnatomyPlan
    original_plan: AnatomyPlan
    stage: Stage = "planned"
    round_index: int = 1
    why: str = ""
    anchors: ArtifactRef | None = None
    anchor_labels: Mapping[str, tuple[int, ...]] = {}
    anchors_ml: Mapping[str, float] = {}
    rois: tuple[ROI, ...] = ()
    regions: ArtifactRef | None = None
    rounds: tuple[ArtifactRef, ...] = ()
    survivors: tuple[str, ...] = ()
    findings: ArtifactRef | None = None
    outcome: OutcomeKind | None = None
    answer: str = ""


def next_round(target: TargetState, rounds: int) -> WidenStep | None:
    """The round that could follow this one; None when all `rounds` are used or the plan's ladder has ended."""
    if target.round_index >= rounds:
        return None
    return widen(target.original_plan, target.round_index + 1, available=tuple(target.anchor_labels))


class SearchState(Frozen):
    """The whole search: one entry per target, worked off in order."""

    request: str
    image: ImageInfo
    targets: tuple[TargetState, ...] = ()
    excluded: tuple[str, ...] = ()
    question: str | None = None
    choices: tuple[str, ...] = ()
    outcome: OutcomeKind | None = None
    answer: str = ""
    tool_calls: int = 0
    model_calls: int = 0
    invalid_calls: int = 0
    referee_steps: int = 0

    @property
    def current(self) -> int | None:
        """Index of the first target without an outcome; None when all have one."""
        return next((i for i, target in enumerate(self.targets) if target.outcome is None), None)

    def with_target(self, index: int, **changes: object) -> SearchState:
        """A copy in which target `index` has `changes`."""
        targets = list(self.targets)
        targets[index] = targets[index].model_copy(update=changes)
        return self.model_copy(update={"targets": tuple(targets)})


class GraphState(TypedDict):
    """LangGraph's state: the messages, and `SearchState` as JSON (exact after every checkpointer)."""

    messages: Annotated[list[AnyMessage], add_messages]
    search: dict[str, JsonValue]


def load_search(state: GraphState) -> SearchState:
    """The typed search state of a graph state."""
    return SearchState.model_validate(state["search"])


def dump_search(search: SearchState) -> dict[str, JsonValue]:
    """JSON values for the graph state."""
    dumped: dict[str, JsonValue] = search.model_dump(mode="json")
    return dumped
