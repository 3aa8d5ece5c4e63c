"""Images with lesion and organ masks, read as a run reads them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from r2seg_agent.data.catalog import catalog, dataset
from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.masks import read_label_map, read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.method.round import prior_of, search_area
from r2seg_agent.reason.anatomy import canonical_organ
from r2seg_agent.reason.anchors.choose import anchor_source
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.runs.prepare import modality_named
from r2seg_agent.segment.regions.describe import Prior
from studies.cases import CASES, case_named

SMALL_PART = 0.1
"""Parts of a truth smaller than this share of its largest are counted with the whole only."""


@dataclass(frozen=True, eq=False)
class Case:
    """One image: `organ` and `truth` (every lesion voxel) are (z, y, x) on its grid; no truth: lesion-free."""

    name: str
    request: str
    patient: str
    licence: str
    volume: Volume
    organ: Mask
    truth: Mask
    prior: Prior

    @property
    def lesions(self) -> tuple[Mask, ...]:
        """The truth's parts."""
        labels: NDArray[Any] = cc3d.connected_components(self.truth, connectivity=26)
        sizes = np.bincount(labels.ravel())[1:]
        large = SMALL_PART * sizes.max(initial=0)
        return tuple(labels == k for k, size in enumerate(sizes.tolist(), start=1) if size >= large)


def rows_of(table: Path) -> tuple[dict[str, str], ...]:
    """The rows of a CSV with name, image, request, anchors (MASK=ORGAN), modality, truth, patient and licence.

    Paths are relative to the table.
    """
    with table.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def demo_rows() -> tuple[dict[str, str], ...]:
    """The demo scans, fetched where they are not here yet; organs as `make demo` locates them."""
    for case in CASES:
        fetch(case.dataset)
    return tuple({"dataset": case.dataset} for case in CASES)


def read_demo(name: str) -> Case:
    """A demo scan; its SYNTHETIC twins count as its patient's."""
    scan, case = fetch(name), case_named(name)
    volume = read_image(str(scan.image), modality=scan.modality)
    source = anchor_source(case.anchors or scan.anchors or "auto")
    planned = plan_request(case.request, volume.modality, any_modality=True, hounsfield=volume.unit == "HU")
    plan = planned.plans[0]
    anchors = source.locate(volume, plan.anchors)
    truth = np.zeros(volume.geometry.shape, dtype=bool)
    if scan.truth is not None:
        truth = read_reference(str(scan.truth), volume.geometry).astype(bool)
    return Case(
        name=name,
        request=case.request,
        patient=f"demo {name.partition('-')[0]}" if not name.startswith("slice") else "demo abdomen",
        licence=f"{dataset(name).package}: {catalog().packages[dataset(name).package].licence}",
        volume=volume,
        organ=search_area(volume, anchors, plan).mask_on_grid,
        truth=truth,
        prior=prior_of(plan, volume),
    )


def read_case(folder: Path, row: dict[str, str]) -> Case:
    """One row of the table, or of `demo_rows`."""
    if "dataset" in row:
        return read_demo(row["dataset"])
    volume = read_image(str(folder / row["image"]), modality=modality_named(row.get("modality") or None))
    mask, _, organ = row["anchors"].rpartition("=")
    named = canonical_organ(organ) or organ
    planned = plan_request(
        row["request"],
        volume.modality,
        anchors_available=frozenset({named}),
        any_modality=True,
        hounsfield=volume.unit == "HU",
    )
    if not planned.plans:
        raise ValueError(f"{row['name']}: `{row['request']}` cannot be planned: {planned.clarification}")
    return Case(
        name=row["name"],
        request=row["request"],
        patient=row["patient"],
        licence=row.get("licence", ""),
        volume=volume,
        organ=read_label_map(folder / mask, volume.geometry).astype(bool),
        truth=read_reference(str(folder / row["truth"]), volume.geometry).astype(bool),
        prior=prior_of(planned.plans[0], volume),
    )
