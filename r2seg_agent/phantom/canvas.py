"""How organs are drawn on a grid: `PhantomCanvas`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.solids import Bounds, Solid

WARP_MARGIN_MM = 14.0
"""How far the random warp may move a surface."""
T1_LIKE: dict[str, float] = {
    "background": 10, "fat": 900, "muscle": 330, "lung": 40, "liver": 470, "spleen": 300, "kidney_left": 320,
    "kidney_right": 320, "pancreas": 430, "stomach": 180, "gallbladder": 150, "heart": 240, "aorta": 130,
    "spinal_cord": 300,
}  # fmt: skip
"""Grey values of the MR-like contrast (ours, T1-like); bones 260, other organs 280."""


@dataclass(eq=False)
class PhantomCanvas:
    """A grid being drawn on: canonical coordinates of every voxel (warped), their labels and their HU."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    axes_mm: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    labels: NDArray[np.uint8]
    hounsfield: FloatArray
    tissue: NDArray[np.uint8]
    """0 air, 1 fat, 2 muscle and other soft tissue, 3 bone, 4 lung: for the MR-like contrast."""
    class_names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_grid(cls, shape: Index3, spacing_mm: Float3, origin_zyx_mm: Float3, patient: Patient) -> PhantomCanvas:
        """An empty canvas over a grid whose first voxel lies at `origin_zyx_mm` in the patient frame."""
        from totalsegmentator.map_to_binary import class_map

        scale_zyx = patient.scale_xyz[::-1]
        zs, ys, xs = (
            (o + s * np.arange(n, dtype=np.float64)) / k
            for o, s, n, k in zip(origin_zyx_mm, spacing_mm, shape, scale_zyx, strict=True)
        )
        z, y, x = np.meshgrid(zs, ys, xs, indexing="ij", sparse=True)
        moved = [np.broadcast_to(m, shape).astype(np.float32) for m in _warp(x, y, z, patient.warp_mm)]
        return cls(
            x=moved[0],
            y=moved[1],
            z=moved[2],
            axes_mm=(xs, ys, zs),
            labels=np.zeros(shape, dtype=np.uint8),
            hounsfield=np.full(shape, -1000.0, dtype=np.float32),
            tissue=np.zeros(shape, dtype=np.uint8),
            class_names={int(k): str(v) for k, v in class_map["total"].items()},
        )

    def paint(
        self, name: str, hu: float, bounds: Bounds, solid: Solid, *, tissue: int = 2, spare: tuple[str, ...] = ()
    ) -> None:
        """Give the voxels inside `solid` the class `name` ("" none) and `hu`, except those of the classes `spare`."""
        slices = []
        for axis, low, high in zip(self.axes_mm, bounds[0], bounds[1], strict=True):
            inside = np.flatnonzero((axis >= low - WARP_MARGIN_MM) & (axis <= high + WARP_MARGIN_MM))
            if inside.size == 0:
                return
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        at = (slices[2], slices[1], slices[0])
        mask = solid(self.x[at], self.y[at], self.z[at]) & (self.tissue[at] > 0)
        values = {v: k for k, v in self.class_names.items()}
        if spare:
            mask &= ~np.isin(self.labels[at], [values[s] for s in spare])
        self.labels[at][mask] = values[name] if name else 0
        self.hounsfield[at][mask] = hu
        self.tissue[at][mask] = tissue

    def t1_like(self, rng: np.random.Generator) -> FloatArray:
        """The same patient in an MR-like contrast: class and tissue grey values under a smooth bias field."""
        by_tissue = np.array([T1_LIKE["background"], T1_LIKE["fat"], T1_LIKE["muscle"], 260.0, T1_LIKE["lung"]])
        grey = by_tissue[self.tissue]
        for value, name in self.class_names.items():
            if name in T1_LIKE:
                grey[self.labels == value] = T1_LIKE[name]
        slope = rng.uniform(-0.001, 0.001, 3)
        bias = np.exp(slope[0] * self.x + slope[1] * self.y + slope[2] * (self.z - 80))
        image: FloatArray = (grey * bias).astype(np.float32)
        return image


def _warp(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], waves: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Each coordinate plus a few sine waves of about 2 mm: the same deformation at any spacing."""
    moved = []
    for axis, coordinate in enumerate((x, y, z)):
        shift = sum(a * np.sin(kx * x + ky * y + kz * z + phase) for a, kx, ky, kz, phase in waves[:, axis])
        moved.append(coordinate + np.clip(shift, -WARP_MARGIN_MM, WARP_MARGIN_MM))
    return moved
