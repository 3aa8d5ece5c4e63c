"""Every event of real runs has the published shape, and the published shape is the one in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from helpers.traced_runs import Case

from r2seg_agent.errors import RunFailedError
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.payloads import check_payload
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.schema import trace_schema, trace_schema_text

DOCS = Path(__file__).parents[2] / "docs" / "develop"


def test_the_schema_in_the_docs_is_current() -> None:
    assert (DOCS / "trace.schema.json").read_text(encoding="utf-8") == trace_schema_text(), (
        "run python -m r2seg_agent.trace.schema docs/develop/trace.schema.json"
    )


def test_every_event_of_real_runs_is_valid_under_the_schema(runs: dict[str, TracedRun]) -> None:
    jsonschema.Draft202012Validator.check_schema(trace_schema())
    validator = jsonschema.Draft202012Validator(trace_schema())
    kinds = set()
    for run in runs.values():
        for line in run.folder.trace.read_text(encoding="utf-8").splitlines():
            validator.validate(json.loads(line))
        for event in run.events:
            check_payload(event)
            kinds.add(event.kind)
    assert kinds >= {"run_started", "user_message", "model_call", "tool_call", "tool_result", "artifact", "answer"}


@pytest.mark.parametrize(
    ("kind", "data", "where"),
    [
        ("tool_call", {"tool": "x", "args": {}, "taken_by": "nobody", "why": ""}, "taken_by"),
        ("artifact", {"role": "round", "sha256": "short", "kind": "json"}, "sha256"),
        ("answer", {"turn": 1, "outcome": "cured", "answer": ""}, "outcome"),
        ("warning", {"kind": "budget", "text": "", "more": 1}, "more"),
        ("warning", {"kind": "weather", "text": ""}, "kind"),
        ("tool_result", {"result": {}}, "line"),
    ],
)
def test_an_event_of_another_shape_is_refused(kind: str, data: dict[str, object], where: str) -> None:
    event = Event.model_validate({"seq": 7, "kind": kind, "step": "s", "data": data, "seconds": 0.0})
    with pytest.raises(RunFailedError, match=rf"event 7 \({kind}\) is not well-formed: {where}"):
        check_payload(event)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event.model_dump(mode="json"), trace_schema())


def test_no_trace_names_the_users_files_or_their_patient(runs: dict[str, TracedRun], case: Case) -> None:
    for run in runs.values():
        text = run.folder.trace.read_text(encoding="utf-8").lower()
        for secret in (r"john", r"\bdoe\b", re.escape(str(case.image.parent)), re.escape(str(Path.home())), "/tmp"):
            assert not re.search(secret, text), (run.id, secret)
