"""`read_image`: one scan or picture from disk as a `Volume`, or an `InputError` that says what to do.

RAS+ becomes LPS in `imaging/nifti.py`, nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import (
    checks,
    colour,
    dicom,
    dicom_frames,
    dicom_header,
    dicom_pixels,
    files,
    headers,
    itk,
    nifti,
    picture,
)
from r2seg_agent.imaging.dicom import SeriesInfo, list_series
from r2seg_agent.imaging.files import SourceFormat
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.identity import pseudonym, volume_sha256
from r2seg_agent.imaging.volume import Modality, Volume

__all__ = ["SeriesInfo", "checked_volume", "list_series", "looks_like_hu", "read_array", "read_image", "series_files"]

CT_AIR_HU = -500.0
"""Values this low mean air or lung in HU; no MR, PET or ultrasound image has them, but for phase maps."""
CT_LOWEST_HU = -1100.0
"""Below it CT holds only one padding value (-1024, -2000, -3024), …"""
CT_MAX_SHARE_BELOW = 0.01
"""… but for this share of voxels (noise)."""
CT_TISSUE_HU = (-200.0, 300.0)
"""Fat, water and soft tissue; …"""
CT_MIN_TISSUE_SHARE = 0.01
"""… at least this share of the voxels lies there."""
DISPLAY_RANGE = (0.0, 255.0)
"""Lowest and highest voxel of grey values that were windowed for a screen, in whatever number type they are kept."""
_GUESS_VOXELS = 2_000_000

_log = logging.getLogger(__name__)


def read_image(
    path: Path | str,
    *,
    series: str | None = None,
    modality: Modality | None = None,
    note: Callable[[str], None] | None = None,
) -> Volume:
    """Read NIfTI, NRRD, MetaImage, a DICOM file or series folder, or a 2D PNG, JPEG or TIFF.

    `FILE::2` is the second volume of a NIfTI, NRRD or MetaImage file that holds several.
    Voxels come as (z, y, x) in the file's own number type where it has at most 4 bytes (see `checks.compact`), CT in
    HU. `series` chooses among several DICOM series by key or number. `modality` overrides the DICOM tag; without a tag
    it is guessed only where the values can be nothing but HU (see `looks_like_hu`), else "unknown". `note` receives
    remarks that are no errors, for example what a DICOM folder held besides the series; the default logs them.
    A colour picture (PNG, JPEG, TIFF, DICOM, NIfTI) becomes grey by its luminance and keeps its colours among the
    channels (`imaging/colour.py`).

    Raises:
        InputError: the input is missing, damaged, ambiguous or not one 2D or 3D image.
    """
    path = Path(path)
    note = note or _log.info
    array, geometry, source_format, tagged = _load(path, series, note)
    return checked_volume(path, array, geometry, source_format, modality or tagged, note)


def checked_volume(
    path: Path,
    array: NDArray[Any],
    geometry: Geometry,
    source_format: SourceFormat,
    modality: Modality | None,
    note: Callable[[str], None],
) -> Volume:
    """What every scan goes through, whether it was read or handed over in memory; `path` is its name in messages.

    `array` is (z, y, x), or (z, y, x, 3) of a colour picture; it becomes read-only. `modality` None: see `read_image`.
    CT is in HU unless its values can only be those of a display: pictures, colours, and what fills 0 … 255.

    Raises:
        InputError: too small, constant, or with voxels that are no finite numbers.
    """
    checks.check_extent(path, "image", array.shape)
    colours: NDArray[np.uint8] | None = None
    if array.ndim == 4:
        colours = array if colour.is_coloured(array) else None
        array = np.ascontiguousarray(array[..., 0]) if colours is None else colour.grey_of(array)
    array = checks.compact(path, "image", array)
    lowest, highest = checks.check_voxels(path, "image", array)
    if modality is None:
        modality = "CT" if source_format != "picture" and looks_like_hu(array) else "unknown"
    # Pictures of a CT hold display values, not HU, whatever the user calls them; so does a windowed slice of 8 bits.
    displayed = source_format == "picture" or array.dtype == np.uint8 or (lowest, highest) == DISPLAY_RANGE
    hounsfield = modality == "CT" and not displayed
    if hounsfield and lowest >= 0:
        note("The image is taken as CT, but no voxel is below 0: its values may not be HU.")
    volume = Volume(array, geometry, modality, "HU" if hounsfield else "arbitrary", source_format=source_format)
    if colours is not None:
        volume = replace(volume, channels=colour.as_channels(colours))
    return replace(volume, name=pseudonym(volume_sha256(volume)))


def looks_like_hu(array: NDArray[Any]) -> bool:
    """True when values can hardly be anything but Hounsfield units.

    Some voxel is air or lung (≤ -500), at least 1 % are soft tissue (-200 … 300), and below -1100 lies nothing but one
    padding value (1 % tolerated). A CT crop without air is not recognised: name its modality.
    """
    step = max(1, round((array.size / _GUESS_VOXELS) ** (1 / 3)))
    sample = array[:, ::step, ::step] if step > 1 else array
    lowest = float(sample.min())
    if lowest > CT_AIR_HU:
        return False
    below = np.count_nonzero(sample < CT_LOWEST_HU) - (
        np.count_nonzero(sample == lowest) if lowest < CT_LOWEST_HU else 0
    )
    tissue = np.count_nonzero((sample >= CT_TISSUE_HU[0]) & (sample <= CT_TISSUE_HU[1]))
    return bool(below <= CT_MAX_SHARE_BELOW * sample.size and tissue >= CT_MIN_TISSUE_SHARE * sample.size)


def series_files(path: Path | str, series: str | None = None) -> tuple[Path, ...]:
    """The files of the DICOM series that `read_image` reads, in the order of its slices (for `write_dicom_seg`).

    Raises:
        InputError: see `read_image`.
    """
    path = Path(path)
    members = (
        dicom.choose_series(path, dicom.scan_folder(path), series)
        if path.is_dir()
        else [dicom_header.read_single(path)]
    )
    return dicom_frames.files_in_order(path, members)


def read_array(
    path: Path,
    what: str,
    note: Callable[[str], None] = lambda text: None,
    *,
    colours: bool = False,
    volume: int | None = None,
) -> tuple[NDArray[Any], Geometry, SourceFormat]:
    """Raw voxels (z, y, x), grid and format of any file but a DICOM folder; what images and masks share.

    `colours`: a colour picture gives (z, y, x, 3); without it, it is refused. `volume` chooses one of a NIfTI, NRRD or
    MetaImage file that holds several (from 1).

    Raises:
        InputError: see `read_image`.
    """
    head = files.read_head(path, what)
    suffix = files.suffix_of(path)
    source_format = files.FORMAT_OF_SUFFIX.get(suffix)
    if suffix in (".hdr", ".img") or path.name.lower().endswith((".hdr.gz", ".img.gz")):
        raise InputError(
            f"The {what} `{path}` is one half of a NIfTI or Analyze pair (.hdr and .img); one file is needed.",
            "Convert the pair to one .nii, for example with `nib-convert scan.hdr scan.nii`.",
        )
    if source_format is None and (files.looks_like_dicom(head) or not suffix):
        source_format = "dicom"
    if source_format is None:
        raise InputError(
            f"The {what} `{path}` has the unknown suffix `{suffix}` and looks like {files.describe_content(head)}. "
            f"{files.ALLOWED}",
            "Convert it to one of them, or give the file its true suffix.",
        )
    if volume is not None and source_format not in ("nifti", "nrrd", "metaimage"):
        raise InputError(
            f"The {what} `{path}` holds no volumes to choose from (`::{volume}`).", "Leave the number out."
        )
    if source_format == "nifti":
        return *nifti.read_nifti(path, what, note, colours=colours, volume=volume), source_format
    if source_format == "picture":
        return *picture.read_picture(path, what, note, colours=colours), source_format
    if source_format == "dicom":
        member = dicom_header.read_single(path, what)
        return *dicom_pixels.read_series(path, [member], what, note, colours=colours), source_format
    if source_format == "metaimage":
        packed = headers.check_metaimage_header(path, what)
        return *itk.read_itk(path, what, packed, note, volume), source_format
    headers.check_nrrd_header(path, what)
    return *itk.read_itk(path, what, None, note, volume), source_format


def _load(
    path: Path, series: str | None, note: Callable[[str], None]
) -> tuple[NDArray[Any], Geometry, SourceFormat, Modality | None]:
    """Voxels, grid, format, and the modality where the file states one."""
    path, chosen = files.split_volume(path)
    files.check_path(path, "image")
    if path.is_dir():
        found = dicom.scan_folder(path)
        members = dicom.choose_series(path, found, series)
        if found.skipped:
            note(f"Skipped in the DICOM folder: {found.skipped_text()}.")
        array, geometry = dicom_pixels.read_series(path, members, note=note, colours=True)
        return array, geometry, "dicom", dicom_header.MODALITIES.get(members[0].modality, "unknown")
    if series is not None:
        raise InputError(
            f"The image `{path}` is a file, and a series (`{series}`) can be chosen only in a DICOM folder.",
            "Leave --series out, or name the folder.",
        )
    array, geometry, source_format = read_array(path, "image", note, colours=True, volume=chosen)
    tagged = (
        dicom_header.MODALITIES.get(dicom_header.read_single(path).modality, "unknown")
        if source_format == "dicom"
        else None
    )
    return array, geometry, source_format, tagged
