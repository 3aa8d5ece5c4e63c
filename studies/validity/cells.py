"""Which scans and lesions the study looks at, and how many of each."""

from __future__ import annotations

from r2seg_agent.frozen import Frozen
from studies.validity.volumes import LesionKind, Scanner

N_CALIBRATION = 200
"""Cases of one calibration, as in method.md's table."""
CURVE_SIZES = (19, 29, 39, 59, 99, 199, 499, 999)
DATA_SET_SIZE = 100
PREVALENCES = (0.05, 0.1, 0.2, 0.5)

MATCHED = (
    Scanner(name="FWHM 1", fwhm_vox=1.0),
    Scanner(name="FWHM 2", fwhm_vox=2.0),
    Scanner(name="FWHM 3", fwhm_vox=3.0),
    Scanner(name="FWHM 4", fwhm_vox=4.0),
    Scanner(name="small organ", fwhm_vox=3.0, shape=(12, 32, 32)),
    Scanner(name="large organ", fwhm_vox=3.0, shape=(24, 64, 64)),
)
"""Calibration and test cases of one kind: voxels of 2.5 × 1 × 1 mm, organs of 31, 115 and 246 ml."""
SHIFTED = (
    Scanner(name="noise × 1.5", fwhm_vox=3.0, sd_hu=22.5),
    Scanner(name="5 × 0.8 × 0.8 mm", fwhm_vox=3.0, shape=(10, 60, 60), spacing_mm=(5.0, 0.8, 0.8),
            made_on_mm=(2.5, 1.0, 1.0)),
    Scanner(name="sharp kernel", fwhm_vox=2.0, spectrum="ramp"),
    Scanner(name="vessels enhanced", fwhm_vox=3.0, mean_hu=110.0, vessels_hu=60.0),
)  # fmt: skip
"""FWHM 3 with one thing changed: noise level, grid (resampled), reconstruction kernel, contrast phase."""
SHIFT_NAMES = ("FWHM 2", "FWHM 3", "FWHM 4", *(scanner.name for scanner in SHIFTED))
MAIN = ("FWHM 2", "FWHM 3", "FWHM 4")
BASE = "FWHM 3"
"""The scanner of the curve and of the data sets."""
SIZES: dict[float, tuple[float, ...]] = {0.3: (2.0, 3.0, 4.0), 1.0: (1.0, 2.0, 3.0, 4.0), 3.0: (1.0, 2.0, 3.0)}
"""Lesion volume in ml → contrasts to noise."""


class Counts(Frozen):
    """Cases per cell. Of the scanners `MAIN`: calibration `pool` (`base` of `BASE`) and `test` cases; of the others one
    calibration and `other_test` cases. `lesion`: of 1 ml; `other_lesion`: of other volumes. `warned`:
    scans per pair of scanners whose profile is compared.
    """

    base: int = 1400
    pool: int = 400
    test: int = 1000
    other_test: int = 400
    lesion: int = 100
    other_lesion: int = 50
    blobs: int = 120
    draws: int = 1000
    warned: int = 100
    data_sets: int = 60

    def scaled(self, share: float) -> Counts:
        """`share` of every count, but never less than one calibration needs, or than 10."""
        least = {"base": CURVE_SIZES[-1] + 1, "pool": N_CALIBRATION}
        return Counts(
            **{name: max(least.get(name, 10), round(share * value)) for name, value in self.model_dump().items()}
        )


def scanner_named(name: str) -> Scanner:
    """One of `MATCHED` or `SHIFTED`."""
    return next(scanner for scanner in (*MATCHED, *SHIFTED) if scanner.name == name)


def lesion_cells() -> list[tuple[Scanner, LesionKind]]:
    """Where power is measured: all sizes, contrasts and edges at FWHM 2 to 4; a few elsewhere."""
    cells = [
        (scanner_named(f"FWHM {fwhm}"), LesionKind(volume_ml=ml, cnr=cnr, edge=edge))
        for fwhm in (2, 3, 4)
        for edge in ("sharp", "blurred")
        for ml, contrasts in SIZES.items()
        for cnr in contrasts
    ]
    cells += [(scanner_named("FWHM 1"), LesionKind(volume_ml=ml, cnr=1.0, edge="sharp")) for ml in SIZES]
    cells += [
        (scanner_named("vessels enhanced"), LesionKind(volume_ml=ml, cnr=cnr, edge="blurred"))
        for ml, cnr in ((1.0, 3.0), (1.0, 4.0), (3.0, 4.0))
    ]
    return cells
