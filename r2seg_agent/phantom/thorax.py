"""The chest: lungs with arteries, veins and bronchi, the heart's chambers, great vessels, esophagus."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import Mask
from r2seg_agent.phantom.body import SIDES
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.shapes import THORAX, fissure, lung_solid, organ_ellipsoid, tube_of
from r2seg_agent.phantom.solids import Point, Solid
from r2seg_agent.phantom.tissues import TissueCanvas
from r2seg_agent.phantom.vessels import grow_tree, points_within

LUNG_ENDS = 340
"""Tips of each lung's arterial and venous tree."""
AORTA: tuple[Point, ...] = (
    (2, -14, 165), (-14, -24, 190), (-12, -24, 210), (2, -8, 229), (14, 14, 231), (24, 34, 212), (25, 38, 170),
    (22, 38, 110), (14, 28, 40), (9, 22, -20), (4, 22, -100),
)  # fmt: skip


def draw_thorax(canvas: TissueCanvas, patient: Patient) -> None:
    """Lungs first, then what grows into them, then the mediastinum."""
    for name, side in SIDES:
        lower, middle = f"lung_lower_lobe_{name}", f"lung_middle_lobe_{name}" if side < 0 else None
        canvas.put(lower, "lung", (THORAX, lung_solid(side, patient)), within=None)
        oblique, horizontal = fissure(side, patient)
        if middle is not None:
            canvas.put(middle, "lung", (THORAX, oblique), only=(lower,), within=None)
        canvas.put(
            f"lung_upper_lobe_{name}",
            "lung",
            (THORAX, oblique if middle is None else horizontal),
            only=(middle or lower,),
            within=None,
        )
    lungs = canvas.material("lung")
    for _, side in SIDES:
        _trees(canvas, patient, side, lungs)
    canvas.tubes("trachea", "airway_wall", tube_of([(0, 4, 320), (0, 8, 238)], [10.5, 10.5]), within=None)
    for _, side in SIDES:
        canvas.tubes("trachea", "airway_wall", tube_of([(0, 8, 238), (side * 34, 4, 210)], [9, 7.5]), within=None)
    canvas.tubes("trachea", "airway", tube_of([(0, 4, 320), (0, 8, 238)], [9, 9]), within=None)
    for _, side in SIDES:
        canvas.tubes("trachea", "airway", tube_of([(0, 8, 238), (side * 34, 4, 210)], [7.5, 6]), within=None)
    _heart(canvas, patient)
    airways = ("trachea",)
    trunk = [(10, -34, 168), (14, -26, 190), (8, -10, 200)]
    canvas.tubes("pulmonary_vein", "ventricle", tube_of([(6, 4, 168), (-34, 10, 176)], [8, 6]), spare=airways)
    canvas.tubes("pulmonary_vein", "ventricle", tube_of([(14, 6, 168), (42, 12, 178)], [8, 6]), spare=airways)
    canvas.tubes("", "artery", tube_of(trunk, [13, 13, 11]), spare=airways)
    canvas.tubes("", "artery", tube_of([(8, -10, 200), (-36, 2, 196)], [10, 8]), spare=airways)
    canvas.tubes("", "artery", tube_of([(10, -10, 202), (40, 8, 200)], [10, 8]), spare=airways)
    canvas.tubes("superior_vena_cava", "cava", tube_of([(-26, -10, 158), (-27, -12, 240)], [9, 9]))
    canvas.tubes("brachiocephalic_vein_left", "cava", tube_of([(-27, -12, 240), (22, -26, 262)], [7, 6]))
    for x, y in ((-10, -10), (6, -4), (18, 8)):
        canvas.tubes("", "artery", tube_of([(x, y, 226), (1.5 * x, y, 310)], [5, 4]), spare=airways)
    canvas.tubes("aorta", "artery", tube_of(AORTA, [16, 16, 16, 14, 13, 13, 12.5, 12, 11, 10, 9]))
    cava = [(-17, 21, -120), (-17, 21, 20), (-20, 12, 80), (-18, -5, 105)]
    canvas.tubes("inferior_vena_cava", "cava", tube_of(cava, [10, 10, 11, 12]), spare=("aorta",))
    gullet = tube_of([(3, 20, 310), (3, 24, 230), (6, 22, 110), (25, 2, 78)], [6.5, 6.5, 7, 8])
    canvas.tubes("esophagus", "wall", gullet, spare=("aorta", "trachea", "heart"))


def _trees(canvas: TissueCanvas, patient: Patient, side: float, lungs: Mask) -> None:
    """Arteries beside bronchi from the hilum, veins from lower and further in front between them."""
    if not lungs.any():
        return
    lung, rng = lung_solid(side, patient), canvas.rng(1 if side > 0 else 2)

    def ends(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return points_within(((-150, -95, 20), (150, 105, 300)), lung, n, rng)

    hilum: list[Point] = [(side * 26, 2, 198), (side * 38, 6, 196), (side * 44, 12, 180)]
    arteries = grow_tree(hilum, ends(LUNG_ENDS), rng, tip_mm=0.72, root_mm=7.0)
    lower: list[Point] = [(side * 24, 6, 176), (side * 36, 8, 174), (side * 42, 0, 166)]
    veins = grow_tree(lower, ends(LUNG_ENDS), rng, tip_mm=0.68, root_mm=6.0)
    canvas.vessels("lung_vessel", veins, only=lungs)
    canvas.vessels("lung_vessel", arteries, only=lungs)
    airways = grow_tree([(side * 30, 4, 213), (side * 42, 8, 198)], ends(46), rng, tip_mm=0.75, root_mm=5.0)
    wide = [branch for branch in airways if branch.start_mm > 1.0]
    canvas.vessels("airway_wall", wide, only=lungs, grow_mm=1.1)
    canvas.vessels("airway", wide, only=lungs)


def _heart(canvas: TissueCanvas, patient: Patient) -> None:
    """Fat round the pericardium, muscle, and four chambers of blood."""

    def part(centre: Point, radii: Point, shrink_mm: float = 0.0) -> tuple[tuple[Point, Point], Solid]:
        return organ_ellipsoid(patient, "heart", centre, radii, shrink_mm=shrink_mm)

    canvas.put("", "fat", part((18, -22, 132), (56, 44, 50), -4.0))
    canvas.put("heart", "myocardium", part((18, -20, 132), (54, 42, 48)))
    for centre, radii in (
        ((38, -10, 122), (25, 20, 27)),
        ((8, -40, 122), (30, 14, 28)),
        ((-18, -18, 134), (19, 21, 28)),
        ((8, 6, 150), (30, 15, 19)),
    ):
        canvas.put("heart", "ventricle", part(centre, radii), only=("heart",))
