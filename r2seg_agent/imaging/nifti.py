"""The NIfTI seam: headers by nibabel, voxels streamed straight into one array. The only place that knows RAS+.

Everything inside r2seg is LPS; NIfTI is RAS+, so x and y change sign here, in both directions, and nowhere else.
Voxels are not read through ITK or nibabel's image classes, because ITK silently repairs zero spacing and reads into two
buffers, and nibabel turns scaled integers into float64 (eight times an int16 CT).
"""

from __future__ import annotations

import gzip
import importlib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.geometry import DIRECTION_TOLERANCE, Geometry

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
"""Its own inverse."""
MM_PER_UNIT: dict[int, float] = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI `xyzt_units & 7`: unknown (taken as mm), metre, millimetre, micrometre."""
QFORM_TOLERANCE_MM = 0.5e-3
"""The qform stores three of four quaternion numbers as float32; near half turns (a slightly oblique LPS scan is one)
the fourth, and with it every far corner, is off by up to some tenths of a mm. Such a qform is marked as unset: readers
then take the exact sform."""
MIN_HEADER_BYTES = 348
MAX_OFFSET_BYTES = 1 << 30
"""Header extensions before the voxels are some kilobytes; a gigabyte is none."""
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class _Header:
    shape_xyz: tuple[int, int, int]
    ndim: int
    offset: int
    spacing_xyz: tuple[float, float, float]
    affine_ras: NDArray[np.float64] | None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.int16))
    slope: float = 1.0
    intercept: float = 0.0


def read_nifti(
    path: Path, what: str = "image", note: Callable[[str], None] = lambda text: None
) -> tuple[NDArray[Any], Geometry]:
    """Voxels (z, y, x), rescaled by the header's slope and intercept, with their geometry in LPS mm.

    Raises:
        InputError: not a NIfTI file, truncated, 4D, colour or complex, or a header that contradicts itself.
    """
    compressed = files.read_head(path, what).startswith(b"\x1f\x8b")
    with files.readable(path, what), _open(path, compressed) as file:
        try:
            header = _read_header(path, what, file)
            wanted = math.prod(header.shape_xyz) * header.dtype.itemsize
            stored = path.stat().st_size - (0 if compressed else header.offset)
            files.check_plausible_size(path, what, wanted, stored, compressed=compressed)
            raw = _read_voxels(path, what, file, header)
        except EOFError:
            raise files.truncated(path, what, "the gzip data end too early") from None
        except (zlib.error, gzip.BadGzipFile):
            raise files.truncated(path, what, "the gzip data are corrupt, their checksum does not match") from None
    n = header.shape_xyz[2]
    return checks.rescale_slices(raw, [header.slope] * n, [header.intercept] * n), _geometry(path, what, header, note)


def write_nifti(
    file: IO[bytes], array: NDArray[Any], geometry: Geometry, names: Mapping[int, str] | None = None
) -> None:
    """Write a (z, y, x) array as an uncompressed single-file NIfTI-1 stream, scanner-anatomical sform and qform.

    `names` goes into the header extension that TotalSegmentator and Connectome Workbench read.
    """
    nibabel = _nibabel()
    affine = lps_to_ras_affine(geometry)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    if _largest_shift_mm(np.asarray(header.get_qform()), affine, array.shape[::-1]) > QFORM_TOLERANCE_MM:
        header["qform_code"] = 0
    header.set_xyzt_units("mm")
    if names:
        header.extensions.append(nibabel.nifti1.Nifti1Extension(0, label_table_xml(names).encode("utf-8")))
    header.write_to(file)
    file.write(b"\0" * (int(header["vox_offset"]) - file.tell()))
    for plane in array:
        file.write(np.ascontiguousarray(plane).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def lps_to_ras_affine(geometry: Geometry) -> NDArray[np.float64]:
    """The 4×4 NIfTI affine (voxel x, y, z → RAS mm) of a grid."""
    affine = np.eye(4)
    affine[:3, :3] = RAS_FROM_LPS @ geometry.direction_matrix @ np.diag(geometry.spacing_mm[::-1])
    affine[:3, 3] = RAS_FROM_LPS @ np.asarray(geometry.origin_lps_mm)
    return affine


def label_table_xml(names: Mapping[int, str]) -> str:
    """Label names as the `CaretExtension` XML of Connectome Workbench, the form TotalSegmentator writes and reads."""
    colours = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 0.5, 0), (1, 0, 0.5))
    rows = []
    for label, name in sorted(names.items()):
        red, green, blue = colours[label % len(colours)]
        key = f'Key="{label}" Red="{red}" Green="{green}" Blue="{blue}" Alpha="1"'
        rows.append(f"<Label {key}>{escape(name)}</Label>")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        + "\n".join(rows)
        + "\n</LabelTable><StudyMetaDataLinkSet></StudyMetaDataLinkSet><VolumeType>Label</VolumeType>"
        + "</VolumeInformation></CaretExtension>\n"
    )


def _open(path: Path, compressed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]  # GzipFile is an IO


def _read_header(path: Path, what: str, file: IO[bytes]) -> _Header:
    nibabel = _nibabel()
    head = file.read(MIN_HEADER_BYTES)
    if len(head) < MIN_HEADER_BYTES:
        raise files.truncated(path, what, f"{len(head)} bytes are too few for a NIfTI header")
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    kind = nibabel.Nifti2Header if 540 in sizes else nibabel.Nifti1Header
    if not sizes & {348, 540} or (348 in sizes and head[344:347] not in (b"n+1", b"ni1")):
        raise InputError(
            f"The {what} `{path}` is not a NIfTI file: it looks like {files.describe_content(head)}. {files.ALLOWED}",
            "Convert it to NIfTI, or give the file its true suffix.",
        )
    if 348 in sizes and head[344:347] == b"ni1":
        raise InputError(
            f"The {what} `{path}` is only the header of a NIfTI pair (.hdr and .img).", "Convert the pair to one .nii."
        )
    file.seek(0)
    raw = kind.from_fileobj(file, check=False)  # check=True would turn zero spacing into 1 mm
    dims = [int(v) for v in raw["dim"]]
    ndim = dims[0]
    if not 1 <= ndim <= 7 or any(n < 1 for n in dims[1 : ndim + 1]):
        raise InputError(
            f"The {what} `{path}` has an impossible NIfTI header: dimensions {dims}.",
            "Export it again from the source.",
        )
    shape = dims[1 : ndim + 1]
    if any(n != 1 for n in shape[3:]):
        raise InputError(
            f"The {what} `{path}` is {ndim}D, of shape {' × '.join(map(str, shape))}; one 3D volume is needed.",
            "Save the time point or channel you need as its own 3D file.",
        )
    shape = [*shape, 1, 1][:3]
    try:
        dtype = np.dtype(raw.get_data_dtype())
    except Exception as error:
        raise InputError(
            f"The {what} `{path}` has an unknown NIfTI number type ({error}).", "Export it again."
        ) from None
    if dtype.itemsize > 8 and dtype.kind == "f":
        raise InputError(f"The {what} `{path}` holds {dtype.itemsize * 8}-bit floats.", "Save it as float32.")
    checks.check_grey_type(path, what, dtype.kind, "colour (RGB)" if dtype.kind == "V" else str(dtype))
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not np.isfinite(slope):  # the standard's way to say "no scaling"
        slope, intercept = 1.0, 0.0
    if not np.isfinite(intercept):
        raise InputError(f"The {what} `{path}` has the rescale intercept {intercept}.", "Export it again.")
    grid = _grid(path, what, raw, (shape[0], shape[1], shape[2]), min(ndim, 3))
    return replace(grid, dtype=dtype, slope=slope, intercept=intercept)


def _nibabel() -> Any:
    """nibabel as an untyped module: its own annotations are partial."""
    return importlib.import_module("nibabel")


def _grid(path: Path, what: str, raw: Any, shape_xyz: tuple[int, int, int], ndim: int) -> _Header:
    """The geometric part of a header; the number type is filled in by the caller."""
    mm = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    pixdim = [float(v) * mm for v in raw["pixdim"][1:4]]
    if shape_xyz[2] == 1 and not (np.isfinite(pixdim[2]) and pixdim[2] > 0):
        pixdim[2], ndim = 1.0, 2
    if ndim < 3:
        pixdim[2] = 1.0
    checks.check_spacing(path, what, pixdim[::-1])
    offset = float(raw["vox_offset"])
    if not 0 <= offset <= MAX_OFFSET_BYTES:
        raise InputError(
            f"The {what} `{path}` has an impossible NIfTI header: its voxels begin at byte {offset:g}.",
            "Export it again from the source.",
        )
    affine = _affine(path, what, raw, shape_xyz, ndim)
    if affine is not None:
        affine[:3] *= mm
    return _Header(
        shape_xyz=shape_xyz,
        ndim=ndim,
        offset=int(offset),
        spacing_xyz=(pixdim[0], pixdim[1], pixdim[2]),
        affine_ras=affine,
    )


def _affine(path: Path, what: str, raw: Any, shape_xyz: tuple[int, int, int], ndim: int) -> NDArray[np.float64] | None:
    """The header's affine: sform where it is a rotation, else qform; None when neither is set.

    Raises `InputError` when both claim the same space and put some corner more than one voxel apart: then left and
    right themselves may be in doubt.
    """
    sform = np.asarray(raw.get_sform(), dtype=np.float64) if int(raw["sform_code"]) > 0 else None
    qform: NDArray[np.float64] | None = None
    if int(raw["qform_code"]) > 0:
        if raw["pixdim"][0] == 0:  # the standard: treat as +1
            raw["pixdim"][0] = 1
        try:
            qform = np.asarray(raw.get_qform(), dtype=np.float64)
        except ValueError:
            qform = None
    if ndim < 3:
        sform = _thick(sform)
        qform = _thick(qform)
    if sform is None:
        return qform
    if qform is None:
        return sform
    if _is_rigid(qform) and int(raw["sform_code"]) == int(raw["qform_code"]):
        apart = _largest_shift_mm(sform, qform, shape_xyz) / float(np.linalg.norm(qform[:3, :3], axis=0).min())
        if apart > 1:
            raise InputError(
                f"The {what} `{path}` contradicts itself: its NIfTI header's sform and qform claim the same space "
                f"but lie up to {apart:.1f} voxels apart.",
                "Left and right may be swapped. Find out which one is true and copy it over the other (fslorient).",
            )
    return sform if _is_rigid(sform) or not _is_rigid(qform) else qform


def _thick(affine: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """A 2D image's affine with a unit normal where the file left the third column empty."""
    if affine is not None:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        length = float(np.linalg.norm(normal))
        if length > 0:
            affine[:3, 2] = normal / length
    return affine


def _is_rigid(affine: NDArray[np.float64]) -> bool:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        return False
    d = affine[:3, :3] / spacing
    return bool(np.abs(d.T @ d - np.eye(3)).max() <= DIRECTION_TOLERANCE)


def _largest_shift_mm(a: NDArray[np.float64], b: NDArray[np.float64], shape_xyz: tuple[int, ...]) -> float:
    """The largest distance of a grid's corner from itself under two affines."""
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.asarray(shape_xyz) - 1
    return float(np.linalg.norm(corners @ (a - b)[:3].T, axis=1).max())


def _geometry(path: Path, what: str, header: _Header, note: Callable[[str], None]) -> Geometry:
    known: Literal["zyx", "yx"] = "zyx" if header.ndim == 3 else "yx"
    if header.affine_ras is None:
        # The standard's "method 1", no orientation. Tools guess differently; this is ITK's guess (and 3D Slicer's).
        note("The NIfTI header states no orientation: left, right, front and back are a guess.")
        spacing = np.asarray(header.spacing_xyz)
        direction, origin = np.eye(3), np.zeros(3)
    else:
        linear = RAS_FROM_LPS @ header.affine_ras[:3, :3]
        spacing = np.linalg.norm(linear, axis=0)
        checks.check_spacing(path, what, tuple(spacing[::-1]))
        direction, origin = linear / spacing, RAS_FROM_LPS @ header.affine_ras[:3, 3]
    return checks.checked_geometry(
        path,
        what,
        shape=header.shape_xyz[::-1],
        spacing_zyx_mm=tuple(spacing[::-1]),
        origin_lps_mm=tuple(origin),
        direction=direction,
        known_spacing=known,
    )


def _read_voxels(path: Path, what: str, file: IO[bytes], header: _Header) -> NDArray[Any]:
    file.seek(header.offset)
    array = np.empty(header.shape_xyz[::-1], dtype=header.dtype)
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(view):
        n = file.readinto(view[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]  # IO has no readinto in typeshed
        if not n:
            raise files.truncated(path, what, f"{done:,} of {len(view):,} bytes of voxels are there")
        done += n
    file.read(1)  # reaches the end of a gzip stream, where its checksum is verified
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder())
    return array
