"""NIfTI headers: what they say, checked by hand, and which of their two affines to believe.

nibabel parses the raw fields; its own repairs (zero spacing becomes 1 mm) are off.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.geometry import DIRECTION_TOLERANCE

MM_PER_UNIT: dict[int, float] = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI `xyzt_units & 7`: unknown (taken as mm), metre, millimetre, micrometre."""
SPACING_TOLERANCE = 0.01
"""`pixdim` and the orientation matrix may state spacings that differ by this share without a word."""
MIN_HEADER_BYTES = 348
MAX_OFFSET_BYTES = 1 << 30
"""Header extensions before the voxels are some kilobytes; a gigabyte is none."""


ColourLayout = Literal["interleaved", "planar"]
"""How the colours of a picture are stored: voxel by voxel (the RGB number types), or colour by colour (a last axis)."""
_RGB_TYPES = {128: 3, 2304: 4}
"""NIfTI datatype codes RGB24 and RGBA32 → their number of colours."""
_UINT8 = 2


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says about voxels and grid; the affine is (x, y, z) voxels → RAS mm, None when unset.

    `sizes` are all dimensions of the file. `remarks` say what of the header was not believed.
    A colour picture has `n_colours` (3: RGB, 4: RGBA) of type uint8 for each voxel of `shape_xyz`.
    """

    shape_xyz: tuple[int, int, int]
    ndim: int
    offset: int
    spacing_xyz: tuple[float, float, float]
    affine_ras: NDArray[np.float64] | None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.int16))
    slope: float = 1.0
    intercept: float = 0.0
    colours: ColourLayout | None = None
    n_colours: int = 1
    remarks: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()


def read_header(path: Path, what: str, file: IO[bytes], *, colours: bool = False) -> Header:
    """The header at the start of an (unpacked) stream. `colours`: a colour picture is allowed (see `_colours`).

    Raises:
        InputError: not NIfTI, complex, colour where none is allowed, or fields that no file can have.
    """
    nibabel = nibabel_module()
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
    layout, n_colours = _colours(raw, shape) if colours else (None, 1)
    if layout == "planar":
        shape, ndim = shape[:2], 2
    all_sizes = tuple(shape)
    shape = [*shape, 1, 1][:3]
    try:
        dtype = np.dtype(raw.get_data_dtype())
    except Exception as error:
        raise InputError(
            f"The {what} `{path}` has an unknown NIfTI number type ({error}).", "Export it again."
        ) from None
    if layout is not None:
        dtype = np.dtype(np.uint8)
    if dtype.itemsize > 8 and dtype.kind == "f":
        raise InputError(f"The {what} `{path}` holds {dtype.itemsize * 8}-bit floats.", "Save it as float32.")
    checks.check_grey_type(path, what, dtype.kind, "colour (RGB)" if dtype.kind == "V" else str(dtype))
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not np.isfinite(slope):  # the standard's way to say "no scaling"
        slope, intercept = 1.0, 0.0
    if not np.isfinite(intercept):
        raise InputError(f"The {what} `{path}` has the rescale intercept {intercept}.", "Export it again.")
    grid = _grid(path, what, raw, (shape[0], shape[1], shape[2]), min(ndim, 3))
    if layout is not None:  # colours are never rescaled
        return replace(grid, dtype=dtype, colours=layout, n_colours=n_colours, sizes=all_sizes)
    return replace(grid, dtype=dtype, slope=slope, intercept=intercept, sizes=all_sizes)


def _colours(raw: Any, shape: list[int]) -> tuple[ColourLayout | None, int]:
    """(layout, number) of the colours of a picture, (None, 1) for grey.

    Colours are: the number types RGB24 and RGBA32; and bytes (uint8) whose last axis has 3 or 4 entries behind an
    image of one slice, as (x, y, 1, 3) or (x, y, 3). The last is how arrays of pictures are often saved, and three
    slices of a scan of 8 bits look the same: these count as colours only where the header states no grid of a scanner
    (voxels of 1 mm along the axes).
    """
    code = int(raw["datatype"])
    if code in _RGB_TYPES:
        return "interleaved", _RGB_TYPES[code]
    own = [n for n in shape[2:] if n != 1]
    if code != _UINT8 or len(own) != 1 or own[0] not in (3, 4) or shape[-1] != own[0]:
        return None, 1
    if len(shape) > 3:
        return "planar", own[0]
    plain = [float(v) for v in raw["pixdim"][1:4]] == [1.0, 1.0, 1.0]
    matrices = [np.asarray(raw.get_sform())] if int(raw["sform_code"]) > 0 else []
    if int(raw["qform_code"]) > 0:
        matrices.append(np.asarray(raw.get_qform()))
    along = all(np.array_equal(np.abs(m[:3, :3]), np.eye(3)) and not m[:3, 3].any() for m in matrices)
    return ("planar", own[0]) if plain and along else (None, 1)


def nibabel_module() -> Any:
    """nibabel as an untyped module: its own annotations are partial."""
    return importlib.import_module("nibabel")


def _grid(path: Path, what: str, raw: Any, shape_xyz: tuple[int, int, int], ndim: int) -> Header:
    """The geometric part of a header; the number type is filled in by the caller."""
    mm = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    pixdim = [float(v) * mm for v in raw["pixdim"][1:4]]
    if shape_xyz[2] == 1 and not (np.isfinite(pixdim[2]) and pixdim[2] > 0):
        pixdim[2], ndim = 1.0, 2
    if ndim < 3:
        pixdim[2] = 1.0
    usable = all(np.isfinite(step) and step > 0 for step in pixdim)
    offset = float(raw["vox_offset"])
    if not 0 <= offset <= MAX_OFFSET_BYTES:
        raise InputError(
            f"The {what} `{path}` has an impossible NIfTI header: its voxels begin at byte {offset:g}.",
            "Export it again from the source.",
        )
    affine = _affine(path, what, raw, shape_xyz, ndim, with_qform=usable)
    remarks = []
    if affine is None:
        checks.check_spacing(path, what, pixdim[::-1])
    else:
        affine[:3] *= mm
        own = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(pixdim, own, rtol=SPACING_TOLERANCE, atol=0):
            said = " × ".join(f"{step:g}" for step in pixdim)
            remarks.append(
                f"The NIfTI header of the {what} states a spacing (pixdim) of {said} mm and an orientation matrix "
                f"of {' × '.join(f'{step:g}' for step in own)} mm (x, y, z): the matrix was used."
            )
    return Header(
        shape_xyz=shape_xyz,
        ndim=ndim,
        offset=int(offset),
        spacing_xyz=(pixdim[0], pixdim[1], pixdim[2]),
        affine_ras=affine,
        remarks=tuple(remarks),
    )


def _affine(
    path: Path, what: str, raw: Any, shape_xyz: tuple[int, int, int], ndim: int, *, with_qform: bool
) -> NDArray[np.float64] | None:
    """The header's affine: sform where it is a rotation, else qform; None when neither is set.

    The qform takes its spacing from `pixdim`: without `with_qform` that is no number of mm, and neither is the qform.

    Raises `InputError` when both claim the same space and put some corner more than one voxel apart: then left and
    right themselves may be in doubt.
    """
    sform = np.asarray(raw.get_sform(), dtype=np.float64) if int(raw["sform_code"]) > 0 else None
    qform: NDArray[np.float64] | None = None
    if with_qform and int(raw["qform_code"]) > 0:
        if raw["pixdim"][0] == 0:  # the standard: treat as +1
            raw["pixdim"][0] = 1
        try:
            qform = np.asarray(raw.get_qform(), dtype=np.float64)
        except Exception:  # nibabel has several for numbers that are no rotation
            qform = None
    if ndim < 3:
        sform = _thick(sform)
        qform = _thick(qform)
    if sform is None:
        return qform
    if qform is None:
        return sform
    if _is_rigid(qform) and int(raw["sform_code"]) == int(raw["qform_code"]):
        apart = largest_shift_mm(sform, qform, shape_xyz) / float(np.linalg.norm(qform[:3, :3], axis=0).min())
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


def largest_shift_mm(a: NDArray[np.float64], b: NDArray[np.float64], shape_xyz: tuple[int, ...]) -> float:
    """The largest distance of a grid's corner from itself under two affines."""
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.asarray(shape_xyz) - 1
    return float(np.linalg.norm(corners @ (a - b)[:3].T, axis=1).max())
