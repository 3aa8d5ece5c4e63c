"""A cohort of phantoms on disk: images, organ label maps, truth masks and `cases.csv` (`write_cohort`)."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.files import write_bytes_atomic, write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.nifti import write_nifti
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom.cohort import Cohort, PhantomCase, make_case, plan_cohort
from r2seg_agent.phantom.texture import LOW_XYZ_MM, Lattice
from r2seg_agent.progress import Progress, silent

WORDS = "SYNTHETIC phantom by r2seg-agent; no patient"
"""In every image's header (NIfTI `descrip`, at most 79 characters)."""
DESCRIP_AT = 148
ANCHOR_STEP_MM = 24.0
"""Over which distance the anchors' errors change."""
LESION_COLUMNS = ("case", "lesion", "organ", "volume_ml", "truth_ml", "contrast", "look", "z", "y", "x")


class LesionRow(Frozen):
    """One true lesion: what was asked for, the volume of its mask, the mask's centre (voxels)."""

    case: str
    lesion: int
    organ: str
    volume_ml: float
    truth_ml: float
    contrast: float
    look: str
    z: float
    y: float
    x: float


class CaseRecord(Frozen):
    """What `done/NAME.json` says of a finished case."""

    plan: PhantomCase
    lesions: tuple[LesionRow, ...]


class Written(NamedTuple):
    """The tables, how many cases there are, how many were there before."""

    cases_csv: Path
    lesions_csv: Path
    n: int
    n_before: int


def write_cohort(cohort: Cohort, n: int, out: Path, *, workers: int = 1, progress: Progress = silent) -> Written:
    """Draw what is not there yet and write the tables; the same command again only does what is left.

    A folder may be extended by a larger `n`. Raises `InputError` for a folder that holds another cohort.
    """
    _claim(out, cohort)
    cases = plan_cohort(cohort, n)
    left = [case for case in cases if not _record(out, case).is_file()]
    before = len(cases) - len(left)
    progress("phantoms", before, len(cases), f"{before} of {len(cases)}")
    for done, name in enumerate(_work(cohort, left, out, workers), start=before + 1):
        progress("phantoms", done, len(cases), f"{done} of {len(cases)}: {name}")
    records = [CaseRecord.model_validate_json(_record(out, case).read_text(encoding="utf-8")) for case in cases]
    _write_csv(
        out / "cases.csv",
        ("image", "patient", "anchors", "truth", "modality", "request"),
        [
            (f"images/{r.plan.name}.nii.gz", r.plan.name, f"organs/{r.plan.name}.nii.gz",
             f"truth/{r.plan.name}.nii.gz", cohort.modality, cohort.asked)
            for r in records
        ],
    )  # fmt: skip
    rows = [row for record in records for row in record.lesions]
    _write_csv(
        out / "lesions.csv",
        LESION_COLUMNS,
        [tuple(_text(getattr(row, name)) for name in LESION_COLUMNS) for row in rows],
    )
    return Written(out / "cases.csv", out / "lesions.csv", len(cases), before)


def write_case(cohort: Cohort, case: PhantomCase, out: Path) -> str:
    """Draw one patient and write its files; its record comes last, so a stopped case is simply drawn again."""
    made = make_case(cohort, case)
    phantom = made.phantom
    geometry = phantom.volume.geometry
    name = f"{case.name}.nii.gz"
    write_bytes_atomic(out / "images" / name, synthetic_nifti(phantom.volume))
    anchors = imperfect(phantom.labels, geometry.spacing_mm, cohort.anchor_error_mm, case.seed)
    present = {int(v): phantom.class_names[int(v)] for v in np.unique(anchors) if v}
    write_label_map(out / "organs" / name, anchors, geometry, names=present)
    truth = np.zeros(geometry.shape, dtype=np.uint8)
    rows = []
    for number, (mask, spec, look) in enumerate(zip(phantom.lesions, made.lesions, case.looks, strict=True), start=1):
        truth[mask] = number
        z, y, x = (float(c) for c in np.argwhere(mask).mean(axis=0)) if mask.any() else (-1.0, -1.0, -1.0)
        truth_ml = float(mask.sum()) * geometry.voxel_volume_mm3 / 1000.0
        rows.append(
            LesionRow(
                case=case.name, lesion=number, organ=spec.organ, volume_ml=spec.volume_ml, truth_ml=truth_ml,
                contrast=spec.contrast, look=look, z=z, y=y, x=x,
            )
        )  # fmt: skip
    write_label_map(out / "truth" / name, truth, geometry, names={n: f"lesion_{n}" for n in range(1, len(rows) + 1)})
    record = CaseRecord(plan=case, lesions=tuple(rows))
    write_text_atomic(_record(out, case), record.model_dump_json(indent=1) + "\n")
    return case.name


def synthetic_nifti(volume: Volume) -> bytes:
    """`volume` as .nii.gz whose header says that it is synthetic; the same voxels give the same bytes."""
    plain = io.BytesIO()
    write_nifti(plain, volume.array, volume.geometry)
    data = bytearray(plain.getvalue())
    text = WORDS.encode("ascii")
    data[DESCRIP_AT : DESCRIP_AT + 80] = text + b"\0" * (80 - len(text))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=2, fileobj=packed, mtime=0) as stream:
        stream.write(data)
    return packed.getvalue()


def imperfect(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float], error_mm: float, seed: int
) -> NDArray[np.uint8]:
    """Organ labels (z, y, x) as a model would give them: every border off by about `error_mm`, smoothly."""
    if error_mm == 0:
        return labels
    axes = tuple(
        low + 20.0 + s * np.arange(n)
        for low, s, n in zip(LOW_XYZ_MM, spacing_mm[::-1], labels.shape[::-1], strict=True)
    )
    grid = (axes[0], axes[1], axes[2])
    at = [
        np.arange(n, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        + np.float32(error_mm / s) * Lattice((seed, 80 + axis), ANCHOR_STEP_MM).on(grid)
        for axis, (n, s) in enumerate(zip(labels.shape, spacing_mm, strict=True))
    ]
    moved: NDArray[np.uint8] = ndimage.map_coordinates(labels, np.stack(at), order=0, mode="nearest")
    return moved


def _work(cohort: Cohort, cases: list[PhantomCase], out: Path, workers: int) -> Iterator[str]:
    if workers <= 1 or len(cases) < 2:
        for case in cases:
            yield write_case(cohort, case, out)
        return
    with ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(write_case, cohort, case, out) for case in cases]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _claim(out: Path, cohort: Cohort) -> None:
    """Say in `phantom.json` what the folder holds, or check that it is the same."""
    path = out / "phantom.json"
    mine = json.loads(cohort.model_dump_json())
    if path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8")).get("cohort", {})
        differs = [name for name in mine if theirs.get(name) != mine[name]]
        if differs:
            what = ", ".join(f"{name} {theirs.get(name)} there, {mine[name]} now" for name in differs)
            raise InputError(f"`{out}` holds phantoms of other settings: {what}", "Give another --out.")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"`{out}` is not empty and holds no phantoms", "Give a new folder as --out.")
    write_text_atomic(path, json.dumps({"what": WORDS, "cohort": mine}, indent=1) + "\n")


def _record(out: Path, case: PhantomCase) -> Path:
    return out / "done" / f"{case.name}.json"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text_atomic(path, text.getvalue())
