"""The phantom's organs as solids in canonical millimetres (x Left, y Posterior, z Superior, L1 at z = 0).

Positions and sizes are a mean patient's, good to a centimetre; later organs are drawn over earlier ones.
"""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.canvas import PhantomCanvas
from r2seg_agent.phantom.patient import SPINE_Y_MM, VERTEBRA_Z_MM, Patient
from r2seg_agent.phantom.solids import Bounds, Point, Solid, ellipsoid, tube

CAVITY_X_MM, CAVITY_Y_MM = 135.0, 85.0
"""Half-axes of the trunk's cavity; wall and fat lie around it."""
WALL_X_MM, WALL_Y_MM = 16.0, 12.0
TRUNK_POWER = 2.4
EVERYWHERE: Bounds = ((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))
SIDES = (("left", 1.0), ("right", -1.0))


def draw_trunk(canvas: PhantomCanvas, patient: Patient) -> None:
    """Skin to cavity: subcutaneous fat, wall muscles, visceral fat; and the couch below."""
    fat, muscle = patient.hu["fat"], patient.hu["muscle"]
    x_out, y_out = CAVITY_X_MM + WALL_X_MM + patient.fat_mm, CAVITY_Y_MM + WALL_Y_MM + patient.fat_mm
    skin = trunk_level(canvas.x, canvas.y, x_out, y_out) < 1
    canvas.tissue[skin] = 1
    canvas.hounsfield[skin] = fat
    couch = (canvas.y > y_out + 4) & (canvas.y < y_out + 16) & (np.abs(canvas.x) < 195)
    canvas.hounsfield[couch & ~skin] = -250.0
    wall = (CAVITY_X_MM + WALL_X_MM, CAVITY_Y_MM + WALL_Y_MM)
    canvas.paint("", muscle, EVERYWHERE, lambda x, y, z: trunk_level(x, y, *wall) < 1)
    shoulders = ellipsoid((0, 10, 300), (CAVITY_X_MM + WALL_X_MM, 75, 70))
    canvas.paint("", fat, EVERYWHERE, _in_cavity(lambda x, y, z: z < 1e4), tissue=1)
    canvas.paint("", muscle, *shoulders)


def draw_thorax(canvas: PhantomCanvas, patient: Patient) -> None:
    """Lungs with their lobes, heart, great vessels, trachea, esophagus."""
    hu = patient.hu
    dx, _, _ = patient.jitter["lung"]
    lung_hu = hu["lung"]

    def lung(side: float) -> Solid:
        def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
            shrink = apex(z)
            field = trunk_level(x, y, 0.97 * CAVITY_X_MM * shrink, 0.96 * CAVITY_Y_MM * shrink) < 1
            medial = 20.0 + 14.0 * np.exp(-(((y + 10) / 45) ** 2)) + dx
            found: Mask = field & (z > dome(x, y)) & (side * x > medial * shrink)
            return found

        return solid

    def lobe(side: float, upper: bool, middle: bool) -> Solid:
        base = lung(side)

        def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
            above = z > 165 + dx + 1.0 * y
            if side > 0:
                return base(x, y, z) & (above if upper else ~above)
            high = z > 178 + dx
            chosen = (above & ~high) if middle else ((above & high) if upper else ~above)
            return base(x, y, z) & chosen

        return solid

    thorax: Bounds = ((-150, -100, -10), (150, 110, 310))
    for name, side, upper, middle in (
        ("lung_upper_lobe_left", 1.0, True, False),
        ("lung_lower_lobe_left", 1.0, False, False),
        ("lung_upper_lobe_right", -1.0, True, False),
        ("lung_middle_lobe_right", -1.0, False, True),
        ("lung_lower_lobe_right", -1.0, False, False),
    ):
        canvas.paint(name, lung_hu, thorax, lobe(side, upper, middle), tissue=4)
    for side in (1.0, -1.0):
        for branch in _bronchial_tree(side):
            canvas.paint("", hu["heart"] - 20, *branch, spare=_not_lung(canvas))
    for part in tube([(0, 4, 320), (0, 8, 238)], [9, 9]):
        canvas.paint("trachea", -990, *part, tissue=4)
    for side in (1.0, -1.0):
        for part in tube([(0, 8, 238), (side * 32, 4, 212)], [8, 6]):
            canvas.paint("trachea", -990, *part, tissue=4)
    canvas.paint("heart", hu["heart"], *_organ(patient, "heart", (18, -20, 132), (56, 44, 50)))
    for part in tube([(-26, -8, 160), (-26, -10, 238)], [9, 9]):
        canvas.paint("superior_vena_cava", hu["heart"] + 30, *part)
    aorta: list[Point] = [
        (2, -14, 165), (-12, -22, 205), (2, -8, 229), (16, 18, 230), (24, 36, 205), (23, 36, 110),
        (14, 26, 40), (9, 20, -20), (4, 20, -100),
    ]  # fmt: skip
    for part in tube(aorta, [15, 15, 14, 13, 13, 12, 11, 10, 9]):
        canvas.paint("aorta", hu["aorta"], *part)
    for side_name, side in SIDES:
        for part in tube([(4, 20, -100), (side * 34, 26, -175)], [7, 6]):
            canvas.paint(f"iliac_artery_{side_name}", hu["aorta"], *part)
    for part in tube([(-17, 19, -120), (-17, 19, 20), (-20, 10, 80), (-18, -5, 105)], [10, 10, 11, 12]):
        canvas.paint("inferior_vena_cava", hu["inferior_vena_cava"], *part, spare=("aorta",))
    for part in tube([(3, 20, 310), (3, 22, 230), (8, 20, 110), (25, 2, 78)], [7, 7, 7, 8]):
        canvas.paint("esophagus", hu["esophagus"], *part, spare=("aorta", "trachea"))


def draw_abdomen(canvas: PhantomCanvas, patient: Patient) -> None:
    """Bowel, then the solid organs over it."""
    hu = patient.hu
    _draw_bowel(canvas, patient)
    below = under_dome
    canvas.paint("liver", hu["liver"], *below(*_organ(patient, "liver", (-68, -6, 38), (72, 72, 76))))
    canvas.paint("liver", hu["liver"], *below(*_organ(patient, "liver", (-4, -42, 58), (64, 34, 36))))
    canvas.paint("spleen", hu["spleen"], *below(*_organ(patient, "spleen", (92, 38, 50), (27, 36, 50))))
    for centre, radii in (((58, -4, 64), (38, 36, 36)), ((47, -38, 30), (34, 28, 44))):
        bounds, solid = below(*_organ(patient, "stomach", centre, radii))
        canvas.paint("stomach", hu["stomach"], bounds, solid, spare=("liver", "spleen"))
        canvas.paint("stomach", -900, bounds, _and(solid, lambda x, y, z: y < -50), tissue=4, spare=("liver", "spleen"))
    for part in _moved(patient, "stomach", [(40, -42, 8), (-10, -42, -6)], [22, 15]):
        canvas.paint("stomach", hu["stomach"], *part, spare=("liver",))
    canvas.paint("gallbladder", hu["gallbladder"], *_organ(patient, "gallbladder", (-50, -46, -10), (13, 14, 25)))
    for name, side, low in (("left", 1.0, -18.0), ("right", -1.0, -30.0)):
        bounds, solid = _organ(patient, f"kidney_{name}", (side * 64, 40, low), (28, 25, 54))
        canvas.paint(f"kidney_{name}", hu["kidney_left"], bounds, solid)
        sinus = _organ(patient, f"kidney_{name}", (side * 54, 34, low), (9, 9, 22))
        canvas.paint("", hu["fat"] + 30, *sinus, tissue=1)
        gland = _organ(patient, f"adrenal_gland_{name}", (side * 42, 32, low + 58), (9, 12, 10))
        canvas.paint(f"adrenal_gland_{name}", hu["adrenal_gland_left"], *gland, spare=("liver", f"kidney_{name}"))
    pancreas: list[Point] = [(-30, 2, -26), (-26, -2, -10), (-4, -10, 2), (26, -8, 14), (68, 20, 32)]
    for part in _moved(patient, "pancreas", pancreas, [16, 16, 12, 13, 11]):
        canvas.paint("pancreas", hu["pancreas"], *part, spare=("spleen", "kidney_left", "aorta", "liver"))
    portal: list[Point] = [(64, 26, 30), (20, 6, 10), (-8, 2, 8), (-42, -4, 50)]
    for part in _moved(patient, "pancreas", portal, [4, 5, 7, 7]):
        canvas.paint("portal_vein_and_splenic_vein", hu["portal_vein_and_splenic_vein"], *part, spare=("spleen",))


def draw_skeleton(canvas: PhantomCanvas, patient: Patient) -> None:
    """Spine with discs and cord, ribs, sternum, cartilages, shoulder girdle, the muscles along the spine."""
    hu = patient.hu
    for name, side in SIDES:
        for part in tube([(side * 34, 50, 5), (side * 40, 46, -160)], [10, 23]):
            canvas.paint(f"iliopsoas_{name}", hu["muscle"], *part, spare=(f"kidney_{name}",))
        for part in tube([(side * 27, 86, -180), (side * 27, 84, 310)], [21, 13]):
            canvas.paint(f"autochthon_{name}", hu["muscle"], *part)
    _draw_spine(canvas, hu)
    for number in range(1, 13):
        for name, side in SIDES:
            points = rib_points(number, side)
            for part in tube(points, [5.5] * len(points)):
                canvas.paint(f"rib_{name}_{number}", hu["rib"], *part, tissue=3, spare=(f"vertebrae_T{number}",))
            if number <= 8:
                end: Point = (side * 16, -front(points[-1][2] + 18) - 3, points[-1][2] + 18)
                for part in tube([points[-1], end], [5.5, 5.5]):
                    canvas.paint("costal_cartilages", hu["cartilage"], *part)

    def sternum(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        found: Mask = (np.abs(x) < 19) & (np.abs(y + CAVITY_Y_MM * apex(z) + 5) < 7) & (z > 95) & (z < 248)
        return found

    canvas.paint("sternum", hu["vertebra"], ((-19, -100, 95), (19, -40, 248)), sternum, tissue=3)
    for name, side in SIDES:
        for part in tube([(side * 20, -50, 258), (side * 115, -12, 284)], [7, 6]):
            canvas.paint(f"clavicula_{name}", hu["rib"], *part, tissue=3)
        blade = ellipsoid((side * 92, 78, 232), (34, 7, 48))
        canvas.paint(f"scapula_{name}", hu["rib"], *blade, tissue=3)


def _draw_bowel(canvas: PhantomCanvas, patient: Patient) -> None:
    hu = patient.hu
    loops = np.random.default_rng(patient.bowel_seed)
    for _ in range(22):
        centre = (loops.uniform(-72, 72), loops.uniform(-62, 18), loops.uniform(-175, -62))
        radii = (loops.uniform(13, 24), loops.uniform(12, 20), loops.uniform(12, 20))
        canvas.paint("small_bowel", hu["small_bowel"], *_organ(patient, "small_bowel", centre, radii))
    colon: list[Point] = [
        (-104, 6, -175), (-104, 2, -60), (-92, -26, -42), (-48, -60, -60), (4, -66, -72), (54, -62, -50),
        (98, -8, 2), (108, 16, -50), (102, 14, -175),
    ]  # fmt: skip
    wall, gas = [22.0, 22, 21, 19, 18, 18, 17, 16, 15], [14.0, 12, 12, 13, 13, 12, 11, 9, 8]
    for part in _moved(patient, "colon", colon, wall):
        canvas.paint("colon", hu["colon"], *part)
    for part in _moved(patient, "colon", colon, gas):
        canvas.paint("colon", -700, *part, tissue=4)
    duodenum: list[Point] = [(-16, -36, -4), (-46, -8, -6), (-50, 8, -45), (-14, 4, -60), (20, 0, -50)]
    for part in _moved(patient, "duodenum", duodenum, [12, 12, 12, 11, 11]):
        canvas.paint("duodenum", hu["duodenum"], *part)


def _draw_spine(canvas: PhantomCanvas, hu: dict[str, float]) -> None:
    heights = list(VERTEBRA_Z_MM.values())
    for index, (name, z0) in enumerate(VERTEBRA_Z_MM.items()):
        pitch = (heights[index + 1] - z0) if index + 1 < len(heights) else 18.0
        size = float(np.interp(z0, [-140, 60, 300], [1.12, 0.95, 0.68]))
        around: Bounds = ((-40, SPINE_Y_MM - 25, z0 - pitch), (40, 110, z0 + pitch))
        canvas.paint("", hu["disc"], around, disc(z0, pitch, size))
        canvas.paint(f"vertebrae_{name}", hu["vertebra"], around, vertebra(z0, pitch, size), tissue=3)
    cord: list[Point] = [(0, SPINE_Y_MM + 25, -150), (0, SPINE_Y_MM + 22, 60), (0, SPINE_Y_MM + 19, 320)]
    for part in tube(cord, [8.0, 8.0, 8.0]):
        canvas.paint("spinal_cord", hu["spinal_cord"], *part)


def disc(z0: float, pitch: float, size: float) -> Solid:
    """An intervertebral disc about height `z0`, with half of the next gap."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        near = np.abs(z - z0) < 0.52 * pitch
        found: Mask = near & (((x / (20 * size)) ** 2 + ((y - SPINE_Y_MM) / (15 * size)) ** 2) < 1)
        return found

    return solid


def vertebra(z0: float, pitch: float, size: float) -> Solid:
    """Body, arch around the canal, spinous and transverse processes."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        level = (x / (21 * size)) ** 2 + ((y - SPINE_Y_MM) / (16 * size)) ** 2
        body = (level < 1) & (np.abs(z - z0) < 0.41 * pitch)
        canal_y = SPINE_Y_MM + 16 * size + 8
        ring = np.hypot(x, y - canal_y)
        arch = (ring < 15) & (ring > 9) & (np.abs(z - z0) < 0.3 * pitch) & (y > SPINE_Y_MM + 8)
        spinous = (np.abs(x) < 5) & (y > canal_y + 10) & (y < canal_y + 26) & (np.abs(z - z0 + 6) < 0.3 * pitch)
        wings = (np.abs(x) < 36 * size) & (np.abs(y - canal_y + 2) < 5) & (np.abs(z - z0) < 5) & (ring > 9)
        found: Mask = body | arch | spinous | wings
        return found

    return solid


def rib_points(number: int, side: float) -> list[Point]:
    """From the vertebra round the chest, sloping down; ribs 11 and 12 end free."""
    start = VERTEBRA_Z_MM[f"T{number}"] + 5
    end_angle = np.deg2rad({8: 122, 9: 112, 10: 104, 11: 84, 12: 60}.get(number, 128))
    drop = float(np.interp(number, [1, 4, 8, 12], [22, 55, 70, 40]))
    points: list[Point] = [(side * 22, SPINE_Y_MM + 16, start)]
    for angle in np.linspace(np.deg2rad(26), end_angle, 12):
        share = (angle - np.deg2rad(26)) / (np.deg2rad(128) - np.deg2rad(26))
        z = start - drop * share
        shrink = max(0.45, float(apex(np.float32(z))))
        power = 2 / TRUNK_POWER
        x = side * (CAVITY_X_MM * shrink + 6) * abs(np.sin(angle)) ** power
        y = (CAVITY_Y_MM * shrink + 4) * np.sign(np.cos(angle)) * abs(np.cos(angle)) ** power
        points.append((float(x), float(y), float(z)))
    return points


def _bronchial_tree(side: float) -> list[tuple[Bounds, Solid]]:
    """A few vessels, so that the lung is not empty."""
    hilum: Point = (side * 34, 4, 190)
    tips: list[Point] = [
        (side * 62, -30, 235), (side * 70, 30, 240), (side * 92, -15, 185), (side * 85, 45, 165),
        (side * 72, -48, 150), (side * 98, 25, 125), (side * 60, 55, 110), (side * 100, 0, 150),
    ]  # fmt: skip
    parts = [tube([hilum, tip], [5.0, 1.8])[0] for tip in tips]
    return [*parts, ellipsoid(hilum, (12, 12, 18))]


def _not_lung(canvas: PhantomCanvas) -> tuple[str, ...]:
    return tuple(name for name in canvas.class_names.values() if not name.startswith("lung_"))


def _organ(patient: Patient, name: str, centre: Point, radii: Point) -> tuple[Bounds, Solid]:
    """An ellipsoid clipped to the cavity, moved and scaled as this patient's organ."""
    move, size = patient.jitter[name], patient.size[name]
    moved = (centre[0] + move[0], centre[1] + move[1], centre[2] + move[2])
    bounds, solid = ellipsoid(moved, (radii[0] * size, radii[1] * size, radii[2] * size), power=2.2)
    return bounds, _in_cavity(solid)


def _moved(patient: Patient, name: str, points: list[Point], radii: list[float]) -> list[tuple[Bounds, Solid]]:
    """A tube clipped to the cavity, moved and thickened as this patient's organ."""
    move, size = patient.jitter[name], patient.size[name]
    parts = tube([(x + move[0], y + move[1], z + move[2]) for x, y, z in points], [r * size for r in radii])
    return [(bounds, _in_cavity(solid)) for bounds, solid in parts]


def _in_cavity(solid: Solid) -> Solid:
    return _and(solid, lambda x, y, z: trunk_level(x, y, CAVITY_X_MM - 2, CAVITY_Y_MM - 2) < 1)


def under_dome(bounds: Bounds, solid: Solid) -> tuple[Bounds, Solid]:
    """What of a solid lies under the diaphragm."""
    return bounds, _and(solid, lambda x, y, z: z < dome(x, y) - 3)


def _and(first: Solid, second: Solid) -> Solid:
    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        return first(x, y, z) & second(x, y, z)

    return solid


def trunk_level(x: FloatArray, y: FloatArray, half_x: float | FloatArray, half_y: float | FloatArray) -> FloatArray:
    """Below 1 inside the super-ellipse that the trunk is in every slice."""
    level: FloatArray = np.abs(x / half_x) ** TRUNK_POWER + np.abs(y / half_y) ** TRUNK_POWER
    return level


def apex(z: FloatArray | np.float32) -> FloatArray:
    """How much the chest has narrowed at height z: 1 up to T6, 0.05 above the lung's apex."""
    shrink: FloatArray = np.sqrt(np.clip(1 - np.clip((z - 180) / 118, 0, None) ** 2, 0.0025, 1)).astype(np.float32)
    return shrink


def front(z: float) -> float:
    """How far in front of the axis the chest's cavity ends at height `z`, in mm."""
    return CAVITY_Y_MM * float(apex(np.float32(z)))


def dome(x: FloatArray, y: FloatArray) -> FloatArray:
    """Height of the diaphragm: two domes, falling to the sides, the front and, most, the back."""
    right = 112 - 34 * ((x + 62) / 66) ** 2
    left = 100 - 34 * ((x - 62) / 66) ** 2
    blend = 1 / (1 + np.exp(-x / 12))
    back = 62 * np.clip(y / 66, 0, 1.25) ** 2 + 20 * np.clip(-y / 70, 0, 1.2) ** 2
    height: FloatArray = (right * (1 - blend) + left * blend - back).astype(np.float32)
    return height
