"""Real runs on a phantom for the tests of traces: a search, a conversation, one with a model as the planner."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.tools import BaseTool

from helpers.phantoms import liver_phantom
from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.presets import WHOLE_METHOD
from r2seg_agent.reject.calibration import CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.scores import score_named
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindOptions, FindResult, open_chat, run_find
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.tools.context import Budget, Context
from r2seg_agent.trace.events import chain_sha256
from r2seg_agent.trace.recorder import read_trace
from r2seg_agent.trace.run import TracedRun, open_run


class ScriptedPlanner:
    """A model that answers by a script: a bad reply first, then one call."""

    name = "test:scripted"
    kind: PlannerKind = "model"

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """Asks for what is not there once, then plans."""
        self.asked += 1
        if self.asked == 1:
            return PlannerReply(
                call=None,
                text="On 2024-03-01 Mr. Doe had a lesion of 99 mm",
                problem="no call",
                call_format="none",
                tokens_in=11,
                tokens_out=5,
            )
        call = ToolCall(name="plan_search", args={"targets": ["liver lesion"]}, id="x")
        return PlannerReply(
            call=call, text="", call_format="native", tokens_in=21, tokens_out=7, cost_usd=0.0004, requests=1
        )


class Case:
    """A phantom with a liver lesion on disk: image and named organ masks."""

    def __init__(self, folder: Path) -> None:
        phantom = liver_phantom()
        self.image, self.organs = folder / "ct-of-john-doe.nii.gz", folder / "organs-john.nii.gz"
        write_itk(self.image, phantom.volume.array, phantom.volume.geometry)
        write_label_map(self.organs, phantom.labels, phantom.volume.geometry, names=phantom.class_names)
        self.changed = folder / "other.nii.gz"
        array = np.array(phantom.volume.array)
        array[0, 0, 0] += 1
        write_itk(self.changed, array, phantom.volume.geometry)

    def options(self, workspace: Path, **changes: object) -> FindOptions:
        """What all runs share."""
        values = {"anchors": str(self.organs), "segmenter": "contrast", "modality": "CT", "synthetic": True}
        return FindOptions.model_validate({**values, "reject": "paper", "workspace": workspace, **changes})

    def find(self, workspace: Path, request: str = "find a liver lesion", **changes: object) -> FindResult:
        """A search with the offline planner."""
        return run_find(request, str(self.image), self.options(workspace, **changes))

    def find_with_model(self, workspace: Path) -> FindResult:
        """A search with a scripted model."""
        options = self.options(workspace, planner="test:scripted")
        return run_find("find the lesion of the liver", str(self.image), options, planner=ScriptedPlanner())

    def find_by_calibration(
        self, workspace: Path, found: Report, file: Path, profiles: Sequence[ScanProfile | None] = (None,) * 39
    ) -> FindResult:
        """The search of `found` in conformal mode, by lesion-free cases made for exactly its set-up."""
        context = SimpleNamespace(
            anchor_source=(source := LoadedModels().anchor_source(str(self.organs))),
            volume=SimpleNamespace(modality="CT"),
            findable_neighbours=lambda plan: tuple(o for o in plan.neighbours if o in source.organs("CT")),
            segmenter=SimpleNamespace(info=found.segmenter),
            reject=RejectSettings(mode="conformal"),
            budget=Budget(),
            gates=GateSettings(),
            parts=WHOLE_METHOD,
        )
        identity = Context.calibration_identity(context, found.targets[0].plan)  # type: ignore[arg-type]
        top = score_named(RejectSettings().score)(found.findings[0].candidate.features, 0.0)
        cases = [
            CaseScores(case=f"case {i}", patient=f"p {i}", scores=(top * i / 40, 0.1), profile=profile)
            for i, profile in enumerate(profiles)
        ]
        save_calibration(build_calibration(identity, cases), file)
        return self.find(workspace, reject="conformal", calibration=file)

    def chat(self, workspace: Path, *messages: str) -> str:
        """A conversation with the offline planner; returns its id."""
        with open_chat(str(self.image), self.options(workspace), session_id="chat-test") as session:
            for message in messages:
                list(session.say(message))
            session.write()
            return session.id


def resealed(run: TracedRun) -> TracedRun:
    """The run with the hashes that trace and `run.json` hold of themselves made anew, as a patient forger would."""
    events = list(read_trace(run.folder.trace))
    last = max(n for n, event in enumerate(events) if event.kind == "run_finished")
    data = {**events[last].data, "chain": chain_sha256(events[:last])}
    events[last] = events[last].model_copy(update={"data": data})
    run.folder.trace.write_text("".join(f"{event.model_dump_json()}\n" for event in events), encoding="utf-8")
    run.folder.write_record(run.folder.record())
    return open_run(run.folder.workspace, run.id)


def copied(run: TracedRun, to: Path) -> TracedRun:
    """The run in a copy of its workspace, to be damaged."""
    shutil.copytree(run.folder.workspace, to)
    return open_run(to, run.id)
