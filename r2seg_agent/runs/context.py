"""The run-time context of a session: its checked inputs and options as the tools of the graph see them."""

from __future__ import annotations

import time

from r2seg_agent.progress import Progress
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import Prepared
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunKind
from r2seg_agent.tools.context import Budget, Context
from r2seg_agent.trace.recorder import Recorder


def make_context(
    kind: RunKind, options: RunOptions, prepared: Prepared, store: ArtifactStore, recorder: Recorder, progress: Progress
) -> Context:
    """What the tools of one run work with; a time budget begins now."""
    return Context(
        volume=prepared.volume,
        image=prepared.image,
        anchor_source=prepared.source,
        segmenter=prepared.segmenter,
        reject=prepared.reject,
        gates=prepared.gates,
        parts=prepared.parts,
        calibration=prepared.calibration,
        store=store,
        recorder=recorder,
        seed=options.seed,
        budget=Budget(
            rounds=prepared.rounds,
            # Where candidates are ranked, the less certain ones are listed; other tissue would only add more.
            automatic_rounds=1 if prepared.reject.mode == "reference" else None,
            seconds=options.seconds,
            tokens=options.tokens,
            model_calls=options.model_calls,
        ),
        deadline=None if options.seconds is None else time.monotonic() + options.seconds,
        progress=progress,
        converse=kind == "chat",
        interactive=options.interactive,
        share_images=options.share_images,
    )
