"""The frozen model alone on a whole image: no anchors, no regions, no test, no gates. The baseline of docs/results.md.

What R²-Seg adds is read against this. The model gets what it would get without Reason: the whole image, the target's
grey window and prompt, and, since LiteMedSAM takes boxes, one box around each whole slice. Every component of its mask
counts as a finding.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import cc3d
import numpy as np

from r2seg_agent.atomic import write_bytes_atomic
from r2seg_agent.data.fetch import fetch
from r2seg_agent.errors import InputError
from r2seg_agent.evals.cases import Case, case_named
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.masks import read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.reason.offline import plan_request
from r2seg_agent.report.models import TruthEvaluation
from r2seg_agent.report.truth import evaluate
from r2seg_agent.segment.candidates import CONNECTIVITY, MIN_VOLUME_MM3, PROBABILITY_THRESHOLD
from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamVolumeSegmenter
from r2seg_agent.segment.protocol import Prompt, Segmenter
from r2seg_agent.segment.registry import segmenter as segmenter_named
from r2seg_agent.segment.search import diameters_mm
from r2seg_agent.segment.tta import with_flips


class Alone(Frozen):
    """Findings of the model alone; `truth` None where the scan has no reference."""

    findings: int
    truth: TruthEvaluation | None


def alone(volume: Volume, request: str, segmenter: Segmenter, reference: Path | None) -> Alone:
    """Ask `segmenter` about the whole image; components below `MIN_VOLUME_MM3` are dust and left out.

    Raises `InputError` for a request that names no target.
    """
    plans = plan_request(request, volume.modality, anchors_available=None).plans
    if not plans:
        raise InputError(f"`{request}` names no target")
    plan = plans[0]
    prompt = Prompt(
        text=plan.prompt,
        target=plan.target_name,
        site=plan.site,
        modality=plan.modality,
        window=plan.window,
        contrast=plan.expected_contrast,
        diameters_mm=diameters_mm(plan),
        concept=plan.target,
    )
    if isinstance(segmenter, LiteMedSamVolumeSegmenter):
        probability = _whole_slices(segmenter, volume, prompt)
    else:
        probability = with_flips(segmenter, volume, volume.geometry.full_box, [prompt])[0]
    dust = int(MIN_VOLUME_MM3 / volume.geometry.voxel_volume_mm3)
    labels = cc3d.connected_components(probability >= PROBABILITY_THRESHOLD, connectivity=CONNECTIVITY)
    sizes = np.bincount(labels.ravel())
    kept = [n for n in range(1, len(sizes)) if sizes[n] > dust]
    numbers = np.zeros(len(sizes), dtype=np.uint16)
    numbers[kept] = np.arange(1, len(kept) + 1)
    findings = numbers[labels]
    truth = None
    if reference is not None:
        truth = evaluate(findings, read_reference(str(reference), volume.geometry), volume.geometry)
    return Alone(findings=len(kept), truth=truth)


def _whole_slices(segmenter: LiteMedSamVolumeSegmenter, volume: Volume, prompt: Prompt) -> FloatArray:
    """Probabilities (z, y, x): each slice asked for by a box that holds all of it."""
    z, y, x = volume.geometry.shape
    out = np.zeros((z, y, x), dtype=np.float32)
    whole = dataclasses.replace(prompt, box=Box(start=(0, 0, 0), stop=(1, y, x)))
    for index in range(z):
        roi = Box(start=(index, 0, 0), stop=(index + 1, y, x))
        out[index] = segmenter.slices.segment(segmenter.slices.encode(volume, roi), [whole])[0, 0]
    return out


def run_case(case: Case, segmenter: str) -> Alone:
    """One demo scan."""
    scan = fetch(case.dataset)
    return alone(
        read_image(str(scan.image), modality=scan.modality), case.request, segmenter_named(segmenter), scan.truth
    )


def main() -> int:
    """One case in this process; the answer goes to `--out` as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--segmenter", default="lite-medsam")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = run_case(case_named(given.dataset), given.segmenter)
    write_bytes_atomic(given.out, found.model_dump_json(indent=2).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
