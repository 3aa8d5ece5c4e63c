"""The abdomen: solid organs with their inner structure and vessels, stomach, bowel and mesentery."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.body import SIDES, dome
from r2seg_agent.phantom.materials import CODES
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.shapes import (
    below_dome,
    liver_solid,
    organ_ellipsoid,
    organ_tube,
    tube_of,
)
from r2seg_agent.phantom.solids import Bounds, Point
from r2seg_agent.phantom.tissues import TissueCanvas
from r2seg_agent.phantom.vessels import grow_tree, points_within

PORTAL_ENDS, HEPATIC_ENDS, MESENTERIC_ENDS = 150, 90, 110
BOWEL_BOX: Bounds = ((-78, -66, -178), (84, 14, -54))
JEJUNUM_BOX: Bounds = ((8, -64, -78), (92, -4, -2))


def draw_abdomen(canvas: TissueCanvas, patient: Patient) -> None:
    """From the gut outward in; solid organs over it."""
    _diaphragm(canvas)
    _mesentery(canvas, canvas.rng(3))
    _bowel(canvas, patient, canvas.rng(4))
    canvas.put("liver", "liver", liver_solid(patient), within=0.975)
    _stomach(canvas, patient)
    _spleen(canvas, patient)
    _liver_vessels(canvas, patient, canvas.rng(5))
    for name, side, low in (("left", 1.0, -18.0), ("right", -1.0, -32.0)):
        _kidney(canvas, patient, name, side, low)
    canvas.put("", "fat", organ_ellipsoid(patient, "gallbladder", (-50, -42, -8), (13, 14, 27), shrink_mm=-2.0))
    canvas.put("gallbladder", "gallbladder", organ_ellipsoid(patient, "gallbladder", (-50, -42, -10), (12, 13, 25)))
    _pancreas(canvas, patient)


def _diaphragm(canvas: TissueCanvas) -> None:
    """A sheet of muscle under the lungs, and its crura beside the aorta."""

    def sheet(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        height = dome(x, y)
        found: Mask = (z <= height) & (z > height - 3.5)
        return found

    mediastinum = tuple(name for name in canvas.class_names.values() if name in ("heart", "aorta", "esophagus"))
    canvas.put("", "muscle", (((-150, -100, -60), (150, 110, 130)), sheet), spare=mediastinum)
    for _, side in SIDES:
        canvas.tubes("", "muscle", tube_of([(side * 16, 26, 70), (side * 17, 38, -30)], [6, 5]), spare=mediastinum)


def _liver_vessels(canvas: TissueCanvas, patient: Patient, rng: np.random.Generator) -> None:
    """Fissure and hilar fat, the portal tree from below, three hepatic veins and their branches from above."""
    bounds, liver = liver_solid(patient)
    dx, dy, dz = patient.jitter["liver"]
    spare = ("aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein")

    def ligament(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        u, v, w = x - dx + 4, y - dy, z - dz
        found: Mask = (np.abs(u + 0.18 * v) < 0.9 + 0.05 * np.clip(40 - w, 0, 40)) & (v < -22) & (w < 50)
        return found

    canvas.put("", "fat", (bounds, ligament), only=("liver",))
    hilum = tube_of([(-8, 4, 8), (-28, -6, 28), (-46, -12, 40)], [11, 8, 5])
    canvas.tubes("", "fat", hilum, spare=spare)
    inside = canvas.of_class("liver")
    portal = points_within(bounds, liver, PORTAL_ENDS, rng)
    veins = points_within(bounds, liver, HEPATIC_ENDS, rng)
    if len(portal) < 8 or len(veins) < 8:
        return
    root: list[Point] = [(-8 + dx, 2 + dy, 8 + dz), (-30 + dx, -6 + dy, 30 + dz), (-50 + dx, -8 + dy, 42 + dz)]
    canvas.tubes("portal_vein_and_splenic_vein", "portal", tube_of(root[:2], [7, 6]), spare=("aorta",))
    canvas.vessels("portal", grow_tree(root, portal, rng, tip_mm=1.0, root_mm=6.5), only=inside)
    confluence: Point = (-19 + dx, 2 + dy, 86 + dz)
    for towards in ((-80, 18, 58), (-40, -40, 62), (10, -40, 62)):
        far: Point = (towards[0] + dx, towards[1] + dy, towards[2] + dz)
        nearest = np.linalg.norm(veins - np.asarray(far), axis=1).argsort()[: HEPATIC_ENDS // 3]
        tree = grow_tree([confluence, far], veins[nearest], rng, tip_mm=0.95, root_mm=5.0)
        canvas.vessels("hepatic_vein", tree, only=inside)


def _spleen(canvas: TissueCanvas, patient: Patient) -> None:
    """A crescent along the left back wall."""
    part = below_dome(organ_ellipsoid(patient, "spleen", (98, 40, 48), (36, 44, 52)))
    hollow = organ_ellipsoid(patient, "spleen", (62, 8, 44), (36, 44, 64))[1]

    def crescent(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        found: Mask = part[1](x, y, z) & ~hollow(x, y, z)
        return found

    canvas.put("spleen", "spleen", (part[0], crescent), spare=("liver",), within=0.975)
    vein: list[Point] = [(72, 28, 40), (40, 16, 26), (14, 4, 10), (-8, 2, 8)]
    pipe = organ_tube(patient, "pancreas", vein, [4, 4.5, 5, 6.5])
    canvas.tubes("portal_vein_and_splenic_vein", "portal", pipe, spare=("spleen", "aorta"))
    canvas.tubes("", "artery", organ_tube(patient, "pancreas", [(8, 14, 22), (36, 4, 34), (70, 22, 46)], [3.2, 2.6, 2]))


def _kidney(canvas: TissueCanvas, patient: Patient, name: str, side: float, low: float) -> None:
    """Fat capsule, cortex, pyramids of medulla, the sinus with fat, calyces and vessels."""
    organ = f"kidney_{name}"
    spare = ("aorta", "inferior_vena_cava", "spleen")

    middle: Point = (side * 63, 42, low)
    capsule = organ_ellipsoid(patient, organ, middle, (31, 28, 57), shrink_mm=-5.0)
    canvas.put("", "fat", capsule, spare=spare)
    canvas.put(organ, "kidney_cortex", organ_ellipsoid(patient, organ, middle, (29, 26, 54)))
    inner = organ_ellipsoid(patient, organ, middle, (29, 26, 54), shrink_mm=7.0)
    pyramids = canvas.noise(10, 11.0) > -0.25

    before = canvas.of_class(organ)
    at = canvas.material("kidney_cortex") & before & pyramids
    canvas.put(organ, "kidney_medulla", inner, only=(organ,))
    keep = canvas.material("kidney_medulla") & before & ~at
    canvas.fill(keep, None, "kidney_cortex")
    canvas.put("", "fat", organ_ellipsoid(patient, organ, (side * 50, 36, low), (14, 9, 22)), only=(organ,))
    canvas.put("", "fluid", organ_ellipsoid(patient, organ, (side * 48, 38, low - 3), (7, 4, 9)))
    canvas.tubes("", "artery", tube_of([(8, 22, low + 14), (side * 50, 36, low)], [2.6, 2.2]), spare=spare)
    canvas.tubes("", "cava", tube_of([(-14, 20, low + 8), (side * 50, 33, low + 2)], [4.2, 3.6]), spare=spare)
    gland = f"adrenal_gland_{name}"
    for tip in ((side * 52, 34, low + 52), (side * 38, 40, low + 50)):
        limb = organ_tube(patient, gland, [(side * 41, 28, low + 62), tip], [3.4, 2.2])
        canvas.tubes(gland, "adrenal", limb, spare=("liver", organ, "aorta", "inferior_vena_cava"))


def _pancreas(canvas: TissueCanvas, patient: Patient) -> None:
    """A lobulated gland from the duodenum to the spleen's hilum, with fat between its lobules."""
    line: list[Point] = [(-30, 2, -26), (-26, -2, -10), (-4, -12, 2), (26, -10, 14), (68, 18, 34)]
    spare = ("spleen", "kidney_left", "aorta", "liver", "portal_vein_and_splenic_vein", "inferior_vena_cava")
    canvas.tubes("pancreas", "pancreas", organ_tube(patient, "pancreas", line, [14, 13, 10, 11, 9]), spare=spare)
    clefts = (canvas.noise(11, 5.0) > 1.35) & canvas.material("pancreas")
    canvas.hounsfield[clefts] = 0.45 * canvas.hounsfield[clefts] + 0.55 * canvas.values["fat"]
    for start, end, vein in (((5, 10, -6), (4, -14, -70), False), ((-8, 2, 8), (-6, -14, -70), True)):
        canvas.tubes("", "portal" if vein else "artery", tube_of([start, end], [5 if vein else 3.5] * 2))


def _stomach(canvas: TissueCanvas, patient: Patient) -> None:
    """Wall, a meal, and the air above it (in front)."""
    spare = ("liver", "spleen", "aorta")
    parts = [
        below_dome(organ_ellipsoid(patient, "stomach", (56, -2, 62), (38, 38, 38))),
        below_dome(organ_ellipsoid(patient, "stomach", (47, -36, 28), (34, 29, 46))),
        *organ_tube(patient, "stomach", [(40, -42, 6), (8, -48, -12), (-18, -40, -6)], [23, 18, 12]),
    ]
    lumen = [
        below_dome(organ_ellipsoid(patient, "stomach", (56, -2, 62), (38, 38, 38), shrink_mm=4.5), 8.0),
        below_dome(organ_ellipsoid(patient, "stomach", (47, -36, 28), (34, 29, 46), shrink_mm=4.5), 8.0),
        *organ_tube(patient, "stomach", [(40, -42, 6), (8, -48, -12), (-18, -40, -6)], [18, 13, 6]),
    ]
    for part in parts:
        canvas.put("stomach", "wall", part, spare=spare, within=0.975)
    for part in lumen:
        canvas.put("stomach", "chyme", part, only=("stomach",), within=0.94)
    level = -44.0 + patient.jitter["stomach"][1]
    gas = (canvas.material("chyme")) & canvas.of_class("stomach") & (canvas.y < level)
    canvas.fill(gas, None, "gas")


def _bowel(canvas: TissueCanvas, patient: Patient, rng: np.random.Generator) -> None:
    """Loops of small bowel on wandering paths, the duodenal C, and the colon with its bulges and contents."""
    for loop in range(17):
        low, high = (np.asarray(b) for b in (BOWEL_BOX if loop < 11 else JEJUNUM_BOX))
        place, heading = rng.uniform(low, high), rng.normal(size=3)
        path: list[Point] = []
        for _ in range(8):
            path.append((float(place[0]), float(place[1]), float(place[2])))
            heading = 0.55 * heading / np.linalg.norm(heading) + 0.7 * rng.normal(size=3)
            place = np.clip(place + 24.0 * heading / np.linalg.norm(heading), low, high)
        radius = float(rng.uniform(9.5, 13.5))
        content = str(rng.choice(["chyme", "fluid", "chyme", "wall"]))
        canvas.tubes("small_bowel", "wall", tube_of(path, [radius] * len(path)))
        canvas.tubes("small_bowel", content, tube_of(path, [radius - 2.6] * len(path)))
        if rng.random() < 0.35:
            canvas.tubes("small_bowel", "gas", tube_of(path[:3], [0.45 * radius] * 3))
    duodenum: list[Point] = [(-18, -38, -4), (-46, -10, -6), (-50, 8, -45), (-14, 6, -60), (20, 0, -50)]
    canvas.tubes("duodenum", "wall", organ_tube(patient, "duodenum", duodenum, [12, 12, 12, 11, 10]))
    canvas.tubes("duodenum", "chyme", organ_tube(patient, "duodenum", duodenum, [9, 9, 9, 8, 7]))
    line: list[Point] = [
        (-104, 8, -175), (-106, 4, -118), (-104, 2, -70), (-92, -26, -46), (-50, -60, -62), (4, -66, -76),
        (54, -62, -52), (92, -22, -8), (104, 10, 2), (110, 18, -60), (104, 16, -175),
    ]  # fmt: skip
    path, radii = _haustra(line, [23, 23, 22, 21, 19, 18, 18, 17, 16, 14, 14], rng)
    canvas.tubes("colon", "wall", organ_tube(patient, "colon", path, radii), within=0.97)
    canvas.tubes("colon", "faeces", organ_tube(patient, "colon", path, [r - 3.0 for r in radii]), within=0.95)
    inside = canvas.material("faeces")
    bubbles = canvas.noise(12, 4.5)
    gassy = canvas.noise(13, 60.0) > 0.25
    canvas.fill(inside & gassy & (canvas.y < -36), None, "gas")
    left = inside & (canvas.tissue != CODES["gas"])
    canvas.hounsfield[left] += np.where(bubbles[left] > 1.1, -520.0, 14.0 * bubbles[left]).astype(np.float32) * (
        1.0 if canvas.values["air"] < 0 else 0.3
    )


def _haustra(line: list[Point], radii: list[float], rng: np.random.Generator) -> tuple[list[Point], list[float]]:
    """The same path in pieces of about 14 mm, alternately wide and narrow."""
    points: list[Point] = []
    widths: list[float] = []
    for a, b, ra, rb in zip(line[:-1], line[1:], radii[:-1], radii[1:], strict=True):
        n = max(2, round(float(np.linalg.norm(np.subtract(b, a))) / 14.0))
        for k in range(n):
            t = k / n
            x, y, z = (p + t * (q - p) for p, q in zip(a, b, strict=True))
            points.append((x, y, z))
            widths.append((ra + t * (rb - ra)) * (1.0 if len(points) % 2 else 0.82) * float(rng.uniform(0.92, 1.06)))
    return points, widths


def _mesentery(canvas: TissueCanvas, rng: np.random.Generator) -> None:
    """Small arteries and veins in the fat between the loops."""
    fat = canvas.material("fat")
    ends = rng.uniform(BOWEL_BOX[0], BOWEL_BOX[1], (MESENTERIC_ENDS, 3))
    for material, x in (("artery", 4.0), ("portal", -7.0)):
        tree = grow_tree(
            [(x, -2, -20), (x, -14, -80)], ends + rng.normal(0, 4, ends.shape), rng, tip_mm=0.7, root_mm=3.5
        )
        canvas.vessels(material, tree, only=fat)
