"""The offered tools as one JSON schema, in the small dialect that servers' grammars understand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from r2seg_agent.graphs.planners.calls import Offer
from r2seg_agent.graphs.planners.structured import step_schema
from r2seg_agent.tools import ALL_TOOLS


def _schemas(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "type" in value or "anyOf" in value:
            yield value
        for inner in value.values():
            yield from _schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _schemas(inner)


def test_the_schema_is_valid_plain_and_closed() -> None:
    schema = step_schema(Offer(ALL_TOOLS), optional=True)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" not in str(schema)
    assert "runtime" not in str(schema)
    for one in _schemas(schema):
        if one.get("type") == "object":
            assert one["additionalProperties"] is False
            assert sorted(one["required"]) == sorted(one["properties"])


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"call": {"tool": "plan_search", "args": {"targets": ["liver lesion"]}}}, True),
        ({"call": {"tool": "locate_finding", "args": {"finding": 1}}}, True),
        ({"call": {"tool": "none", "args": {}}}, True),
        ({"call": {"tool": "plan_search", "args": {"targets": []}}}, False),
        ({"call": {"tool": "plan_search", "args": {"targets": ["x"], "path": "/"}}}, False),
        ({"call": {"tool": "locate_finding", "args": {"targets": ["x"]}}}, False),
        ({"call": {"tool": "rm", "args": {}}}, False),
        ({"call": {"tool": "locate_finding", "args": {"finding": "one"}}}, False),
        ({}, False),
    ],
)
def test_only_offered_calls_fit_the_schema(value: dict[str, Any], valid: bool) -> None:
    schema = step_schema(Offer(ALL_TOOLS), optional=True)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) == valid


def test_doing_nothing_is_no_choice_where_a_call_is_needed() -> None:
    schema = step_schema(Offer(ALL_TOOLS), optional=False)
    assert not jsonschema.Draft202012Validator(schema).is_valid({"call": {"tool": "none", "args": {}}})
