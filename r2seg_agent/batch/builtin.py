"""`r2seg calibrate --builtin SCAN`: lesion-free phantoms like one scan, for those who have no lesion-free patients."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from r2seg_agent.batch.match_phantoms import Matched, match_cohort, organ_of
from r2seg_agent.errors import InputError
from r2seg_agent.phantom.cohort import Cohort
from r2seg_agent.phantom.files import write_cohort
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.choose import AutoSource, anchor_source
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import read_volume

CASES: Final = 99
"""Phantoms of a calibration: p-values down to 0.01, and the level of a single calibration is at most 0.09 at 0.05."""
FOLDER: Final = "phantoms"


class PhantomsLike(NamedTuple):
    """The table of the phantoms' files, the options by which they are searched as the scan would be, and what was
    measured."""

    table: Path
    options: RunOptions
    matched: Matched


def phantoms_like(
    image: str, target: str, options: RunOptions, *, n: int = CASES, workers: int = 1, progress: Progress = silent
) -> PhantomsLike:
    """Draw `n` SYNTHETIC lesion-free patients like the CT `image`, into `options.workspace`; what is there is kept.

    They are like it in voxels, noise, grey value and contrast phase of the organ that `target` lies in; the organ is
    located by `options.anchors`. Raises `InputError` where phantoms have no such organ, where the image is no CT volume
    in HU, and for anchors by a model, which was not trained on phantoms.
    """
    volume = read_volume(image, options).volume
    source = anchor_source(options.anchors)
    planned = plan_request(
        target,
        volume.modality,
        anchors_available=source.organs(volume.modality),
        any_modality=True,
        hounsfield=volume.unit == "HU",
    )
    if len(planned.plans) != 1:
        asked = planned.clarification
        why = f"it names {len(planned.plans)} targets" if asked is None else asked.question
        raise InputError(f"`--target {target}`: {why}", 'Name one target: "liver lesion".')
    anchors = planned.plans[0].anchors
    organ = organ_of(anchors)
    source.check(volume.modality, anchors)
    settled = source.settled if isinstance(source, AutoSource) else options.anchors
    if not isinstance(source, MaskSource) and settled != "hounsfield":
        raise InputError(
            f"`--anchors {settled}` is a model that was not trained on phantoms",
            "Give organ masks (`--anchors organs.nii.gz`) or `--anchors hounsfield`, and the same with `r2seg find`.",
        )
    located = source.locate(volume, anchors, progress)
    matched = match_cohort(volume, located.mask(anchors), organ, seed=options.seed)
    folder = options.workspace / FOLDER / _name(matched.cohort)
    table = write_cohort(matched.cohort, n, folder, workers=workers, progress=progress).cases_csv
    # the phantoms' own masks stand in their table, which `auto` reads
    own = "auto" if isinstance(source, MaskSource) else settled
    return PhantomsLike(table, options.model_copy(update={"anchors": own, "modality": "CT"}), matched)


def _name(cohort: Cohort) -> str:
    return hashlib.sha256(cohort.model_dump_json().encode()).hexdigest()[:12]
