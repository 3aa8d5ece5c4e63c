"""Does the method forget organs, as a fine-tuned model does? Look at weights and organs before and after, bit by bit.

By construction it cannot: no weight is ever changed. That is shown, not assumed: the files of the weights are hashed
anew each time, and the organs of a few scans are located again, past every cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from r2seg_agent.batch.row import Job
from r2seg_agent.evals.ablation_models import OrganState, WeightsState
from r2seg_agent.files import cached_file_sha256, file_sha256
from r2seg_agent.imaging.identity import array_sha256, volume_sha256
from r2seg_agent.imaging.read import read_image
from r2seg_agent.method.presets import WHOLE_METHOD
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.prepare import modality_named, read_volume
from r2seg_agent.runs.settle_segmenter import plans_read_by_rules, settle_segmenter
from r2seg_agent.segment.anchor_sources import anchor_source
from r2seg_agent.segment.registry import segmenter
from r2seg_agent.segment.weights import list_weights, weights_path

SCANS = 3
"""Scans whose organs are located before and after, the first ones."""


def weights_state(jobs: Sequence[Job], scans: int = SCANS) -> WeightsState:
    """Hashes of the weights that `jobs` use, and the organs of their first `scans` scans, located now.

    Masks of the user's own are files that nothing here writes: nothing is located then. Raises what the anchor source
    raises.
    """
    cached_file_sha256.cache_clear()
    options = jobs[0].options
    source, info = anchor_source(options.anchors), segmenter(options.segmenter).info
    released = info.weights_sha256 is not None and info.name in {known.name for known in list_weights()}
    own = weights_path(info.name) if released else None
    organs = () if source.info.kind == "masks" else tuple(_organs(source, jobs[:scans]))
    return WeightsState(
        segmenter=info.name,
        segmenter_sha256=info.weights_sha256 if own is None else file_sha256(own),
        anchors=source.info.name,
        anchors_kind=source.info.kind,
        anchors_sha256=source.info.weights_sha256,
        organs=organs,
    )


def segmenter_of_all(jobs: Sequence[Job]) -> str:
    """What `--segmenter auto` means for all `jobs` together: the best for the first scan and all their targets."""
    first = jobs[0]
    read = read_volume(first.case.image, first.options)
    source, loaded = anchor_source(first.options.anchors), LoadedModels()
    requests = dict.fromkeys(job.request for job in jobs)
    plans = tuple(plan for request in requests for plan in plans_read_by_rules(request, read.volume, source))
    return settle_segmenter(read.volume, first.options, WHOLE_METHOD, loaded, plans).spec


def _organs(source: AnchorSource, jobs: Sequence[Job]) -> Iterator[OrganState]:
    for job in jobs:
        volume = read_image(job.case.image, series=job.options.series, modality=modality_named(job.options.modality))
        available = source.organs(volume.modality)
        plans = plan_request(
            job.request,
            volume.modality,
            anchors_available=available,
            any_modality=True,
            hounsfield=volume.unit == "HU",
        ).plans
        wanted = tuple(dict.fromkeys(organ for plan in plans for organ in plan.anchors))
        if not wanted:
            continue
        source.check(volume.modality, wanted)
        found = source.locate(volume, wanted)
        yield OrganState(
            scan=volume_sha256(volume),
            labels_sha256=array_sha256(found.labels, found.geometry, params=str(sorted(found.names.items()))),
            volumes_ml={name: round(ml, 6) for name, ml in sorted(found.volumes_ml().items()) if ml > 0},
        )
