"""Masks to disk: on exactly the grid they were made on, atomically, and the same bytes for the same labels."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.imaging import files, itk, nifti, seg
from r2seg_agent.imaging.files import SourceFormat
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.read import series_files
from r2seg_agent.imaging.volume import Volume

WRITABLE_3D = (".nii.gz", ".nii", ".nrrd", ".mha")
WRITABLE = (*WRITABLE_3D, ".png", ".tif", ".tiff")
GZIP_LEVEL = 6


def label_map_suffix(source_format: SourceFormat) -> str:
    """The suffix for masks of an image of this format. DICOM gives ".nii.gz"; `write_dicom_seg` writes a SEG."""
    by_format: dict[SourceFormat, str] = {
        "nifti": ".nii.gz",
        "nrrd": ".nrrd",
        "metaimage": ".mha",
        "dicom": ".nii.gz",
        "picture": ".png",
    }
    return by_format[source_format]


def write_label_map(
    path: Path | str, labels: NDArray[Any], geometry: Geometry, *, names: Mapping[int, str] | None = None
) -> None:
    """Write labels (z, y, x) on `geometry` in the format of the suffix, compressed (but .nii), as uint8 or uint16.

    The same labels give the same bytes; the file appears complete or not at all; missing folders are made. `names`
    go into the header of NIfTI (as TotalSegmentator writes them) and NRRD (as 3D Slicer's .seg.nrrd has them); the
    other formats have no place for them.

    Raises:
        InputError: a suffix that cannot be written, a picture of a 3D mask, or a folder that refuses the file.
        ValueError: labels that are not whole numbers 0 … 65535 in the shape of `geometry`.
    """
    path = Path(path)
    suffix = files.suffix_of(path)
    if suffix not in WRITABLE:
        raise InputError(
            f"A mask cannot be written to `{path}`: the suffix `{suffix}` is not among {', '.join(WRITABLE)}.",
            "Choose one of them.",
        )
    stored = _stored(labels, geometry)
    if suffix in (".png", ".tif", ".tiff") and not geometry.is_2d:
        raise InputError(
            f"A mask of {geometry.shape[0]} slices cannot be written as a 2D picture `{path}`.", "Use .nii.gz or .nrrd."
        )
    with atomic(path) as temporary:
        if suffix in WRITABLE_3D:
            _write_grid(temporary, stored, geometry, names)
        else:
            _write_picture(temporary, stored[0])


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a scan as NIfTI (.nii, .nii.gz), NRRD or MetaImage (.mha), in its own number type, as `write_label_map`.

    Raises:
        InputError: another suffix, or a folder that refuses the file.
    """
    path = Path(path)
    suffix = files.suffix_of(path)
    if suffix not in WRITABLE_3D:
        raise InputError(
            f"A scan cannot be written to `{path}`: the suffix `{suffix}` is not among {', '.join(WRITABLE_3D)}.",
            "Choose one of them.",
        )
    with atomic(path) as temporary:
        _write_grid(temporary, volume.array, volume.geometry, None)


def write_dicom_seg(
    path: Path | str,
    labels: NDArray[Any],
    names: Mapping[int, str],
    image: Path | str,
    *,
    series: str | None = None,
) -> None:
    """Write labels (z, y, x) as a DICOM SEG that refers to the files of the scan `image`, as given to `read_image`.

    What of the patient it repeats, and why: see `imaging/seg.py`.

    Raises:
        InputError: no label above 0, or a series that a SEG cannot refer to.
    """
    dataset = seg.dicom_seg(labels, names, series_files(image, series))
    with atomic(Path(path)) as temporary:
        dataset.save_as(temporary)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; it takes its place when the block ends without an error.

    Raises:
        InputError: the folder cannot be made or written to.
        RunFailedError: the disk is full or fails.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}{files.suffix_of(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise InputError(f"`{path}` cannot be written: {error.strerror}.", "Choose another folder or name.") from None
    except OSError as error:
        raise RunFailedError(
            f"`{path}` cannot be written: {error.strerror or error}.",
            "Check the free space of the disk, then run again.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _stored(labels: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    if labels.shape != geometry.shape:
        raise ValueError(f"labels {labels.shape} and geometry {geometry.shape} differ (z, y, x)")
    if labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be whole numbers, got {labels.dtype}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise ValueError(f"labels must lie in 0 … 65535, got {lowest} … {highest}")
    return labels.astype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16, copy=False)


def _write_grid(path: Path, array: NDArray[Any], geometry: Geometry, names: Mapping[int, str] | None) -> None:
    suffix = files.suffix_of(path)
    if suffix in (".nrrd", ".mha"):
        itk.write_itk(path, array, geometry, _slicer_segments(names, geometry) if suffix == ".nrrd" else {})
        return
    with path.open("wb") as raw:
        if suffix == ".nii":
            nifti.write_nifti(raw, array, geometry, names)
            return
        # No name and no time in the gzip header: the same labels must give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0) as stream:
            nifti.write_nifti(stream, array, geometry, names)  # type: ignore[arg-type]  # GzipFile writes bytes


def _write_picture(path: Path, labels: NDArray[Any]) -> None:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(labels))
    if path.suffix == ".png":
        image.save(path, format="PNG", optimize=False)
    else:
        image.save(path, format="TIFF", compression="tiff_adobe_deflate")


def _slicer_segments(names: Mapping[int, str] | None, geometry: Geometry) -> dict[str, str]:
    """Label names as the key/value pairs of 3D Slicer's segmentation files."""
    z, y, x = geometry.shape
    pairs: dict[str, str] = {}
    for i, (label, name) in enumerate(sorted((names or {}).items())):
        pairs |= {
            f"Segment{i}_ID": f"Segment_{label}",
            f"Segment{i}_Name": " ".join(name.split()),
            f"Segment{i}_LabelValue": str(label),
            f"Segment{i}_Layer": "0",
            f"Segment{i}_Extent": f"0 {x - 1} 0 {y - 1} 0 {z - 1}",
        }
    return pairs
