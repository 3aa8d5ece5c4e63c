"""One call out of what a model answered: checked against the tools that are offered, or a problem that names them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from langchain_core.messages import ToolCall
from langchain_core.tools import BaseTool
from pydantic import BaseModel, JsonValue

from r2seg_agent.tools._runtime import card_of

MAX_ARGS_CHARS = 4000
"""Characters of one call's arguments as JSON; longer ones are refused before any tool sees them."""
MAX_NAME_CHARS = 60

_NAMESPACE = re.compile(r"^(?:[A-Za-z_][\w-]*[.:/]+)+")
_NUMBER = re.compile(r"(?<![\w.-])-?\d*[.,]?\d+(?:e-?\d+)?\s*%?", re.IGNORECASE)


@dataclass(frozen=True)
class WrittenCall:
    """A call as a model wrote it: nothing about it is checked yet."""

    name: object
    args: object


class Offer:
    """The tools that are offered, by name, with the names of their arguments."""

    def __init__(self, tools: Sequence[BaseTool]) -> None:
        self.schemas = {tool.name: args_schema(tool) for tool in tools}
        self.set_by_user = {tool.name: card_of(tool).set_by_user for tool in tools}
        self.arguments = {name: frozenset(_properties(schema)) for name, schema in self.schemas.items()}

    def named(self, name: str) -> str:
        """`name` as it is offered: models put the name of a namespace before it ("default_api.", "functions/")."""
        plain = name.strip()
        last = _NAMESPACE.sub("", plain)
        return last if last in self.arguments else plain

    @property
    def legal(self) -> str:
        """The legal choices in words."""
        if not self.arguments:
            return "No tool is offered now."
        signatures = (f"`{name}({', '.join(_properties(self.schemas[name]))})`" for name in self.arguments)
        return f"Call exactly one of: {', '.join(signatures)}."

    def pick(self, calls: Sequence[WrittenCall], user_words: str = "") -> tuple[ToolCall | None, str]:
        """The first valid call, or None and what is wrong with the first one, with the legal choices.

        `user_words` are those of the user in this turn: numbers that only the user may set must stand there.
        """
        problems: list[str] = []
        for call in calls:
            checked = self._check(call)
            if not isinstance(checked, str) and (unsaid := self._not_the_users(checked, user_words)):
                checked = unsaid
            if not isinstance(checked, str):
                return checked, ""
            problems.append(checked)
        return None, f"{problems[0] if problems else 'There was no call in your answer.'} {self.legal}"

    def _check(self, call: WrittenCall) -> ToolCall | str:
        if not isinstance(call.name, str):
            return "The call names no tool."
        name = self.named(call.name)
        if name not in self.arguments:
            return f"There is no tool `{_shown(name)}` now."
        args = {} if call.args is None or call.args == "" else call.args
        if isinstance(args, str):
            try:
                args = strict_json(args)
            except ValueError:
                return f"The arguments of `{name}` are not valid JSON."
        if isinstance(args, str):  # encoded once more than the protocol says
            with suppress(ValueError):
                args = strict_json(args)
        if not isinstance(args, dict):
            return f"The arguments of `{name}` must be a JSON object, not {_kind(args)}."
        unknown = [key for key in args if key not in self.arguments[name]]
        if unknown:
            known = ", ".join(f"`{key}`" for key in sorted(self.arguments[name])) or "no arguments"
            return f"`{name}` has no argument `{_shown(str(unknown[0]))}`; it takes {known}."
        try:
            size = len(json.dumps(args, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            return f"The arguments of `{name}` are not plain JSON values."
        if not _storable(args):
            return f"A number in the arguments of `{name}` is too large."
        if size > MAX_ARGS_CHARS:
            return f"The arguments of `{name}` have {size} characters; at most {MAX_ARGS_CHARS} are allowed."
        return ToolCall(name=name, args=cast(dict[str, object], args), id=f"call-{name}")

    def _not_the_users(self, call: ToolCall, user_words: str) -> str:
        """Why a number that only the user may set is not theirs; "" when they named it, as such or in percent."""
        argument = self.set_by_user[call["name"]]
        value = call["args"].get(argument) if argument else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""  # The tool itself refuses what is no number.
        for match in _NUMBER.findall(user_words):
            number = float(match.rstrip("% ").replace(",", "."))
            if math.isclose(number / 100 if "%" in match else number, value, rel_tol=1e-9):
                return ""
        return f"`{argument}` is for the user to set, and the user's message holds no {value:g}."


def _storable(value: object) -> bool:
    """False for whole numbers beyond 53 bits: neither JSON's readers nor the checkpoints keep them."""
    if isinstance(value, dict):
        return all(_storable(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_storable(inner) for inner in value)
    return not isinstance(value, int) or abs(value) <= 2**53


def args_schema(tool: BaseTool) -> dict[str, JsonValue]:
    """The JSON schema of the arguments that a model may pass (injected ones are not among them)."""
    schema = tool.tool_call_schema
    found = schema if isinstance(schema, dict) else cast(type[BaseModel], schema).model_json_schema()
    return cast(dict[str, JsonValue], found)


def strict_json(text: str) -> JsonValue:
    """JSON by the book: no NaN or Infinity, no repeated keys; `ValueError` for anything else."""
    try:
        return cast(JsonValue, json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _properties(schema: dict[str, JsonValue]) -> list[str]:
    properties = schema.get("properties")
    return list(properties) if isinstance(properties, dict) else []


def _shown(name: str) -> str:
    """A name that a model made up, safe to print: what is not ASCII is escaped, and it is cut."""
    return ascii(name)[1:-1][:MAX_NAME_CHARS].replace("`", "'")


def _kind(value: object) -> str:
    names = {list: "a list", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a text")
