"""The typed contents of `Event.data`, one model per kind: the published schema (docs/develop/trace.schema.json)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import RunFailedError
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reason.plan import AnatomyPlan, Choice
from r2seg_agent.report.models import PlannerKind
from r2seg_agent.segment.auto import SegmenterChoice
from r2seg_agent.store.refs import ArtifactKind
from r2seg_agent.trace.events import Event, EventKind

_Model = TypeVar("_Model", bound=Frozen)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CallFormat = Literal["rules", "native", "json_schema", "json_text", "none"]
"""How a call came from the planner: by rules (offline), as a native tool call, as JSON-schema structured output, as
JSON in the text; `none` when there was no call."""
TakenBy = Literal["planner", "referee", "offline fallback"]
"""Who took a step; `offline fallback`: the offline rules, because the model could not."""


class RunStarted(Frozen):
    """Who answers what, on which scan, by which means. `settings` is all that can change the results.

    `segmenter_choice` is why `auto` chose the segmenter; None where it was named.
    """

    run_id: str
    kind: Literal["find", "chat"]
    r2seg: str
    request: str
    image: ImageInfo
    planner: str
    planner_kind: PlannerKind
    settings: dict[str, JsonValue]
    segmenter_choice: SegmenterChoice | None = None
    seed: int
    versions: Mapping[str, str]
    parent: str | None = None
    """The run that this one was forked from."""


class UserMessage(Frozen):
    """One turn of the user, redacted. `by_rules`: a command's sentence, read by the offline rules."""

    turn: int
    text: str
    by_rules: bool = False


class Question(Frozen):
    """A question to the user."""

    question: str
    choices: tuple[Choice, ...]


class UserAnswer(Frozen):
    """What the user answered to a question, redacted; the `choice` that the words name, None for other words."""

    text: str
    choice: Choice | None = None


class Spoken(Frozen):
    """One message as the model saw it, redacted and cut to 4000 characters."""

    role: str
    text: str


class Call(Frozen):
    """A tool call: the arguments as they were given."""

    tool: str
    args: dict[str, JsonValue]


class ModelCall(Frozen):
    """One question to the planner. `messages_sha256` covers all messages whole; `messages` leaves out the prompt.

    `tokens_estimated` where the server did not count them; `pictures` were shown to the model with `--share-images`.
    """

    planner: str
    call_format: CallFormat
    prompt: str
    prompt_sha256: Sha256
    messages_sha256: Sha256
    messages: tuple[Spoken, ...] = ()
    offered: tuple[str, ...]
    call: Call | None
    text: str
    problem: str
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    requests: int
    tokens_estimated: bool = False
    pictures: tuple[Sha256, ...] = ()


class ToolCall(Call):
    """A tool is about to run; `why` says for what."""

    taken_by: TakenBy
    why: str


class ToolResult(Frozen):
    """What a tool returned: its own result model as JSON, and that result in words (`tools/_runtime.ToolResult`)."""

    result: dict[str, JsonValue]
    line: str
    points: tuple[str, ...] = ()


class ToolError(Frozen):
    """A tool refused its arguments; the text went back to whoever called."""

    error: str


class Artifact(Frozen):
    """Something the last tool stored; its `role` says what for."""

    role: str
    sha256: Sha256
    kind: ArtifactKind
    shape: tuple[int, ...] = ()
    dtype: str = ""


class Referee(Frozen):
    """A decision of the referee, named by the event's `step`: ask_planner, close_target, finish."""

    why: str = ""
    outcome: OutcomeKind | None = None
    target: int | None = None
    offered: tuple[str, ...] = ()
    optional: bool = False


class Answer(Frozen):
    """The end of a turn. `answer` is written by code from numbers; `comment` is the model's, checked."""

    turn: int
    outcome: OutcomeKind
    answer: str
    comment: str = ""


class BudgetUsed(Frozen):
    """A budget, named by the event's `step`, is used up."""

    why: str = ""
    used: float | None = None
    limit: float | None = None


class RunFinished(Frozen):
    """The end of a run: its files by sha256, and `chain` over all events before. `error` says why a failed one broke
    off.
    """

    outcome: OutcomeKind
    files: Mapping[str, Sha256] = {}
    chain: Sha256 | None = None
    error: str = ""


PAYLOADS: Mapping[EventKind, type[Frozen]] = {
    "run_started": RunStarted,
    "user_message": UserMessage,
    "question": Question,
    "user_answer": UserAnswer,
    "plan": AnatomyPlan,
    "model_call": ModelCall,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "tool_error": ToolError,
    "artifact": Artifact,
    "referee": Referee,
    "answer": Answer,
    "warning": Caution,
    "budget": BudgetUsed,
    "run_finished": RunFinished,
}
"""The contents of every kind of event."""

_DATA: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def payload(event: Event, model: type[_Model]) -> _Model:
    """The typed contents of `event`; raises `RunFailedError` where they are not those of a `model`."""
    try:
        return model.model_validate_json(_DATA.dump_json(event.data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFailedError(f"event {event.seq} ({event.kind}) is not well-formed: {where}: {first['msg']}") from error


def check_payload(event: Event) -> None:
    """Raise `RunFailedError` where the contents of `event` are not what its kind has."""
    model = PAYLOADS.get(event.kind)
    if model is not None:
        payload(event, model)
