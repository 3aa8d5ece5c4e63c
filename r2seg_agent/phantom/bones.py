"""The skeleton: a cortical shell round spongy bone."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.body import CAVITY_Y_MM, SIDES, apex, disc, front, rib_points, vertebra
from r2seg_agent.phantom.patient import SPINE_Y_MM, VERTEBRA_Z_MM
from r2seg_agent.phantom.shapes import tube_of
from r2seg_agent.phantom.solids import Bounds, Point, Solid, ellipsoid
from r2seg_agent.phantom.tissues import TissueCanvas


def draw_bones(canvas: TissueCanvas) -> None:
    """Spine with discs and cord, ribs with their cartilage, sternum, shoulder girdle."""
    _spine(canvas)
    for number in range(1, 13):
        for name, side in SIDES:
            _rib(canvas, number, name, side)
    outer, inner = _sternum(7.0), _sternum(4.5)
    around: Bounds = ((-19, -100, 95), (19, -40, 248))
    canvas.put("sternum", "cortical_bone", (around, outer), within=None)
    canvas.put("sternum", "spongy_bone", (around, inner), within=None)
    for name, side in SIDES:
        line: list[Point] = [(side * 20, -52, 258), (side * 60, -52, 268), (side * 115, -12, 284)]
        canvas.tubes(f"clavicula_{name}", "cortical_bone", tube_of(line, [7, 6, 6]), within=None)
        canvas.tubes(f"clavicula_{name}", "spongy_bone", tube_of(line, [4.5, 3.5, 3.5]), within=None)
        blade = ellipsoid((side * 92, 80, 232), (36, 6, 48))
        canvas.put(f"scapula_{name}", "cortical_bone", blade, within=None)
        canvas.put(f"scapula_{name}", "spongy_bone", ellipsoid((side * 92, 80, 232), (33, 3, 45)), within=None)


def _rib(canvas: TissueCanvas, number: int, name: str, side: float) -> None:
    points = rib_points(number, side)
    label, spare = f"rib_{name}_{number}", (f"vertebrae_T{number}",)
    canvas.tubes(label, "cortical_bone", tube_of(points, [5.2] * len(points)), spare=spare, within=None)
    canvas.tubes(label, "spongy_bone", tube_of(points, [3.3] * len(points)), spare=spare, within=None)
    if number <= 8:
        end: Point = (side * 16, -front(points[-1][2] + 18) - 3, points[-1][2] + 18)
        canvas.tubes("costal_cartilages", "cartilage", tube_of([points[-1], end], [5.5, 5.5]), within=None)


def _sternum(half_mm: float) -> Solid:
    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        depth = np.abs(y + CAVITY_Y_MM * apex(z) + 5)
        found: Mask = (np.abs(x) < 12 + half_mm) & (depth < half_mm) & (z > 95) & (z < 248)
        return found

    return solid


def _spine(canvas: TissueCanvas) -> None:
    heights = list(VERTEBRA_Z_MM.values())
    for index, (name, z0) in enumerate(VERTEBRA_Z_MM.items()):
        pitch = (heights[index + 1] - z0) if index + 1 < len(heights) else 18.0
        size = float(np.interp(z0, [-140, 60, 300], [1.12, 0.95, 0.68]))
        around: Bounds = ((-40, SPINE_Y_MM - 25, z0 - pitch), (40, 112, z0 + pitch))
        label = f"vertebrae_{name}"
        canvas.put("", "disc", (around, disc(z0, pitch, size)), within=None)
        canvas.put(label, "cortical_bone", (around, vertebra(z0, pitch, size)), within=None)
        canvas.put(label, "spongy_bone", (around, _body(z0, pitch, size)), within=None)
    cord: list[Point] = [(0, SPINE_Y_MM + 25, -150), (0, SPINE_Y_MM + 22, 60), (0, SPINE_Y_MM + 19, 320)]
    canvas.tubes("", "fluid", tube_of(cord, [8.5] * 3), within=None)
    canvas.tubes("spinal_cord", "cord", tube_of(cord, [6.5] * 3), within=None)


def _body(z0: float, pitch: float, size: float) -> Solid:
    """The spongy inside of a vertebral body and of its spinous process."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        level = (x / (21 * size - 1.8)) ** 2 + ((y - SPINE_Y_MM) / (16 * size - 1.8)) ** 2
        body = (level < 1) & (np.abs(z - z0) < 0.41 * pitch - 1.3)
        canal_y = SPINE_Y_MM + 16 * size + 8
        tip = (np.abs(x) < 3.2) & (y > canal_y + 13) & (y < canal_y + 24) & (np.abs(z - z0 + 6) < 0.3 * pitch - 1.8)
        found: Mask = body | tip
        return found

    return solid
