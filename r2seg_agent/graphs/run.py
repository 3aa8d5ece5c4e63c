"""`run_search`: compile the graph, run it on one scan, gather what it stored into typed results."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from r2seg_agent.errors import RunFailedError
from r2seg_agent.graphs.answer import rounds_of
from r2seg_agent.graphs.offline import OfflinePlanner
from r2seg_agent.graphs.search import RECURSION_LIMIT, build_search_graph
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.report.models import ImageInfo, OutcomeKind, TargetReport
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.context import Budget, Context
from r2seg_agent.tools.measure_finding import load_findings
from r2seg_agent.tools.state import GraphState, SearchState, TargetState, dump_search, load_search
from r2seg_agent.trace.recorder import Recorder


@dataclass(frozen=True)
class SearchOutcome:
    """What the graph ended with. `anchors` are those of the first located target, for the overlay."""

    outcome: OutcomeKind
    answer: str
    targets: tuple[TargetReport, ...]
    question: str | None
    choices: tuple[str, ...]
    anchors: AnchorSet | None


def run_search(
    request: str,
    *,
    volume: Volume,
    image: ImageInfo,
    anchor_source: AnchorSource,
    segmenter: Segmenter,
    reject: RejectSettings,
    gates: GateSettings,
    store: ArtifactStore,
    recorder: Recorder,
    workspace: Path,
    run_id: str,
    seed: int,
    calibration: Calibration | None = None,
    plans: tuple[AnatomyPlan, ...] = (),
    rounds: int = 3,
    seconds: float | None = None,
    deadline: float | None = None,
    planner: BaseChatModel | None = None,
    progress: Progress = silent,
) -> SearchOutcome:
    """Run the search graph from the start; its checkpoints go to `checkpoints.sqlite` under the thread `run_id`."""
    context = Context(
        volume=volume,
        image=image,
        anchor_source=anchor_source,
        segmenter=segmenter,
        reject=reject,
        gates=gates,
        calibration=calibration,
        store=store,
        recorder=recorder,
        seed=seed,
        budget=Budget(rounds=rounds, seconds=seconds),
        deadline=deadline,
        progress=progress,
    )
    start = SearchState(
        request=request, image=image, targets=tuple(TargetState(plan=plan, original_plan=plan) for plan in plans)
    )
    for plan in plans:
        recorder.record("plan", "plan file", plan.model_dump(mode="json"))
    with checkpoints(workspace) as saver:
        saver.delete_thread(run_id)
        graph = build_search_graph(planner or OfflinePlanner(), checkpointer=saver)
        config: RunnableConfig = {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT}
        first = GraphState(messages=[HumanMessage(request, id="request")], search=dump_search(start))
        final = cast(GraphState, graph.invoke(first, config, context=context, durability="sync"))
    return _gather(load_search(final), context)


@contextmanager
def checkpoints(workspace: Path) -> Iterator[SqliteSaver]:
    """The workspace's checkpoint database."""
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(workspace / "checkpoints.sqlite", check_same_thread=False, timeout=30)
        saver = SqliteSaver(connection)
        saver.setup()
    except (sqlite3.Error, OSError) as error:
        raise RunFailedError(
            f"the workspace's checkpoint database cannot be opened: {error}",
            "Choose another folder with --workspace, or move the damaged `checkpoints.sqlite` away.",
        ) from error
    try:
        yield saver
    finally:
        connection.close()


def _gather(search: SearchState, context: Context) -> SearchOutcome:
    located = next((t for t in search.targets if t.anchors is not None), None)
    return SearchOutcome(
        outcome=search.outcome or "failed",
        answer=search.answer,
        targets=tuple(_target_report(target, context) for target in search.targets),
        question=search.question,
        choices=search.choices,
        anchors=None
        if located is None or located.anchors is None
        else context.anchor_set(located.anchors, dict(located.anchor_labels)),
    )


def _target_report(target: TargetState, context: Context) -> TargetReport:
    return TargetReport(
        plan=target.original_plan,
        outcome=target.outcome or "failed",
        answer=target.answer,
        anchors_ml=target.anchors_ml,
        in_view=tuple(sorted(name for name, ml in target.anchors_ml.items() if ml > 0)),
        rounds=rounds_of(target, context.store),
        findings=load_findings(context, target),
    )
