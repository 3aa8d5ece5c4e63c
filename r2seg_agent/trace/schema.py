"""The JSON schema of one line of `trace.jsonl`: `python -m r2seg_agent.trace.schema docs/develop/trace.schema.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import JsonValue, TypeAdapter
from pydantic.json_schema import models_json_schema

from r2seg_agent.files import write_text_atomic
from r2seg_agent.trace.events import TRACE_SCHEMA_VERSION, Event
from r2seg_agent.trace.payloads import PAYLOADS

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"
_TREE: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def trace_schema() -> dict[str, JsonValue]:
    """Draft 2020-12: the fields of an `Event`, and by `kind` what stands in its `data`."""
    models = [(model, "serialization") for model in PAYLOADS.values()]
    keys, shared = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    by_kind = [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"data": keys[(model, "serialization")]}},
        }
        for kind, model in PAYLOADS.items()
    ]
    event = Event.model_json_schema(mode="serialization")
    event["properties"]["schema_version"] = {"const": TRACE_SCHEMA_VERSION}
    return _TREE.validate_python(
        {"$schema": SCHEMA_ID, **event, "required": sorted(event["properties"]), "allOf": by_kind, **shared}
    )


def trace_schema_text() -> str:
    """What `docs/develop/trace.schema.json` must hold."""
    return json.dumps(trace_schema(), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text_atomic(Path(sys.argv[1]), trace_schema_text())
