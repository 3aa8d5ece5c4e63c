"""What the graph carries from node to node: JSON values and artifact references, never arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from pydantic import JsonValue
from typing_extensions import TypedDict

from r2seg_agent.cautions import Caution, with_cautions
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import ChosenLevel, ImageInfo
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reason.language.choices import chosen
from r2seg_agent.reason.plan import AnatomyPlan, Choice
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools.target_state import Stage, TargetState, next_round, with_organs

__all__ = [
    "GraphState",
    "SearchState",
    "Stage",
    "TargetState",
    "Turn",
    "dump_search",
    "load_search",
    "next_round",
    "with_organs",
]


class Turn(Frozen):
    """One message of the user. `before` refers to the stored `SearchState` as it stood when the message came.

    `reading` is what it means after the user answered a question. `answer` is filled when the turn ends;
    `undone` turns and the `undo` turns themselves cannot be undone. `by_rules`: a slash command's sentence, read by the
    offline rules whatever the planner is, since it leaves nothing to choose.
    """

    index: int
    text: str
    reading: str | None = None
    before: ArtifactRef | None = None
    answer: str = ""
    kind: Literal["message", "undo"] = "message"
    undone: bool = False
    by_rules: bool = False


class SearchState(Frozen):
    """A whole conversation over one scan: its targets, worked off in order, and its turns.

    `answer_sentences` are those of the open turn, written by code; `turn_calls` counts its tools; `comment` is what a
    model added, checked and never a result. `cautions` are for the report. `any_modality`:
    the user confirmed that this image is meant although the request named another modality. `focus` is the finding
    that was spoken of last ("it"). `alpha` overrides the run's level after the user asked for another; `levels` are all
    that were chosen so, and `p_seen` says that candidates were judged: no undoing takes either back. `anchor_source`
    is what `--anchors auto` has settled on, "" before: a run that continues, and a fork, keep it.
    """

    request: str
    image: ImageInfo
    targets: tuple[TargetState, ...] = ()
    excluded: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    turn_open: bool = True
    turn_calls: int = 0
    answer_sentences: tuple[str, ...] = ()
    comment: str = ""
    cautions: tuple[Caution, ...] = ()
    any_modality: bool = False
    focus: int | None = None
    alpha: float | None = None
    levels: tuple[ChosenLevel, ...] = ()
    p_seen: bool = False
    anchor_source: str = ""
    question: str | None = None
    choices: tuple[Choice, ...] = ()
    outcome: OutcomeKind | None = None
    answer: str = ""
    tool_calls: int = 0
    model_calls: int = 0
    tokens: int = 0
    invalid_calls: int = 0
    referee_steps: int = 0

    @property
    def current(self) -> int | None:
        """Index of the first target without an outcome; None when all have one."""
        return next((i for i, target in enumerate(self.targets) if target.outcome is None), None)

    @property
    def message(self) -> str:
        """The user's last message, as it is to be read after their answer to a question."""
        if not self.turns:
            return self.request
        return self.turns[-1].reading or self.turns[-1].text

    def answered(self, reply: str) -> SearchState:
        """A copy in which the open question has the user's `reply`: a choice, its number, "yes" to a single one, or
        other words. A side that the message named and the reply does not is kept."""
        picked = chosen(reply, self.choices)
        closed: dict[str, object] = {"question": None, "choices": ()}
        if picked is not None and picked.kind == "keep_image":
            return self.model_copy(update={**closed, "any_modality": True})
        reading = " ".join(reply.split()) if picked is None else picked.line
        sides = {side for side in ("left", "right") if re.search(rf"\b{side}\b", self.message, re.IGNORECASE)}
        if len(sides) == 1 and not re.search(r"\b(left|right|both)\b", reading, re.IGNORECASE):
            reading = f"{sides.pop()} {reading}"
        return self.model_copy(update=closed).with_turn(reading=reading)

    def with_caution(self, *cautions: Caution) -> SearchState:
        """A copy whose report warns of `cautions` too, of each once."""
        return self.model_copy(update={"cautions": with_cautions(self.cautions, *cautions)})

    def with_targets(self, plans: Sequence[AnatomyPlan], judged: Sequence[AnatomyPlan]) -> SearchState:
        """A copy that begins with those of `plans` that are among `judged`, and says which were left out."""
        targets = tuple(TargetState(plan=plan, original_plan=plan) for plan in judged)
        left_out = [plan for plan in plans if plan not in judged]
        return self.model_copy(update={"targets": targets}).without_targets(left_out)

    def without_targets(self, plans: Sequence[AnatomyPlan]) -> SearchState:
        """A copy that warns that `plans`, of which the calibration does not speak, are not searched."""
        if not plans:
            return self
        text = (
            f"Not searched: {', '.join(_named(plan) for plan in plans)}. The calibration was made for another target; "
            "search in a run of its own, with its own calibration or without one."
        )
        return self.with_caution(Caution(kind="target_without_calibration", text=text))

    def with_level(self, alpha: float) -> SearchState:
        """A copy in which the open turn has set the level `alpha`."""
        level = ChosenLevel(turn=len(self.turns), alpha=alpha, after_p=self.p_seen)
        return self.model_copy(update={"alpha": alpha, "levels": (*self.levels, level)})

    def with_levels_of(self, other: SearchState) -> SearchState:
        """A copy for whoever has seen what `other` holds: its levels and that p-values were seen."""
        return self.model_copy(update={"levels": other.levels, "p_seen": other.p_seen})

    def with_target(self, index: int, **changes: object) -> SearchState:
        """A copy in which target `index` has `changes`."""
        targets = list(self.targets)
        targets[index] = targets[index].model_copy(update=changes)
        return self.model_copy(update={"targets": tuple(targets)})

    def with_turn(self, **changes: object) -> SearchState:
        """A copy in which the last turn has `changes`."""
        last = self.turns[-1].model_copy(update=changes)
        return self.model_copy(update={"turns": (*self.turns[:-1], last)})

    def reset_target(self, index: int, plan: AnatomyPlan | None = None) -> SearchState:
        """A copy in which target `index` starts again, by `plan` or its own; what is cached is not computed again."""
        chosen = plan or self.targets[index].original_plan
        targets = list(self.targets)
        included = self.targets[index].included
        targets[index] = TargetState(plan=with_organs(chosen, included), original_plan=chosen, included=included)
        return self.model_copy(update={"targets": tuple(targets), "outcome": None})


def _named(plan: AnatomyPlan) -> str:
    return f"{plan.laterality} {plan.target_name}" if plan.laterality else plan.target_name


class GraphState(TypedDict):
    """LangGraph's state: the messages, and `SearchState` as JSON (exact after every checkpointer).

    `events` is the number of trace events that belong to this state: what was traced after it is repeated on resume.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    search: dict[str, JsonValue]
    events: int


def load_search(state: GraphState) -> SearchState:
    """The typed search state of a graph state."""
    return SearchState.model_validate(state["search"])


def dump_search(search: SearchState) -> dict[str, JsonValue]:
    """JSON values for the graph state."""
    dumped: dict[str, JsonValue] = search.model_dump(mode="json")
    return dumped
