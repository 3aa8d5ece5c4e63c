"""The offered tools as one JSON schema, for models that have structured output but no tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from r2seg_agent.graphs.planners.calls import Offer

NO_TOOL = "none"
"""The choice that calls nothing, where that is legal."""

_KEPT = ("type", "description", "enum", "const", "minItems", "maxItems", "minimum", "maximum")
"""Keywords that the common grammars (OpenAI's, llama.cpp's, Ollama's) take; defaults and titles only confuse them."""

Schema = dict[str, JsonValue]


def step_schema(offer: Offer, *, optional: bool) -> Schema:
    """An object with one key `call`: one of the offered tools with its arguments, or `none` where that is legal."""
    branches: list[JsonValue] = [_branch(name, _plain(schema, _defs(schema))) for name, schema in offer.schemas.items()]
    if optional:
        branches.append(_branch(NO_TOOL, {"type": "object", "properties": {}, "required": []}))
    call: JsonValue = branches[0] if len(branches) == 1 else {"anyOf": branches}
    return {
        "title": "next_step",
        "description": "The one tool to call next, with its arguments.",
        "type": "object",
        "properties": {"call": call},
        "required": ["call"],
        "additionalProperties": False,
    }


def _branch(name: str, args: Schema) -> Schema:
    args.setdefault("properties", {})
    return {
        "type": "object",
        "properties": {
            "tool": {"type": "string", "enum": [name]},
            "args": {**args, "additionalProperties": False},
        },
        "required": ["tool", "args"],
        "additionalProperties": False,
    }


def _plain(schema: Mapping[str, JsonValue], defs: Mapping[str, JsonValue]) -> Schema:
    """`schema` without references and rarely understood keywords; every property is required."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = defs.get(reference.rpartition("/")[2])
        return _plain(cast(Mapping[str, JsonValue], target), defs) if isinstance(target, dict) else {}
    plain: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if isinstance(properties := schema.get("properties"), dict):
        plain["properties"] = {
            name: _plain(inner, defs) for name, inner in properties.items() if isinstance(inner, dict)
        }
        plain["required"] = list(properties)
    if isinstance(items := schema.get("items"), dict):
        plain["items"] = _plain(items, defs)
    if isinstance(choices := schema.get("anyOf"), list):
        plain["anyOf"] = [_plain(choice, defs) for choice in choices if isinstance(choice, dict)]
    return plain


def _defs(schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    found = schema.get("$defs")
    return found if isinstance(found, dict) else {}
