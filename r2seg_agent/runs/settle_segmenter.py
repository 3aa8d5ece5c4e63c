"""`--segmenter auto` for one run: what is known of its targets and what its options need, for `segment/auto.py`."""

from __future__ import annotations

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.method.presets import Parts
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.anchors.whole_image import NoAnchors
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.auto import Chosen, choose_segmenter


def settle_segmenter(
    volume: Volume,
    options: RunOptions,
    parts: Parts,
    loaded: LoadedModels,
    plans: tuple[AnatomyPlan, ...],
    request: str = "",
) -> Chosen:
    """What `--segmenter auto` means for this scan and these targets: the `plans` given, else those of the `request` as
    the rules read it, whoever plans. A request that the rules ask back leaves the targets open.
    """
    source = loaded.anchor_source(options.anchors) if parts.regions else NoAnchors()
    ranked = options.reject == "reference" or options.score == "region"
    calibration = None if options.calibration is None else loaded.calibration(options.calibration)
    return choose_segmenter(
        volume,
        plans or plans_read_by_rules(request, volume, source),
        loaded.segmenter,
        own_masks=not ranked and options.feature != "segmenter" and options.orientations == 1,
        calibrated=None if calibration is None else calibration.identity.segmenter,
    )


def plans_read_by_rules(request: str, volume: Volume, source: AnchorSource) -> tuple[AnatomyPlan, ...]:
    """The plans that the rules make of `request`; none for one that they ask back."""
    try:
        return plan_request(
            request,
            volume.modality,
            anchors_available=source.organs(volume.modality),
            any_modality=True,
            hounsfield=volume.unit == "HU",
        ).plans
    except InputError:  # no request yet, or one that the planner will refuse in its own words
        return ()
