"""Real lesion-free tissue: organs of the demo scans, without any known lesion, cut into blocks that serve as cases.

Blocks of a handful of patients are no patients: they share a scanner, a protocol and a body. What they can show is how
real noise, vessels and edges behave; how patients differ they cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.geometry import Box, Float3, Geometry, bounding_box
from r2seg_agent.imaging.masks import read_label_map, read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom import implant_lesion
from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.segment.features import anchor_statistics
from studies.validity.volumes import Scene

BLOCK_MM = 24.0
"""Edge of a block: 57 fit the liver of one CT, and a 2 ml ball (16 mm) fits a block."""
MIN_FILL = 0.6
"""Least share of a block that is organ; the organ's own edge stays in."""
MARGIN_MM = 8.0
"""Around a block: the picture goes on there, so that features see what lies beyond; nothing is searched there."""
AWAY_MM = 15.0
"""Nothing nearer than this to a known lesion counts as lesion-free."""


class Tissue(NamedTuple):
    """An organ of a demo scan, searched as `request` asks; `organs` are label values, or sides for the lungs."""

    name: str
    scan: str
    organ: str
    request: str
    labels: tuple[int, ...] = ()


LIVER, LUNG, BRAIN = "find a liver lesion", "find a lung nodule", "find a brain tumor"
_MUSCLE = (80, 81, 82, 83, 86, 87, 88, 89)
"""Gluteus maximus and medius, autochthonous back muscle and iliopsoas, of both sides: TotalSegmentator's `total`."""

TISSUES: tuple[Tissue, ...] = (
    Tissue("liver A", "abdomen", "liver", LIVER, (5,)),
    Tissue("liver B", "abdomen-dicom", "liver", LIVER, (5,)),
    Tissue("lung 1", "lung1", "lung", LUNG),
    Tissue("lung 2", "lung2", "lung", LUNG),
    Tissue("lung 3", "pat1", "lung", LUNG),
    Tissue("lung 4", "pat2", "lung", LUNG),
    Tissue("lung 5", "pat3", "lung", LUNG),
    Tissue("lung 6", "pat4", "lung", LUNG),
    Tissue("brain 1", "brain1", "brain", BRAIN),
    Tissue("brain 2", "brain2", "brain", BRAIN),
)
"""Where a lesion is looked for, by organ: the other scans of the same organ are the other patients."""
DECOYS: tuple[Tissue, ...] = (
    Tissue("spleen A", "abdomen", "spleen", LIVER, (1,)),
    Tissue("kidneys A", "abdomen", "kidneys", LIVER, (2, 3)),
    Tissue("muscle A", "abdomen", "muscle", LIVER, _MUSCLE),
    Tissue("spleen B", "abdomen-dicom", "spleen", LIVER, (1,)),
    Tissue("left lung 1", "lung1", "lung_left", LUNG),
    Tissue("right lung 1", "lung1", "lung_right", LUNG),
    Tissue("left lung 2", "lung2", "lung_left", LUNG),
    Tissue("right lung 2", "lung2", "lung_right", LUNG),
)
"""Organs of the same scans where the lesion cannot be, or the other side; searched by the same request."""


@dataclass(frozen=True, eq=False)
class Block:
    """One block of an organ: `scene.organ` is the part that is searched, `scene.volume` it and a margin.

    `centre_mm` is the block's centre in the patient (x to the Left, y Posterior, z Superior), `sd` the robust standard
    deviation of the whole organ's grey values.
    """

    scene: Scene
    centre_mm: Float3
    sd: float


def plan_of(tissue: Tissue) -> AnatomyPlan:
    """The offline planner's plan for the tissue's request."""
    (plan,) = plan_request(tissue.request, "MR" if tissue.request == BRAIN else "CT").plans
    return plan


@lru_cache(maxsize=4)
def blocks_of(tissue: Tissue, size_mm: float = BLOCK_MM) -> tuple[Block, ...]:
    """Disjoint blocks on a regular grid over the organ, those filled to `MIN_FILL`."""
    volume, organ = _read(tissue)
    sd = anchor_statistics(volume, organ).mad
    geometry = volume.geometry
    margin = tuple(math.ceil(MARGIN_MM / s) for s in geometry.spacing_mm)
    blocks = []
    for box in cut(organ, geometry, size_mm):
        around = box.dilated((margin[0], margin[1], margin[2]), geometry.shape)
        inside = np.zeros(around.shape, dtype=bool)
        inside[box.within(around).slices] = organ[box.slices]
        part = Volume(
            array=np.ascontiguousarray(volume.array[around.slices]),
            geometry=geometry.crop(around),
            modality=volume.modality,
            unit=volume.unit,
            name=tissue.name,
        )
        middle = [(a + b - 1) / 2.0 for a, b in zip(box.start, box.stop, strict=True)]
        x, y, z = (float(c) for c in geometry.to_lps_mm((middle[0], middle[1], middle[2])))
        blocks.append(Block(Scene(volume=part, organ=inside), (x, y, z), sd))
    return tuple(blocks)


def cut(organ: Mask, geometry: Geometry, size_mm: float, min_fill: float = MIN_FILL) -> tuple[Box, ...]:
    """Disjoint boxes of about `size_mm` on each side (at least one voxel) that are organ for at least `min_fill`."""
    around = bounding_box(organ)
    if around is None:
        return ()
    nz, ny, nx = (max(1, round(size_mm / s)) for s in geometry.spacing_mm)
    starts = [range(a, b - n + 1, n) for a, b, n in zip(around.start, around.stop, (nz, ny, nx), strict=True)]
    boxes = (
        Box(start=(z, y, x), stop=(z + nz, y + ny, x + nx)) for z in starts[0] for y in starts[1] for x in starts[2]
    )
    return tuple(box for box in boxes if organ[box.slices].mean() >= min_fill)


def with_lesion(block: Block, *, volume_ml: float, cnr: float, sign: int, seed: int) -> Scene:
    """The block with a SYNTHETIC lesion of `cnr` standard deviations of the organ, brighter (1) or darker (−1)."""
    implant = implant_lesion(
        block.scene.volume,
        block.scene.organ,
        seed=seed,
        diameter_mm=2.0 * math.cbrt(3.0 * volume_ml * 1000.0 / (4.0 * math.pi)),
        contrast_hu=sign * cnr * block.sd,
    )
    return Scene(volume=implant.volume, organ=block.scene.organ, truth=implant.truth)


def _read(tissue: Tissue) -> tuple[Volume, Mask]:
    """The scan and the organ's voxels (z, y, x), away from known lesions."""
    data = fetch(tissue.scan)
    volume = read_image(data.image, modality=data.modality)
    if tissue.labels:
        organ = np.isin(read_label_map(data.image.parent / "organs.nii.gz", volume.geometry), tissue.labels)
    elif data.anchors is not None:
        organ = read_label_map(data.anchors.rpartition("=")[0], volume.geometry) > 0
    else:
        sides = ("lung_left", "lung_right") if tissue.organ == "lung" else (tissue.organ,)
        organ = HounsfieldSource().locate(volume, sides).mask(sides)
    if data.truth is not None:
        lesion = read_reference(data.truth, volume.geometry) > 0
        organ &= ndimage.distance_transform_edt(~lesion, sampling=volume.geometry.spacing_mm) > AWAY_MM
    return volume, np.asarray(organ, dtype=bool)
