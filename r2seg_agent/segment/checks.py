"""What must be right before long work: known targets, the channels of a case, the classes that are anchors."""

from __future__ import annotations

from r2seg_agent.imaging.colour import COLOURS
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.segment.folders.anchors import FolderAnchors
from r2seg_agent.segment.folders.channels import pick_channels
from r2seg_agent.segment.protocol import ChecksScan, KnowsTargets, NeedsChannels, Segmenter


def check_plan(segmenter: Segmenter, plan: AnatomyPlan) -> tuple[str, ...]:
    """Remarks where `segmenter` has named classes and none of them is exactly the plan's target; `InputError` where
    none answers for it.
    """
    return segmenter.check_plan(plan) if isinstance(segmenter, KnowsTargets) else ()


def check_scan(segmenter: Segmenter, volume: Volume) -> None:
    """Raise `InputError` for a scan that `segmenter` cannot look at, although its modality is right."""
    if isinstance(segmenter, ChecksScan):
        segmenter.check_scan(volume)


def check_channels(segmenter: Segmenter, volume: Volume) -> tuple[str, ...]:
    """Remarks on how the channels of `volume` are used; `InputError` names every channel that the model lacks."""
    needed = segmenter.channels if isinstance(segmenter, NeedsChannels) else ()
    name = segmenter.info.name
    if len(set(needed)) > 1:
        return pick_channels(volume, needed, name).remarks
    further = sorted(name for name in volume.channels if name not in COLOURS)  # of colours a caution speaks
    if further:
        given = ", ".join(further)
        return (f"Segmenter `{name}` looks at one image only: it cannot use the further channels ({given}).",)
    return ()


def check_anchors(source: AnchorSource, volume: Volume) -> tuple[str, ...]:
    """Remarks on anchors by a model folder: classes that are left out, and how the channels of `volume` are used.
    `InputError` names every channel that the model lacks. Other sources look at the scan alone.
    """
    if not isinstance(source, FolderAnchors):
        return ()
    several = len(set(source.channels)) > 1
    used = pick_channels(volume, source.channels, source.info.name).remarks if several else ()
    return (*source.remarks, *used)
