"""A model's own words beside the answer: shown only when they cannot mislead."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from r2seg_agent.graphs.messages import request_message
from r2seg_agent.graphs.model_comment import MAX_WORDS, allowed_words
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools.state import SearchState, TargetState, Turn

PLAN = AnatomyPlan(
    target="liver_lesion",
    target_name="lesion of liver",
    site="liver",
    modality="CT",
    anchors=("liver",),
    prompt="lesion in liver CT",
)
IMAGE = ImageInfo(
    name="image-0",
    sha256="a" * 64,
    geometry=Geometry(shape=(2, 2, 2), spacing_mm=(1.0, 1.0, 1.0)),
    modality="CT",
    unit="HU",
)
HISTORY: list[AnyMessage] = [
    request_message("how big is it? is it a metastasis?", 1),
    AIMessage("", tool_calls=[{"name": "describe_findings", "args": {}, "id": "1"}]),
    ToolMessage('{"volume_ml": 5.784, "longest_diameter": 25.3}', tool_call_id="1", name="describe_findings"),
    ToolMessage("999 is refused", tool_call_id="2", name="locate_finding", status="error"),
]


def _search(*, found: bool = True) -> SearchState:
    findings = ArtifactRef(sha256="b" * 64, kind="json") if found else None
    target = TargetState(plan=PLAN, original_plan=PLAN, stage="measured", findings=findings)
    turn = Turn(index=1, text="how big is it? is it a metastasis?")
    return SearchState(request="", image=IMAGE, targets=(target,), turns=(turn,))


@pytest.mark.parametrize(
    "words",
    [
        "It lies in the liver.",
        "It measures 5.784 ml.",
        "It measures 5.8 ml, about 25 mm.",
        "Whether it is a metastasis, I cannot say.",
    ],
)
def test_what_the_tools_said_may_be_said_again(words: str) -> None:
    assert allowed_words(words, _search(), HISTORY) == words


@pytest.mark.parametrize(
    "words",
    [
        "It measures 5.9 ml.",
        "It measures 57.8 ml.",
        "It measures 999 mm.",
        "There are nineteen of them.",
        "There are eleven of them.",
        "It is twice as large.",
        "This is a hepatocellular carcinoma.",
        "It is benign, do not worry.",
        "Start chemotherapy today.",
        "There is no lesion.",
        "I see nothing.",
        "It is not a lesion.",
        "word " * MAX_WORDS,
        "",
    ],
)
def test_other_numbers_diagnoses_advice_and_denials_are_not_shown(words: str) -> None:
    assert allowed_words(words, _search(), HISTORY) == ""


def test_where_nothing_was_found_no_words_are_shown() -> None:
    assert allowed_words("It lies in the liver.", _search(found=False), HISTORY) == ""


def test_names_and_links_are_masked() -> None:
    assert "evil" not in allowed_words("See http://evil.example/x", _search(), HISTORY)
