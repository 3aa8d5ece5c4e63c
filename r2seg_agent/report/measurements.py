"""Size, grey values and place of one finding."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.geometry import Box, bounding_box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.method.models import Measurements
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.diameters import in_plane_diameters
from r2seg_agent.report.place import place
from r2seg_agent.report.planes import axial_axis


def measure(mask: Mask, box: Box, volume: Volume, anchors: AnchorSet | None, plan: AnatomyPlan) -> Measurements:
    """Measure the voxels `mask` (z, y, x), which covers `box` of the grid of `volume`.

    Volume is the voxel count times the voxel's volume (one pixel deep 1 mm where the thickness is unknown; `area`
    is then the figure to read). The centroid is the mean voxel position. Grey values: mean and population standard
    deviation, computed in float64. Diameters: see `in_plane_diameters`. Raises `ValueError` for an empty mask or
    one whose shape is not the box's.
    """
    if mask.shape != box.shape:
        raise ValueError(f"mask {mask.shape} does not cover its box {box.shape} (z, y, x)")
    tight = bounding_box(mask)
    if tight is None:
        raise ValueError("an empty mask cannot be measured")
    mask, box = mask[tight.slices], tight.shifted(box.start)
    geometry = volume.geometry
    values = volume.array[box.slices][mask].astype(np.float64)
    centroid = np.argwhere(mask).mean(axis=0) + np.asarray(box.start)
    centre_lps = geometry.to_lps_mm(centroid)
    slice_axis = axial_axis(geometry)
    diameters = in_plane_diameters(mask, geometry.spacing_mm, slice_axis)
    n_voxels = int(mask.sum())
    _, dy, dx = geometry.spacing_mm
    return Measurements(
        centroid_lps_mm=(float(centre_lps[0]), float(centre_lps[1]), float(centre_lps[2])),
        centroid_zyx=(float(centroid[0]), float(centroid[1]), float(centroid[2])),
        box=box,
        place=place(mask, box, volume, anchors, plan),
        volume_ml=n_voxels * geometry.voxel_volume_mm3 / 1000.0,
        longest_diameter=diameters.longest,
        perpendicular_diameter=diameters.perpendicular,
        diameter_slice=diameters.slice_index + box.start[slice_axis],
        length_unit="px" if geometry.known_spacing == "none" else "mm",
        mean_intensity=float(values.mean()),
        sd_intensity=float(values.std()),
        intensity_unit=volume.unit,
        area=n_voxels * dy * dx if geometry.is_2d else None,
    )
