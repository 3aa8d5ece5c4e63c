"""A body being drawn: `TissueCanvas` knows the material of every voxel, and draws thin vessels softly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.body import CAVITY_X_MM, CAVITY_Y_MM, TRUNK_POWER
from r2seg_agent.phantom.materials import CODES
from r2seg_agent.phantom.patient import WARP_MARGIN_MM, Patient
from r2seg_agent.phantom.solids import Bounds, Solid
from r2seg_agent.phantom.texture import Axes, Lattice
from r2seg_agent.phantom.vessels import Branch

RIPPLES: tuple[tuple[float, float], ...] = ((34.0, 2.2), (13.0, 0.7))
"""Step and amplitude (mm) of the random fields that make surfaces irregular, besides the patient's slow warp."""


@dataclass(eq=False)
class TissueCanvas:
    """A grid (z, y, x): canonical coordinates of every voxel (warped), its class, material and grey value."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    axes_mm: Axes
    """Canonical coordinates along x, y, z before the warp."""
    labels: NDArray[np.uint8]
    hounsfield: FloatArray
    """Grey values of `values` (material → HU or MR signal)."""
    tissue: NDArray[np.uint8]
    """Material codes; 0 is outside the body."""
    class_names: dict[int, str]
    values: Mapping[str, float]
    radius: FloatArray
    """1 on the surface of the trunk's cavity, growing outward."""
    seed: int
    margin_mm: tuple[float, float, float]
    """How far (x, y, z) the warp moves any point of this grid at most."""

    @classmethod
    def of_view(
        cls,
        shape: Index3,
        spacing_mm: Float3,
        origin_zyx_mm: Float3,
        patient: Patient,
        *,
        values: Mapping[str, float],
        seed: int,
    ) -> TissueCanvas:
        """An empty canvas over a grid whose first voxel lies at `origin_zyx_mm` in the patient frame."""
        from totalsegmentator.map_to_binary import class_map

        xs, ys, zs = (
            (o + s * np.arange(n, dtype=np.float64)) / k
            for o, s, n, k in zip(origin_zyx_mm[::-1], spacing_mm[::-1], shape[::-1], patient.scale_xyz, strict=True)
        )
        axes: Axes = (xs, ys, zs)
        x, y, z = (_moved(axes, axis, patient.warp_mm, seed) for axis in range(3))
        margin = (
            float(np.abs(x - xs.astype(np.float32)).max()),
            float(np.abs(y - ys.astype(np.float32)[:, None]).max()),
            float(np.abs(z - zs.astype(np.float32)[:, None, None]).max()),
        )
        level = np.abs(x / CAVITY_X_MM) ** TRUNK_POWER + np.abs(y / CAVITY_Y_MM) ** TRUNK_POWER
        return cls(
            x=x,
            y=y,
            z=z,
            axes_mm=axes,
            labels=np.zeros(shape, dtype=np.uint8),
            hounsfield=np.full(shape, values["air"], dtype=np.float32),
            tissue=np.zeros(shape, dtype=np.uint8),
            class_names={int(k): str(v) for k, v in class_map["total"].items()},
            values=values,
            radius=(level ** (1 / TRUNK_POWER)).astype(np.float32),
            seed=seed,
            margin_mm=margin,
        )

    def noise(self, number: int, step_mm: float) -> FloatArray:
        """The patient's random field `number` over the grid (z, y, x): mean 0, standard deviation 1."""
        return Lattice((self.seed, number), step_mm).on(self.axes_mm)

    def rng(self, number: int) -> np.random.Generator:
        """Randomness for part `number`: no part's draws depend on what else is in view."""
        return np.random.default_rng((self.seed, 200 + number))

    def material(self, *names: str) -> Mask:
        """Voxels (z, y, x) of these materials."""
        found: Mask = np.isin(self.tissue, [CODES[name] for name in names])
        return found

    def of_class(self, name: str) -> Mask:
        """Voxels (z, y, x) of a class."""
        found: Mask = self.labels == self._index(name)
        return found

    def fill(self, mask: Mask, label: str | None, material: str) -> None:
        """Give the voxels of `mask` (z, y, x) a material, and a class ("" none, None: the one they have)."""
        if label is not None:
            self.labels[mask] = self._index(label)
        self.hounsfield[mask] = self.values[material]
        self.tissue[mask] = CODES[material]

    def put(
        self,
        label: str | None,
        material: str,
        part: tuple[Bounds, Solid],
        *,
        spare: Sequence[str] = (),
        only: Sequence[str] = (),
        within: float | None = 0.985,
    ) -> None:
        """Fill a solid inside the body; `spare` and `only` name classes, `within` is the largest cavity radius."""
        at = self._around(part[0])
        if at is None:
            return
        mask = part[1](self.x[at], self.y[at], self.z[at]) & (self.tissue[at] > 0)
        if within is not None:
            mask &= self.radius[at] < within
        if spare:
            mask &= ~np.isin(self.labels[at], [self._index(name) for name in spare])
        if only:
            mask &= np.isin(self.labels[at], [self._index(name) for name in only])
        if label is not None:
            self.labels[at][mask] = self._index(label)
        self.hounsfield[at][mask] = self.values[material]
        self.tissue[at][mask] = CODES[material]

    def tubes(
        self,
        label: str | None,
        material: str,
        parts: Iterable[tuple[Bounds, Solid]],
        *,
        spare: Sequence[str] = (),
        within: float | None = 0.985,
    ) -> None:
        """`put` for every piece of a tube."""
        for part in parts:
            self.put(label, material, part, spare=spare, within=within)

    def vessels(
        self, material: str, branches: Iterable[Branch], *, only: Mask | None = None, grow_mm: float = 0.0
    ) -> None:
        """Draw branches with soft edges, so that those thinner than a voxel show as faintly as they would in a scan.

        Classes stay. `only` (z, y, x) limits where; `grow_mm` is added to each radius.
        """
        if only is not None and not only.any():
            return
        cover = np.zeros(self.labels.shape, dtype=np.float32)
        ranges = [(a[0] - m, a[-1] + m) for a, m in zip(self.axes_mm, self.margin_mm, strict=True)]
        voxel = float(np.mean([np.abs(np.diff(a)).mean() if len(a) > 1 else 1.0 for a in self.axes_mm]))
        for branch in branches:
            a, b = np.asarray(branch.start), np.asarray(branch.end)
            reach = max(branch.start_mm, branch.end_mm) + grow_mm + voxel
            low, high = np.minimum(a, b) - reach, np.maximum(a, b) + reach
            if any(h < r[0] or q > r[1] for q, h, r in zip(low, high, ranges, strict=True)):
                continue
            at = self._around(((low[0], low[1], low[2]), (high[0], high[1], high[2])))
            if at is None:
                continue
            d = b - a
            ux, uy, uz = self.x[at] - a[0], self.y[at] - a[1], self.z[at] - a[2]
            t = np.clip((ux * d[0] + uy * d[1] + uz * d[2]) / max(float(d @ d), 1e-6), 0.0, 1.0)
            distance = np.sqrt((ux - t * d[0]) ** 2 + (uy - t * d[1]) ** 2 + (uz - t * d[2]) ** 2)
            radius = branch.start_mm + t * (branch.end_mm - branch.start_mm) + grow_mm
            soft = np.clip((radius - distance) / voxel + 0.5, 0.0, 1.0) * np.minimum(1.0, (2 * radius / voxel) ** 2)
            np.maximum(cover[at], soft, out=cover[at])
        cover[self.tissue == 0] = 0.0
        if only is not None:
            cover[~only] = 0.0
        touched = cover > 0
        share = cover[touched]
        self.hounsfield[touched] += share * (self.values[material] - self.hounsfield[touched])
        self.tissue[cover > 0.5] = CODES[material]

    def _index(self, label: str) -> int:
        if not label:
            return 0
        return next(value for value, name in self.class_names.items() if name == label)

    def _around(self, bounds: Bounds) -> tuple[slice, slice, slice] | None:
        slices = []
        for axis, margin, low, high in zip(self.axes_mm, self.margin_mm, bounds[0], bounds[1], strict=True):
            first, last = np.searchsorted(axis, (low - margin, high + margin))
            if first == last:
                return None
            slices.append(slice(int(first), int(last)))
        return slices[2], slices[1], slices[0]


def _moved(axes: Axes, axis: int, waves: NDArray[np.float64], seed: int) -> FloatArray:
    """A coordinate (z, y, x) with the patient's slow sine waves and the ripples added."""
    x, y, z = (a.astype(np.float32) for a in axes)
    shift = np.zeros((len(z), len(y), len(x)), dtype=np.float32)
    for amplitude, kx, ky, kz, phase in waves[:, axis].astype(np.float32):
        # sin(a + b + c) as the imaginary part of a product of three vectors
        plane = np.exp(1j * (kz * z + phase))[:, None] * np.exp(1j * ky * y)[None]
        shift += amplitude * (plane.imag[:, :, None] * np.cos(kx * x) + plane.real[:, :, None] * np.sin(kx * x)).astype(
            np.float32
        )
    for number, (step, amplitude) in enumerate(RIPPLES):
        shift += np.float32(amplitude) * Lattice((seed, 90 + 3 * number + axis), step).on(axes)
    own = axes[axis].astype(np.float32)
    own = own[:, None, None] if axis == 2 else (own[None, :, None] if axis == 1 else own[None, None, :])
    moved: FloatArray = own + np.clip(shift, -WARP_MARGIN_MM, WARP_MARGIN_MM)
    return moved
