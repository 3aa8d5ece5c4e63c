"""`Context`: what the tools of one run work with. Given to the graph at run time, never checkpointed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import R2SegError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.method.presets import WHOLE_METHOD, Parts
from r2seg_agent.method.round import SearchArea
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource, Settles
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import widen
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.identity import require_calibration, run_identity, set_up_differs
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.reject.vetoes import not_located
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools.state import SearchState, TargetState
from r2seg_agent.trace.recorder import Recorder


class Budget(Frozen):
    """What one run may use.

    Used-up `tool_calls` or `seconds` end it with the outcome `budget_exhausted`, used-up `rounds` with
    `no_lesion_survived`. Used-up `model_calls` or `tokens` end nothing: the referee takes the remaining steps without
    the model. The trace names each bound that was reached.
    """

    rounds: int = 3
    automatic_rounds: int | None = None
    """Rounds that a search takes by itself, more only where a user asks for them; None: all."""
    tool_calls: int = 200
    model_calls: int = 40
    tokens: int = 200_000
    seconds: float | None = None


@dataclass(eq=False)
class Context:
    """Everything a run needs besides its state: the scan in memory, sources, models, settings, store and trace.

    `parts`: which parts of the method take part. `converse`: after a search is done the planner may use the
    conversation tools. `interactive`: a person can answer questions. `share_images`: a model may see the pictures that
    it had drawn. `stop`: set from outside (Ctrl-C) to end the run after the current step. `deadline` is a `monotonic`
    time.
    """

    volume: Volume
    image: ImageInfo
    anchor_source: AnchorSource
    segmenter: Segmenter
    reject: RejectSettings
    gates: GateSettings
    store: ArtifactStore
    recorder: Recorder
    seed: int
    calibration: Calibration | None = None
    parts: Parts = WHOLE_METHOD
    given_plans: tuple[AnatomyPlan, ...] = ()
    budget: Budget = field(default_factory=Budget)
    progress: Progress = silent
    deadline: float | None = None
    converse: bool = False
    interactive: bool = False
    share_images: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    _labels: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = field(default_factory=dict)

    def reject_for(self, search: SearchState) -> RejectSettings:
        """The Reject settings, with the level that the user asked for in this conversation, and that of the promise
        where it is another one.
        """
        alpha, first = self.reject.alpha if search.alpha is None else search.alpha, self.first_alpha(search)
        return self.reject.model_copy(update={"alpha": alpha, "first_alpha": None if alpha == first else first})

    def first_alpha(self, search: SearchState) -> float:
        """The level in force when p-values were first seen: the last one that was chosen before, or the run's."""
        return next((level.alpha for level in reversed(search.levels) if not level.after_p), self.reject.alpha)

    def with_anchor_source(self, search: SearchState) -> SearchState:
        """`search`, with the source that `--anchors auto` has settled on."""
        source = self.anchor_source
        return search.model_copy(update={"anchor_source": source.settled}) if isinstance(source, Settles) else search

    def calibration_identity(self, plan: AnatomyPlan) -> CalibrationIdentity:
        """What a calibration must match to judge a search by `plan` (the one of the first round).

        The user's own masks match by kind: they differ from scan to scan by nature.
        """
        source = self.anchor_source.info
        available = (*plan.anchors, *self.findable_neighbours(plan))
        steps = (widen(plan, index, available=available) for index in range(1, self.budget.rounds + 1))
        return run_identity(
            self.segmenter.info,
            source.model_copy(update={"settings": {}}) if source.kind == "masks" else source,
            plan,
            self.reject,
            rounds=self.budget.rounds,
            round_anchors=[step.plan.anchors for step in steps if step is not None],
            preprocessing={"anchor_role": plan.anchor_role},
            gates={} if self.parts.gates == "none" else self.gates.model_dump(mode="json"),
            not_located=not_located(plan, self.anchor_source, self.volume.modality) if plan.not_inside else (),
        )

    def findable_neighbours(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """The plan's neighbours that the anchor source can give; they serve the last widening only, so one that it
        cannot give must not stop the search.
        """
        found = []
        for organ in plan.neighbours:
            try:
                self.anchor_source.check(self.volume.modality, (organ,))
            except R2SegError:
                continue
            if organ not in plan.anchors:
                found.append(organ)
        return tuple(found)

    def judged(self, plans: tuple[AnatomyPlan, ...]) -> tuple[AnatomyPlan, ...]:
        """Those of several plans that the calibration can judge; all without one, or where it can judge none."""
        if self.reject.mode != "conformal" or self.calibration is None or len(plans) < 2:
            return plans
        own = tuple(p for p in plans if not set_up_differs(self.calibration, self.calibration_identity(p)))
        return own or plans

    def check_calibration(self, plan: AnatomyPlan) -> None:
        """In conformal mode, before long work: raise `InputError` that says how the calibration differs."""
        if self.reject.mode == "conformal":
            require_calibration(self.reject, self.calibration, self.calibration_identity(plan))

    def area_of(self, target: TargetState) -> SearchArea:
        """Where the current round of `target` looks; its ROIs were built."""
        return SearchArea(
            volume=self.volume,
            anchors=self.anchors_of(target),
            plan=target.plan,
            own=target.original_plan.anchors,
            rois=target.rois,
        )

    def anchors_of(self, target: TargetState) -> AnchorSet | None:
        """The organs located for `target`; None where none was (before the search, or in the whole image)."""
        return None if target.anchors is None else self.anchor_set(target.anchors, dict(target.anchor_labels))

    def anchor_set(self, ref: ArtifactRef, labels: dict[str, tuple[int, ...]]) -> AnchorSet:
        """The stored anchors, memory-mapped once per run."""
        if ref.sha256 not in self._labels:
            self._labels[ref.sha256] = self.store.array(ref)
        geometry: Geometry = ref.geometry or self.volume.geometry
        return AnchorSet(labels=self._labels[ref.sha256], names=labels, geometry=geometry, info=self.anchor_source.info)
