"""Tools of conversations: where a finding is, why a candidate fell, what a slice shows; wrong ids name the legal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.phantoms import liver_phantom
from langchain.tools import ToolRuntime
from langchain_core.messages import HumanMessage
from langgraph.types import Command
from PIL import Image

from r2seg_agent.graphs.graph import build_search_graph
from r2seg_agent.graphs.planners.offline import OfflinePlanner
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools import explain_candidate, locate_finding, show_slices, widen_search
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import all_findings
from r2seg_agent.tools.state import GraphState, SearchState, dump_search, load_search
from r2seg_agent.trace.recorder import Recorder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ToolRuntime[Any, Any]:
    """The runtime of a search that found a liver lesion."""
    folder = tmp_path_factory.mktemp("finished")
    phantom = liver_phantom()
    write_label_map(folder / "organs.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    image = ImageInfo(
        name="phantom",
        sha256=volume_sha256(phantom.volume),
        geometry=phantom.volume.geometry,
        modality="CT",
        unit="HU",
        synthetic=True,
    )
    context = Context(
        volume=phantom.volume,
        image=image,
        anchor_source=MaskSource(str(folder / "organs.nii.gz")),
        segmenter=ContrastSegmenter(),
        reject=RejectSettings(),
        gates=GateSettings(),
        store=ArtifactStore(folder / "artifacts"),
        recorder=Recorder(folder / "trace.jsonl"),
        seed=0,
    )
    start = SearchState(request="find a liver lesion", image=image)
    state = build_search_graph(OfflinePlanner()).invoke(
        GraphState(messages=[HumanMessage("find a liver lesion")], search=dump_search(start), events=0), context=context
    )
    return ToolRuntime(
        state=state, context=context, config={}, stream_writer=lambda _: None, tool_call_id="call-1", store=None
    )


def _result(command: Command[Any]) -> str:
    assert isinstance(command.update, dict)
    return str(command.update["messages"][0].content)


def test_a_finding_is_located_in_patient_terms(finished: ToolRuntime[Any, Any]) -> None:
    text = _result(locate_finding.func(finding=1, runtime=finished))
    assert "liver" in text
    assert "centroid_lps_mm" in text


def test_every_candidate_can_be_explained(finished: ToolRuntime[Any, Any]) -> None:
    (first, *_) = all_findings(finished.context, load_search(finished.state))
    text = _result(explain_candidate.func(candidate=first.candidate.id, runtime=finished))
    assert '"decision":"survived"' in text
    assert "alpha" in text


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slice_becomes_a_picture_in_the_store(finished: ToolRuntime[Any, Any], plane: str) -> None:
    text = _result(show_slices.func(finding=1, plane=plane, runtime=finished))
    sha256 = text.split('"picture":"')[1][:64]
    path = finished.context.store.path(ArtifactRef(sha256=sha256, kind="picture").sha256, ".png")
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.std() > 10


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda r: locate_finding.func(finding=9, runtime=r), "findings: 1"),
        (lambda r: explain_candidate.func(candidate="t9r9c9", runtime=r), "t1r1c1"),
        (lambda r: show_slices.func(finding=7, plane="axial", runtime=r), "findings: 1"),
        (lambda r: widen_search.func(target=2, runtime=r), "there are 1 to 1"),
    ],
    ids=["finding", "candidate", "slice", "target"],
)
def test_a_wrong_id_or_moment_names_the_legal_ones(finished: ToolRuntime[Any, Any], call: Any, names: str) -> None:
    with pytest.raises(ToolUseError, match=names):
        call(finished)


def test_the_memory_of_a_run_stays_by_reference(finished: ToolRuntime[Any, Any], tmp_path: Path) -> None:
    text = str(finished.state["search"])
    assert len(text) < 100_000
    assert "array(" not in text
