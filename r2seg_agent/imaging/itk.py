"""The one typed seam for SimpleITK: NRRD and MetaImage in and out, and nothing of ITK's own errors to the user."""

from __future__ import annotations

import importlib
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.geometry import Geometry


def simpleitk() -> Any:
    """The SimpleITK module, its warnings off. Loaded on first use: it costs 0.1–0.3 s."""
    module: Any = importlib.import_module("SimpleITK")
    module.ProcessObject.SetGlobalWarningDisplay(False)
    return module


_CHUNK_BYTES = 1 << 20
_NUMPY_TYPES = {
    "sitkInt8": "i1",
    "sitkUInt8": "u1",
    "sitkInt16": "i2",
    "sitkUInt16": "u2",
    "sitkInt32": "i4",
    "sitkUInt32": "u4",
    "sitkInt64": "i8",
    "sitkUInt64": "u8",
    "sitkFloat32": "f4",
    "sitkFloat64": "f8",
}


@dataclass(frozen=True)
class ZlibVoxels:
    """Where a MetaImage file holds its voxels as one zlib stream: `n_bytes` when unpacked, in the file's byte order."""

    offset: int
    n_bytes: int
    big_endian: bool


class _Keeper:
    """Lends an ITK image's buffer to NumPy and keeps the image alive as long as the array lives."""

    def __init__(self, image: Any) -> None:
        self._image = image
        interface = simpleitk().GetArrayViewFromImage(image).__array_interface__
        self.__array_interface__ = dict(interface)


def read_itk(
    path: Path,
    what: str = "image",
    packed: ZlibVoxels | None = None,
    note: Callable[[str], None] = lambda text: None,
    volume: int | None = None,
) -> tuple[NDArray[Any], Geometry]:
    """Voxels (z, y, x) of an NRRD or MetaImage file in ITK's own memory (no copy), with their geometry in LPS mm.

    The header's text is checked by `imaging.headers` before: ITK repairs or ignores some faults silently. With `packed`
    ITK reads the header only, and the voxels are streamed from there.

    Raises:
        InputError: ITK cannot read it, or it is a vector or complex image, several volumes and none
            chosen (`volume`, from 1), or its grid is unusable.
    """
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        reader.ReadImageInformation()
        dtype = _dtype(reader)
        sizes = tuple(int(n) for n in reader.GetSize())
        index = files.one_of_several(path, what, math.prod(sizes[3:]), volume, sizes)
        if math.prod(sizes[3:]) > 1:
            reader.SetExtractSize([*sizes[:3], *[0] * (len(sizes) - 3)])
            reader.SetExtractIndex([0, 0, 0, *(int(n) for n in np.unravel_index(index, sizes[3:], order="F"))])
        streamed = (
            packed is not None
            and math.prod(sizes[3:]) == 1
            and packed.n_bytes == math.prod(reader.GetSize()) * dtype.itemsize
        )
        image = None if streamed else reader.Execute()
    except RuntimeError as error:
        raise unreadable(path, what, error) from None
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        raise vector_error(path, what, components)
    array = _unpack(path, what, packed, dtype) if packed is not None and streamed else np.asarray(_Keeper(image))
    checks.check_grey_type(path, what, array.dtype.kind, str(array.dtype))
    array = array.reshape((1, *sizes[:3][::-1])[-3:])
    return array, itk_geometry(path, what, reader, array.shape, note)


def itk_voxels(
    image: Any, name: Path, what: str = "image", note: Callable[[str], None] = lambda text: None
) -> tuple[NDArray[Any], Geometry]:
    """A copy of the voxels (z, y, x) of a `SimpleITK.Image`, with their geometry in LPS mm.

    Raises:
        InputError: a vector, complex or 4D image, or an unusable grid.
    """
    components = int(image.GetNumberOfComponentsPerPixel())
    if components != 1:
        raise vector_error(name, what, components)
    sizes = tuple(int(n) for n in image.GetSize())
    if any(n != 1 for n in sizes[3:]):
        raise dimension_error(name, what, sizes)
    array = np.array(simpleitk().GetArrayViewFromImage(image))
    checks.check_grey_type(name, what, array.dtype.kind, str(array.dtype))
    array = array.reshape((1, *sizes[::-1])[-3:])
    return array, itk_geometry(name, what, image, array.shape, note)


def itk_geometry(
    path: Path, what: str, image: Any, shape: tuple[int, ...], note: Callable[[str], None] = lambda text: None
) -> Geometry:
    """The grid of an ITK image, or of a reader that has seen its header; `shape` is (z, y, x). Raises `InputError`."""
    ndim = int(image.GetDimension())
    n = min(ndim, 3)
    spacing = list(image.GetSpacing()[:n]) + [1.0] * (3 - n)
    origin = list(image.GetOrigin()[:n]) + [0.0] * (3 - n)
    direction = np.eye(3)
    direction[:n, :n] = np.asarray(image.GetDirection(), dtype=np.float64).reshape(ndim, ndim)[:n, :n]
    known: Literal["zyx", "yx"] = "yx" if ndim == 2 else "zyx"
    return checks.checked_geometry(
        path,
        what,
        shape=shape,
        spacing_zyx_mm=spacing[::-1],
        origin_lps_mm=origin,
        direction=direction,
        known_spacing=known,
        note=note,
    )


def _dtype(reader: Any) -> np.dtype[Any]:
    """The NumPy type of the file's voxels; void where ITK has no plain number for it."""
    sitk = simpleitk()
    pixel_id = reader.GetPixelID()
    return np.dtype(next((t for name, t in _NUMPY_TYPES.items() if getattr(sitk, name) == pixel_id), "V1"))


def _unpack(path: Path, what: str, where: ZlibVoxels, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The voxels of a zlib stream, flat and in native byte order."""
    array = np.empty(where.n_bytes // dtype.itemsize, dtype=dtype)
    view = memoryview(array.view(np.uint8).data)
    done = 0
    inflate = zlib.decompressobj()
    with files.readable(path, what), path.open("rb") as file:
        file.seek(where.offset)
        while done < len(view) and (chunk := file.read(_CHUNK_BYTES)):
            try:
                part = inflate.decompress(chunk)
            except zlib.error:
                raise files.truncated(path, what, "the compressed voxels are corrupt") from None
            n = min(len(part), len(view) - done)
            view[done : done + n] = part[:n]
            done += n
    if done < len(view):
        raise files.truncated(path, what, f"{done:,} of {len(view):,} bytes of voxels are there")
    if where.big_endian:
        array.byteswap(inplace=True)
    return array


def write_itk(path: Path, array: NDArray[Any], geometry: Geometry, metadata: Mapping[str, str] | None = None) -> None:
    """Write a (z, y, x) array compressed; `path`'s suffix (.nrrd, .mha, …) decides the format."""
    sitk = simpleitk()
    image = to_itk(array, geometry)
    for key, value in (metadata or {}).items():
        image.SetMetaData(key, value)
    try:
        sitk.WriteImage(image, os.fspath(path), True)
    except RuntimeError as error:
        raise InputError(f"`{path}` cannot be written: {_reason(error)}.", "Choose another folder or name.") from None


def to_itk(array: NDArray[Any], geometry: Geometry) -> Any:
    """A SimpleITK image of a (z, y, x) array on its grid."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_lps_mm)
    image.SetDirection(geometry.direction)
    return image


def unreadable(path: Path, what: str, error: Exception) -> InputError:
    """The readable form of a RuntimeError out of ITK."""
    return InputError(
        f"The {what} `{path}` cannot be read: {_reason(error)}.",
        "It may be damaged or of another format than its suffix says. Open it in a viewer, or export it again.",
    )


def vector_error(path: Path, what: str, components: int) -> InputError:
    """The error for several values per voxel."""
    return InputError(
        f"The {what} `{path}` has {components} values per voxel (colour, vector or complex); one grey value is needed.",
        "Save one channel as its own image.",
    )


def dimension_error(path: Path, what: str, sizes: tuple[int, ...]) -> InputError:
    """The error for 4D images; sizes in the file's own order (x, y, z, t)."""
    return InputError(
        f"The {what} `{path}` is {len(sizes)}D, of shape {' × '.join(map(str, sizes))}; one 3D volume is needed.",
        "Save the time point or channel you need as its own 3D file.",
    )


def _reason(error: Exception) -> str:
    """The last informative line of ITK's report, without addresses and source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    listed = [line for line in lines if not line.startswith("Exception thrown") and ".cxx:" not in line]
    text = listed[-1] if listed else "unknown reason"
    text = re.sub(r"^ITK ERROR: \w+\(\w+\): |^\[nrrd\] \w+: ", "", text)
    return (files.last_sentence(text) or "unknown reason").rstrip(".")
