"""Who the phantom is: `draw_patient`.

Everything is in canonical millimetres of a mean patient: x to the Left, y Posterior, z Superior, L1 at z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.phantom.solids import Point

VERTEBRA_Z_MM = {
    "L5": -138.0, "L4": -104.0, "L3": -69.0, "L2": -34.0, "L1": 0.0, "T12": 31.0, "T11": 59.0, "T10": 86.0,
    "T9": 112.0, "T8": 137.0, "T7": 161.0, "T6": 185.0, "T5": 208.0, "T4": 230.0, "T3": 251.0, "T2": 271.0,
    "T1": 290.0, "C7": 308.0,
}  # fmt: skip
SPINE_Y_MM = 52.0
"""How far behind the trunk's axis the vertebral bodies stand."""
WARP_MARGIN_MM = 14.0
"""How far the random warp may move a surface."""
MEAN_HU: dict[str, tuple[float, float]] = {
    "liver": (85, 22), "spleen": (95, 25), "kidney_left": (120, 45), "pancreas": (70, 18), "stomach": (25, 15),
    "gallbladder": (8, 5), "adrenal_gland_left": (60, 12), "heart": (105, 45), "aorta": (150, 60),
    "inferior_vena_cava": (115, 35), "portal_vein_and_splenic_vein": (140, 35), "lung": (-860, 25), "colon": (10, 25),
    "small_bowel": (35, 15), "duodenum": (40, 15), "esophagus": (35, 10), "muscle": (52, 8), "fat": (-100, 6),
    "vertebra": (230, 50), "rib": (320, 70), "disc": (75, 10), "spinal_cord": (30, 5), "cartilage": (110, 20),
}  # fmt: skip
"""(mean, standard deviation over patients) in HU, for the attenuation that decides the noise (`attenuation.py`).

A scan's own grey values are those of `materials.py`. All are drawn, so that a seed stays its patient."""


Habitus = Literal["child", "slim", "average", "large", "obese"]


class Build(NamedTuple):
    """Ranges over patients of one habitus: scale of width and depth, of height, and the fat under the skin (mm)."""

    across: tuple[float, float]
    height: tuple[float, float]
    fat_mm: tuple[float, float]


BUILDS: dict[Habitus, Build] = {
    "child": Build((0.58, 0.74), (0.55, 0.72), (5, 10)),
    "slim": Build((0.86, 0.95), (0.92, 1.06), (6, 12)),
    "average": Build((0.94, 1.06), (0.93, 1.07), (14, 26)),
    "large": Build((1.05, 1.14), (0.95, 1.08), (28, 42)),
    "obese": Build((1.12, 1.24), (0.95, 1.06), (48, 75)),
}


@dataclass(frozen=True)
class Patient:
    """Size, habitus and the organ jitters of one drawn patient."""

    scale_xyz: Point
    fat_mm: float
    hu: dict[str, float]
    jitter: dict[str, Point]
    size: dict[str, float]
    bowel_seed: int
    warp_mm: NDArray[np.float64] = field(repr=False)
    """(waves, 3 axes × (amplitude, kx, ky, kz, phase)): see `attenuation.py` and `tissues.py`."""


def draw_patient(rng: np.random.Generator, habitus: Habitus | None = None) -> Patient:
    """A patient: trunk ±13 % wide, ±15 % deep, ±10 % tall; organs moved by some mm and ±10 % in size.

    With `habitus` the sizes are drawn from `BUILDS` instead; the organs' own differences stay those of the seed.
    """
    organs = (
        "liver", "spleen", "kidney_left", "kidney_right", "pancreas", "stomach", "gallbladder", "heart", "colon",
        "small_bowel", "duodenum", "aorta", "lung", "adrenal_gland_left", "adrenal_gland_right",
    )  # fmt: skip
    scale = (rng.uniform(0.87, 1.13), rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.1))
    hu = {name: float(rng.normal(mean, sd)) for name, (mean, sd) in MEAN_HU.items()}
    jitter = {name: (float(a), float(b), float(c)) for name, (a, b, c) in
              zip(organs, rng.normal(0, [4.0, 3.0, 5.0], (len(organs), 3)), strict=True)}  # fmt: skip
    size = {name: float(rng.uniform(0.9, 1.12)) for name in organs}
    waves = rng.normal(size=(5, 3, 5))
    waves[..., 0] *= 2.0
    waves[..., 1:4] *= 0.018
    waves[..., 4] *= np.pi
    patient = Patient(scale, float(rng.uniform(8, 26)), hu, jitter, size, int(rng.integers(2**31)), waves)
    if habitus is None:
        return patient
    build = BUILDS[habitus]
    own = np.random.default_rng([patient.bowel_seed, 3])
    across = float(own.uniform(*build.across))
    depth = across * float(own.uniform(0.96, 1.05))
    return replace(
        patient, scale_xyz=(across, depth, float(own.uniform(*build.height))), fat_mm=float(own.uniform(*build.fat_mm))
    )
