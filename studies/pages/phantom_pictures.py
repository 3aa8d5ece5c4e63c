"""Pictures of phantoms for docs/guide/phantoms.md: `python -m studies.pages.phantom_pictures`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.data.derive import LIVER_LABEL
from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.phantom import LOOKS, Acquisition, LesionSpec, Match, Phantom, Scanner, implant_lesion, make_phantom
from r2seg_agent.phantom.patient import Habitus

Plane = NDArray[np.float64]
SOFT, LUNG = (-150.0, 250.0), (-1100.0, 200.0)
FINE: Float3 = (3.0, 0.85, 0.85)
SLAB: Index3 = (22, 350, 470)
TOP_MM = 295.0
"""Top of the default view (`phantom/make.py`); slabs are moved from there."""
SEED = 4


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    for name, draw in PICTURES.items():
        if given.only in name:
            _save(draw(), given.out / f"phantom-{name}.png")
            print(given.out / f"phantom-{name}.png", flush=True)


def abdomen() -> list[Plane]:
    """CT in the portal venous phase with a liver lesion that has a rim; the same patient higher up."""
    lesion = LesionSpec("liver", 14.0, -45.0, look=LOOKS["rim"])
    first = _slab(62.0, Acquisition(scanner=Scanner("standard")), (lesion,))
    second = _slab(8.0, Acquisition(scanner=Scanner("standard")))
    return [_at_lesion(first, SOFT), _grey(second.volume.array[6], SOFT)]


def chest() -> list[Plane]:
    """Chest CT with a spiculated nodule: lung window, sharp kernel; the same slice in the soft-tissue window."""
    lesion = LesionSpec("lung_upper_lobe_right", 3.0, 880.0, edge_mm=1.2, look=LOOKS["spiculated"])
    phantom = _slab(230.0, Acquisition(scanner=Scanner("sharp")), (lesion,))
    z = int(phantom.lesions[0].sum(axis=(1, 2)).argmax())
    soft = _slab(230.0, Acquisition(scanner=Scanner("soft")), (lesion,))
    return [_grey(phantom.volume.array[z], LUNG), _grey(soft.volume.array[z], SOFT)]


def mr() -> list[Plane]:
    """The same patient in MR: T1- and T2-weighted, with a lesion in the liver."""
    planes = []
    for acquisition, contrast in ((Acquisition(sequence="t1"), -150.0), (Acquisition(sequence="t2"), 170.0)):
        lesion = LesionSpec("liver", 14.0, contrast, look=LOOKS["lobulated"])
        phantom = make_phantom(
            SEED, spacing_mm=(4.0, 1.2, 1.2), shape=(17, 250, 335), shift_mm=(62.0 - TOP_MM, 0, 0), modality="MR",
            acquisition=acquisition, lesions=(lesion,),
        )  # fmt: skip
        planes.append(_at_lesion(phantom, (0.0, 1000.0)))
    return planes


def lesions() -> list[Plane]:
    """Six looks of one lesion in the liver, soft kernel."""
    planes = []
    for look in LOOKS.values():
        spec = LesionSpec("liver", 9.0, -42.0, look=look)
        acquisition = Acquisition(scanner=Scanner("soft"))
        phantom = make_phantom(
            SEED, spacing_mm=FINE, shape=(20, 210, 190), shift_mm=(80.0 - TOP_MM, 0.0, -66.0), acquisition=acquisition,
            lesions=(spec,),
        )  # fmt: skip
        planes.append(_at_lesion(phantom, (-60.0, 200.0)))
    return planes


def scanners() -> list[Plane]:
    """One slice through three kernels, then a child and an obese patient."""
    planes = [_grey(_slab(40.0, Acquisition(scanner=Scanner(k))).volume.array[8], SOFT) for k in ("soft", "sharp")]
    sizes: tuple[Habitus, ...] = ("child", "obese")
    for habitus in sizes:
        phantom = make_phantom(
            9, spacing_mm=(3.0, 1.0, 1.0), shape=(4, 340, 460), shift_mm=(40.0 - TOP_MM, 0, 0),
            habitus=habitus,
        )  # fmt: skip
        planes.append(_grey(phantom.volume.array[2], SOFT))
    return planes


def implant() -> list[Plane]:
    """TotalSegmentator's example CT untouched, and with a SYNTHETIC lesion whose noise and blur are the scan's."""
    scan = fetch("abdomen")
    volume = read_image(scan.image, modality="CT")
    assert scan.anchors is not None
    liver = np.asarray(read_label_map(Path(scan.anchors), volume.geometry) == LIVER_LABEL)
    match = Match.measure(volume, liver, resynthesise=True)
    planes: list[Plane] = []
    for look in ("lobulated", "rim"):
        made = implant_lesion(volume, liver, seed=7, diameter_mm=34.0, contrast_hu=-40.0, look=LOOKS[look], match=match)
        z = int(made.truth.sum(axis=(1, 2)).argmax())
        if not planes:
            planes.append(_enlarged(_grey(volume.array[z][::-1, ::-1], (-110.0, 190.0)), 4))
        planes.append(_enlarged(_grey(made.volume.array[z][::-1, ::-1], (-110.0, 190.0)), 4))
    return planes


PICTURES = {"abdomen": abdomen, "chest": chest, "mr": mr, "lesions": lesions, "scanners": scanners, "implant": implant}


def _slab(middle_mm: float, acquisition: Acquisition, lesions: tuple[LesionSpec, ...] = ()) -> Phantom:
    top = middle_mm + SLAB[0] * FINE[0] / 2
    return make_phantom(
        SEED, spacing_mm=FINE, shape=SLAB, shift_mm=(top - TOP_MM, 8.0, 0.0), acquisition=acquisition, lesions=lesions
    )


def _at_lesion(phantom: Phantom, window: tuple[float, float]) -> Plane:
    return _grey(phantom.volume.array[int(phantom.lesions[0].sum(axis=(1, 2)).argmax())], window)


def _grey(plane: NDArray[np.generic], window: tuple[float, float]) -> Plane:
    low, high = window
    scaled: Plane = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1) * 255
    return scaled


def _enlarged(plane: Plane, factor: int) -> Plane:
    from PIL import Image

    size = (plane.shape[1] * factor, plane.shape[0] * factor)
    return np.asarray(Image.fromarray(plane.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


def _save(planes: list[Plane], path: Path) -> None:
    from PIL import Image

    n_rows = 2 if len(planes) > 3 else 1
    per_row = -(-len(planes) // n_rows)
    rows = []
    height = max(p.shape[0] for p in planes)
    width = max(p.shape[1] for p in planes)
    for start in range(0, len(planes), per_row):
        row = [np.pad(p, ((0, height - p.shape[0]), (0, width - p.shape[1] + 4))) for p in planes[start:][:per_row]]
        row += [np.zeros((height, width + 4))] * (per_row - len(row))
        rows.append(np.hstack(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    # 43 greys: noise does not compress, and no eye sees more on a page
    Image.fromarray((np.rint(np.vstack(rows) / 6) * 6).astype(np.uint8)).save(path, optimize=True)


if __name__ == "__main__":
    main()
