"""The NIfTI seam: headers by nibabel, voxels streamed straight into one array. The only place that knows RAS+.

Everything inside r2seg is LPS; NIfTI is RAS+, so x and y change sign here, in both directions, and nowhere else.
Voxels are not read through ITK or nibabel's image classes, because ITK silently repairs zero spacing and reads into two
buffers, and nibabel turns scaled integers into float64 (eight times an int16 CT).
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.colour import opaque
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.memory import check_memory
from r2seg_agent.imaging.nifti_header import Header, largest_shift_mm, nibabel_module, read_header

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
"""Its own inverse."""
QFORM_TOLERANCE_MM = 0.5e-3
"""The qform stores three of four quaternion numbers as float32; near half turns (a slightly oblique LPS scan is one)
the fourth, and with it every far corner, is off by up to some tenths of a mm. Such a qform is marked as unset: readers
then take the exact sform."""
GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 22


def read_nifti(
    path: Path,
    what: str = "image",
    note: Callable[[str], None] = lambda text: None,
    *,
    colours: bool = False,
    volume: int | None = None,
) -> tuple[NDArray[Any], Geometry]:
    """Voxels (z, y, x), rescaled by the header's slope and intercept, with their geometry in LPS mm.

    `volume` chooses one of a file that holds several (from 1).

    `colours`: a colour picture gives (z, y, x, 3) uint8; without it, it is refused.

    Raises:
        InputError: not a NIfTI file, truncated, several volumes and none chosen, complex, colour where none is
            allowed, or a header that contradicts itself.
    """
    compressed = files.read_head(path, what).startswith(GZIP_MAGIC)
    with files.readable(path, what), unpacked(path) as file:
        try:
            header = read_header(path, what, file, colours=colours)
            n_volumes = math.prod(header.sizes[3:])
            index = files.one_of_several(path, what, n_volumes, volume, header.sizes)
            wanted = math.prod(header.shape_xyz) * header.dtype.itemsize * header.n_colours
            header = replace(header, offset=header.offset + index * wanted)
            stored = path.stat().st_size - (0 if compressed else header.offset)
            files.check_plausible_size(path, what, wanted, stored, compressed=compressed)
            check_memory(path, what, wanted)
            raw = _read_voxels(path, what, file, header)
        except EOFError:
            raise files.truncated(path, what, "the gzip data end too early") from None
        except (zlib.error, gzip.BadGzipFile):
            raise files.truncated(path, what, "the gzip data are corrupt, their checksum does not match") from None
    n = header.shape_xyz[2]
    geometry = _geometry(path, what, header, note)
    if header.colours is not None:
        return opaque(path, what, raw), geometry
    return checks.rescale_slices(raw, [header.slope] * n, [header.intercept] * n), geometry


def nifti_voxels(
    image: Any, name: Path, what: str = "image", note: Callable[[str], None] = lambda text: None
) -> tuple[NDArray[Any], Geometry]:
    """A copy of the voxels (z, y, x) of a nibabel image in memory, with their geometry in LPS mm.

    The image's own (x, y, z) voxels keep their places: index [z, y, x] here is [x, y, z] there. Header and grid go
    through the checks of a file; so an image and the NIfTI file that `nibabel.save` makes of it are the same scan,
    where the file holds the same numbers (a header may ask for a narrower number type than the array's).

    A colour picture gives (z, y, x, 3) uint8.

    Raises:
        InputError: 4D or complex, or a header that contradicts itself.
    """
    nibabel = nibabel_module()
    second = isinstance(image, nibabel.Nifti2Image)
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    stored = image.header if isinstance(image, nibabel.Nifti1Pair) else None
    given = image.dataobj
    # A new image: its header is brought up to date with the affine, and the caller's stays untouched.
    fresh = kind(np.broadcast_to(np.zeros((), given.dtype), given.shape), image.affine, stored, dtype=given.dtype)
    raw = io.BytesIO()
    fresh.header.write_to(raw)
    raw.seek(0)
    header = read_header(name, what, raw, colours=True)
    if math.prod(header.sizes[3:]) != 1:
        raise InputError(
            f"The {what} `{name}` is {len(header.sizes)}D, of shape {' × '.join(map(str, header.sizes))}; one 3D "
            "volume is needed.",
            "Give one of its volumes: `image.slicer[..., 0]`.",
        )
    if header.colours is not None:
        return _colours_in_memory(given, header, name, what), _geometry(name, what, header, note)
    scaled = hasattr(given, "get_unscaled")
    voxels = np.asarray(given.get_unscaled() if scaled else given)
    checks.check_grey_type(name, what, voxels.dtype.kind, str(voxels.dtype))
    slope, intercept = (float(given.slope), float(given.inter)) if scaled else (1.0, 0.0)
    turned = np.array(voxels.reshape(header.shape_xyz).T, dtype=voxels.dtype.newbyteorder("="), order="C")
    n = header.shape_xyz[2]
    return checks.rescale_slices(turned, [slope] * n, [intercept] * n), _geometry(name, what, header, note)


def _colours_in_memory(given: Any, header: Header, name: Path, what: str) -> NDArray[np.uint8]:
    """(z, y, x, 3) of the voxels of a colour picture: records of R, G, B (x, y, z), or a last axis of colours."""
    voxels = np.asarray(given)
    if header.colours == "interleaved":
        voxels = np.stack([voxels[field] for field in voxels.dtype.names or ()], axis=-1)
    x, y, z = header.shape_xyz
    turned = np.ascontiguousarray(voxels.reshape(x, y, z, header.n_colours).transpose(2, 1, 0, 3))
    return opaque(name, what, turned)


def write_nifti(
    file: IO[bytes], array: NDArray[Any], geometry: Geometry, names: Mapping[int, str] | None = None
) -> None:
    """Write a (z, y, x) array as an uncompressed single-file NIfTI-1 stream, scanner-anatomical sform and qform.

    `names` goes into the header extension that TotalSegmentator and Connectome Workbench read.
    """
    nibabel = nibabel_module()
    affine = lps_to_ras_affine(geometry)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    if largest_shift_mm(np.asarray(header.get_qform()), affine, array.shape[::-1]) > QFORM_TOLERANCE_MM:
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


def unpacked(path: Path) -> IO[bytes]:
    """The file opened for reading, through gzip where its first bytes say so, whatever its name says."""
    with path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]  # GzipFile is an IO


def _geometry(path: Path, what: str, header: Header, note: Callable[[str], None]) -> Geometry:
    known: Literal["zyx", "yx"] = "zyx" if header.ndim == 3 else "yx"
    for remark in header.remarks:
        note(remark)
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
        note=note,
    )


def _read_voxels(path: Path, what: str, file: IO[bytes], header: Header) -> NDArray[Any]:
    file.seek(header.offset)
    shape: tuple[int, ...] = header.shape_xyz[::-1]
    if header.colours is not None:
        shape = (*shape, header.n_colours) if header.colours == "interleaved" else (header.n_colours, *shape)
    array = np.empty(shape, dtype=header.dtype)
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
    return np.moveaxis(array, 0, -1) if header.colours == "planar" else array
