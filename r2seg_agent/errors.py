"""Errors for the person at the keyboard: what was given, what is allowed, what to do next.

One small hierarchy; `exit_status` is the process exit status of `r2seg` (docs/guide/first-scan.md).
"""

from __future__ import annotations

from typing import ClassVar, TypeVar, cast


def readable_text(text: str) -> str:
    """`text` with the bytes of a name that is not UTF-8 as `�`: it can be printed and written anywhere."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Json = TypeVar("Json")


def readable_json(value: Json) -> Json:
    """`value` with `readable_text` applied to every text in it, keys too; dicts and lists are copied."""
    found: object = value
    if isinstance(value, str):
        found = readable_text(value)
    elif isinstance(value, dict):
        found = {readable_json(key): readable_json(item) for key, item in value.items()}
    elif isinstance(value, list):
        found = [readable_json(item) for item in value]
    return cast(Json, found)


class R2SegError(Exception):
    """Base of every error that r2seg raises on purpose.

    `message` says what was given and what is allowed, `hint` says what to do next (may be empty).
    """

    exit_status: ClassVar[int] = 5

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = readable_text(message), readable_text(hint)
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n{hint}" if hint else message)


class InputError(R2SegError):
    """The user's input cannot be used: a file, a request, a plan, an option."""

    exit_status = 2


class EmptyMaskError(InputError):
    """A mask that holds no voxel; where organs are read, that is an organ which is not in view."""


class RunIsOpenError(InputError):
    """Another process works on the same run."""


class MissingDependencyError(R2SegError):
    """A model, its weights, a dataset or an optional package is not on this machine."""

    exit_status = 3


class BudgetError(R2SegError):
    """A budget (rounds, calls, seconds) or the user stopped the run; it can be resumed."""

    exit_status = 4


class PlannerUnavailableError(BudgetError):
    """The planner's language model cannot be reached; the run is kept as it stands and can be resumed."""


class PlannerRefusedError(PlannerUnavailableError):
    """The language model's server refused the request (key, model name, parameters); trying again changes nothing.

    The run can be resumed once the cause is mended.
    """

    exit_status = 2


class RunFailedError(R2SegError):
    """The run broke in a way that the input does not explain; its trace is kept."""

    exit_status = 5
