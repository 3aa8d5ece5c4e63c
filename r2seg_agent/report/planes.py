"""Which index axis is which patient axis, and how a slice is turned for a reader (radiological convention).

Nothing is resampled: planes are the image's own index planes, each named after the anatomical plane it is closest
to. On an oblique image the orientation letters say so ("RA": right and a good part anterior).
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Geometry
from r2seg_agent.imaging.volume import Volume

PlaneName = Literal["axial", "coronal", "sagittal", "image"]

SECOND_LETTER_COSINE = 0.38
"""A second orientation letter is shown from about 22.5° of obliquity (cos 67.5°)."""

_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
"""(towards −, towards +) of the LPS axes x, y, z."""
_LEFT, _POSTERIOR, _SUPERIOR = 0, 1, 2


class PatientAxes(NamedTuple):
    """The index axis (0 = z, 1 = y, 2 = x of the array) that runs closest to each patient axis."""

    left: int
    posterior: int
    superior: int


class Plane(NamedTuple):
    """One index plane and how to show it: `array[index along slice_axis]`, rows down, columns to the right.

    `letters` are what the picture's left, right, top and bottom edges point to; empty where the image has no
    patient orientation (a picture).
    """

    name: PlaneName
    slice_axis: int
    row_axis: int
    col_axis: int
    flip_rows: bool
    flip_cols: bool
    letters: tuple[str, str, str, str]

    def take(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """The slice `index` of a (z, y, x) array as rows × columns, turned for display; a view, not a copy."""
        at: list[int | slice] = [slice(None)] * 3
        at[self.slice_axis] = index
        view = array[tuple(at)]
        return self.turn(view if self.row_axis < self.col_axis else view.T)

    def project(self, array: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The shadow of a (z, y, x) mask on this plane, as rows × columns, turned for display."""
        shadow = np.asarray(array.any(axis=self.slice_axis))
        return self.turn(shadow if self.row_axis < self.col_axis else shadow.T)

    def turn(self, rows_cols: NDArray[Any]) -> NDArray[Any]:
        """Flip a rows × columns array as this plane is shown."""
        return rows_cols[:: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1]


def is_picture(volume: Volume) -> bool:
    """True where the image has no patient orientation: PNG and the like, and single ultrasound or photo frames."""
    return volume.geometry.known_spacing == "none" or (
        volume.geometry.is_2d and volume.modality in ("US", "XR", "photo")
    )


def patient_axes(geometry: Geometry) -> PatientAxes:
    """Assign each patient axis its own index axis so that the absolute cosines sum highest.

    One assignment for all three, because at 45° two patient axes can share one closest index axis. Ties (exactly
    45°) go to the assignment closest to the usual axial scan.
    """
    cosines = np.abs(geometry.direction_matrix)[:, ::-1]  # rows: L, P, S; columns: index axes z, y, x
    usual_first = sorted(permutations(range(3)), key=lambda axes: axes != (2, 1, 0))
    best = max(usual_first, key=lambda axes: round(sum(float(cosines[p, a]) for p, a in enumerate(axes)), 6))
    return PatientAxes(*best)


def axial_axis(geometry: Geometry) -> int:
    """The index axis across axial slices: the one closest to superior–inferior; the only slice's axis in 2D."""
    return 0 if geometry.is_2d else patient_axes(geometry).superior


def planes(volume: Volume) -> tuple[Plane, ...]:
    """The planes to show: axial, coronal, sagittal, or the one plane of a 2D image.

    Radiological convention: axial and coronal with the patient's right on the left edge, sagittal facing left.
    """
    geometry = volume.geometry
    if is_picture(volume):
        return (Plane("image", 0, 1, 2, False, False, ("", "", "", "")),)
    axes = patient_axes(geometry)
    wanted: list[tuple[PlaneName, int, int, bool, int, bool]] = [
        # name, slice axis, rows run along, rows run towards +?, columns run along, columns run towards +?
        ("axial", axes.superior, axes.posterior, True, axes.left, True),
        ("coronal", axes.posterior, axes.superior, False, axes.left, True),
        ("sagittal", axes.left, axes.superior, False, axes.posterior, True),
    ]
    patient_axis = {axes.left: _LEFT, axes.posterior: _POSTERIOR, axes.superior: _SUPERIOR}
    found: list[Plane] = []
    for name, slice_axis, row_axis, rows_plus, col_axis, cols_plus in wanted:
        if geometry.is_2d and slice_axis != 0:
            continue
        row = _direction(geometry, row_axis)
        col = _direction(geometry, col_axis)
        flip_rows = (row[patient_axis[row_axis]] > 0) != rows_plus
        flip_cols = (col[patient_axis[col_axis]] > 0) != cols_plus
        down = -row if flip_rows else row
        right = -col if flip_cols else col
        letters = (orientation_letters(-right), orientation_letters(right), orientation_letters(-down))
        found.append(
            Plane(name, slice_axis, row_axis, col_axis, flip_rows, flip_cols, (*letters, orientation_letters(down)))
        )
    return tuple(found)


def orientation_letters(direction_lps: NDArray[np.float64] | Float3) -> str:
    """Where a unit vector in LPS points, largest part first: "L", or "LA" when well oblique."""
    vector = np.asarray(direction_lps, dtype=np.float64)
    order = sorted(range(3), key=lambda axis: (-round(abs(float(vector[axis])), 6), axis))
    letters = [_LETTERS[axis][int(vector[axis] > 0)] for axis in order]
    return "".join(
        letter
        for rank, (axis, letter) in enumerate(zip(order, letters, strict=True))
        if rank == 0 or abs(float(vector[axis])) >= SECOND_LETTER_COSINE
    )


def _direction(geometry: Geometry, index_axis: int) -> NDArray[np.float64]:
    column: NDArray[np.float64] = geometry.direction_matrix[:, 2 - index_axis]
    return column
