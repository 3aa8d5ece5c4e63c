"""DICOM slices → one array, sorted by position (`imaging/dicom_frames.py`) and rescaled (HU for CT).

Slices are decoded one by one into the final array, so a series is never held twice in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, dicom_header, files
from r2seg_agent.imaging.dicom_frames import Frame, stacked
from r2seg_agent.imaging.dicom_header import DicomFile
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.memory import check_memory

_PHYSICAL = frozenset({"CT", "MR", "PT", "NM"})
"""Modalities whose stored values are a quantity: MONOCHROME1 only says that viewers show low values bright. A copy of
the screen (8 bits, no rescale slope) is for display in them too."""
_PIXEL_TAGS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_series(
    source: Path,
    members: Sequence[DicomFile],
    what: str = "image",
    note: Callable[[str], None] = lambda text: None,
    *,
    colours: bool = False,
) -> tuple[NDArray[Any], Geometry]:
    """Voxels (z, y, x), rescaled by slope and intercept, and the grid in LPS mm; z runs along row × column.

    `colours`: an image of three samples a pixel (ultrasound, endoscopy) gives (z, y, x, 3) uint8, RGB whatever its
    colour space was; without it, colour is refused, and grey stored as colour is grey.

    Raises:
        InputError: mixed sizes or orientations, missing, repeated or unequally spaced slices, a tilted gantry,
            colour where none is allowed, or pixel data that cannot be decoded.
    """
    ordered, geometry = stacked(source, members, what, note)
    return _fill(source, what, ordered, geometry, colours=colours), geometry


def _fill(source: Path, what: str, frames: Sequence[Frame], geometry: Geometry, *, colours: bool) -> NDArray[Any]:
    out: NDArray[Any] | None = None
    filled = 0
    check_memory(source, what, sum(frame.file.frame_bytes for frame in frames))
    slopes, intercepts = np.ones(len(frames)), np.zeros(len(frames))
    unscaled = 0
    slot = {(frame.file.path, frame.index): z for z, frame in enumerate(frames)}
    for file in dict.fromkeys(frame.file for frame in frames):
        for index, (plane, rescale) in enumerate(_planes(source, what, file, colours=colours)):
            if (file.path, index) not in slot:
                raise files.truncated(file.path, what, "it holds more frames than its header says")
            z = slot[file.path, index]
            if plane.shape[:2] != geometry.shape[1:]:
                raise files.truncated(file.path, what, f"pixel data of shape {plane.shape}, not {geometry.shape[1:]}")
            if out is None:
                out = np.empty((*geometry.shape, *plane.shape[2:]), dtype=plane.dtype)
            elif plane.dtype != out.dtype or plane.ndim != out.ndim - 1:
                raise InputError(
                    f"The {what} series in `{source}` mixes number types ({_kind(out[0])} and {_kind(plane)}).",
                    "Put the slices of one acquisition into their own folder.",
                )
            out[z], (slopes[z], intercepts[z]) = plane, rescale or (1.0, 0.0)
            unscaled += rescale is None
            filled += 1
    if out is None or filled != len(frames):
        raise files.truncated(source, what, f"pixel data for {filled} of {len(frames)} slices are there")
    if 0 < unscaled < len(frames):
        raise InputError(
            f"The {what} series in `{source}` states its rescale slope in {len(frames) - unscaled} of {len(frames)} "
            "slices only: the others would come out on another scale.",
            "Copy or export the whole series again.",
        )
    return checks.rescale_slices(out, slopes.tolist(), intercepts.tolist())


def _kind(plane: NDArray[Any]) -> str:
    return f"{plane.dtype} colour" if plane.ndim == 3 else str(plane.dtype)


def _planes(
    source: Path, what: str, file: DicomFile, *, colours: bool
) -> Iterator[tuple[NDArray[Any], tuple[float, float] | None]]:
    """Decoded frames of one file, each with its rescale slope and intercept where the file states them."""
    from pydicom.pixels.utils import iter_pixels, pixel_array

    ds: Any = None
    with dicom_header.quiet():
        try:
            # A file of many frames is decoded frame by frame from disk, never loaded as a whole.
            whole = file.n_frames == 1 or not files.has_dicom_magic(files.read_head(file.path, what))
            ds = dicom_header.read_dataset(file.path, stop_before_pixels=not whole)
            if file.n_frames == 1 and not any(name in ds for name in _PIXEL_TAGS):
                raise InputError(
                    f"The {what} `{file.path}` is a DICOM header without pixel data.", "Copy or export it again."
                )
            if file.n_frames == 1 and "NumberOfFrames" in ds:
                ds.NumberOfFrames = 1  # whatever its text was
            planes = iter([pixel_array(ds)]) if file.n_frames == 1 else iter_pixels(ds if whole else file.path)
            for index, plane in enumerate(planes):
                rescale = _rescale(ds, index)
                physical = file.modality in _PHYSICAL and (rescale is not None or int(ds.get("BitsStored") or 0) > 8)
                if physical and rescale is None and ds.get("ModalityLUTSequence"):
                    raise InputError(
                        f"The {what} `{file.path}` gives its values by a look-up table (Modality LUT), not by a slope.",
                        "Export the series again with a rescale slope and intercept.",
                    )
                yield _plane(file.path, what, ds, plane, colours=colours, physical=physical), rescale
        except InputError:
            raise
        except PermissionError as error:
            with files.readable(file.path, what):
                raise error
        except Exception as error:  # each decoder has its own exceptions
            raise _undecodable(file, what, ds, error) from None


def _rescale(ds: Any, index: int) -> tuple[float, float] | None:
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    shared = ds.get("SharedFunctionalGroupsSequence")
    groups = []  # the frame's own values win over the shared ones, those over the file's
    for group in ((per_frame[index] if per_frame else None), (shared[0] if shared else None)):
        macro = group.get("PixelValueTransformationSequence") if group is not None else None
        groups += [macro[0]] if macro else []
    groups.append(ds)
    for group in groups:
        if group.get("RescaleSlope") is not None:
            slope, intercept = float(group.RescaleSlope), float(group.get("RescaleIntercept") or 0.0)
            return (slope, intercept) if slope != 0 else (1.0, intercept)
    return None


def _plane(path: Path, what: str, ds: Any, plane: NDArray[Any], *, colours: bool, physical: bool) -> NDArray[Any]:
    """One grey channel (y, x) in the number type of the file, or colours (y, x, 3).

    `physical`: the values are a quantity (HU, activity), whatever a viewer makes of them. Else they are for display,
    and brighter becomes larger.
    """
    if plane.ndim == 3 and plane.shape[-1] in (3, 4):
        if colours and plane.dtype == np.uint8:
            return plane[..., :3]
        if not ((plane[..., 0] == plane[..., 1]).all() and (plane[..., 1] == plane[..., 2]).all()):
            raise InputError(
                f"The {what} `{path}` is a colour (RGB) DICOM image; one grey value per pixel is needed.",
                "Choose a grey series, or save it with 8 bits a colour.",
            )
        plane = plane[..., 0]
    bits, allocated = int(ds.get("BitsStored") or 0), int(ds.get("BitsAllocated") or 0)
    if plane.dtype.kind == "i" and 0 < bits < allocated == plane.dtype.itemsize * 8:
        shift = allocated - bits
        plane = (plane << shift) >> shift  # the sign bit is the highest *stored* bit
    if ds.get("PhotometricInterpretation") == "MONOCHROME1" and not physical and plane.dtype.kind in "iu":
        top = (1 << bits) - 1 if plane.dtype.kind == "u" else -1
        plane = (top - plane.astype(np.int64)).astype(plane.dtype)
    return plane


def _undecodable(file: DicomFile, what: str, ds: Any, error: Exception) -> InputError:
    syntax = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", None)
    name = str(getattr(syntax, "name", "unknown"))
    detail = files.last_sentence(str(error).splitlines()[0] if str(error) else type(error).__name__).rstrip(".")
    return InputError(
        f"The pixels of the {what} `{file.path}` cannot be decoded: {detail} (DICOM transfer syntax: {name}).",
        "The file may be truncated: copy it again. Or convert it to an uncompressed transfer syntax "
        "(dcmconv, gdcmconv --raw).",
    )
