"""`report.json` and `report.md` on disk, and the JSON schema of the former."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from r2seg_agent.files import write_text_atomic
from r2seg_agent.report.markdown import report_markdown
from r2seg_agent.report.models import Report

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


def write_report_json(report: Report, path: Path) -> None:
    """Write `report` as canonical JSON, atomically: sorted keys, two spaces, UTF-8, a final newline.

    Equal reports give equal bytes; `Report.model_validate_json` reads it back exactly.
    """
    write_text_atomic(path, report_json(report))


def report_json(report: Report) -> str:
    """The canonical JSON text of `report`. Floats are written shortest-exact, so nothing is lost or added."""
    return _canonical(json.loads(report.model_dump_json()))


def write_report_md(report: Report, path: Path, picture: str | None = "overlay.png") -> None:
    """Write `report` as Markdown, atomically; `picture` is the file beside it to link, None for none."""
    write_text_atomic(path, report_markdown(report, picture))


def report_schema() -> dict[str, JsonValue]:
    """The JSON schema (draft 2020-12) of `report.json`, made from the pydantic model."""
    schema = TypeAdapter(dict[str, JsonValue]).validate_python(Report.model_json_schema(mode="serialization"))
    return {"$schema": SCHEMA_ID, **schema}


def report_schema_text() -> str:
    """What `docs/develop/report.schema.json` must hold."""
    return _canonical(report_schema())


def _canonical(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
