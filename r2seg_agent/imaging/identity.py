"""Content hashes of scans: the same voxels on the same grid have the same name everywhere, and no other name leaks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume


def volume_sha256(volume: Volume) -> str:
    """SHA-256 over voxels (shape, number type, values) and geometry (exact floats), as hex; over those of each further
    channel and its name too, where there are any.
    """
    own = array_sha256(volume.array, volume.geometry)
    if not volume.channels:
        return own
    digest = hashlib.sha256(f"r2seg-channels-1|{own}|{len(volume.channels)}|".encode())
    for name in sorted(volume.channels):
        part = own if volume.channels[name] is volume.array else array_sha256(volume.channels[name], volume.geometry)
        digest.update(f"{len(name)}:{name}={part}|".encode())
    return digest.hexdigest()


def array_sha256(array: NDArray[Any], geometry: Geometry | None, params: str = "") -> str:
    """SHA-256 over an array, its grid (None for arrays without one) and `params`, what made it, as hex.

    Independent of memory order and byte order; reads along the first axis, so no large copy is made.
    """
    digest = hashlib.sha256()
    stored = array.dtype.newbyteorder("<")
    digest.update(f"r2seg-array-1|{stored.str}|{array.shape}|{geometry_text(geometry)}|{params}|".encode())
    for part in array if array.ndim > 1 else (array,):
        digest.update(np.ascontiguousarray(part, dtype=stored).data)
    return digest.hexdigest()


def geometry_text(geometry: Geometry | None) -> str:
    """A grid as text with exact (hexadecimal) floats; -0.0 counts as 0.0."""
    if geometry is None:
        return "no grid"
    numbers = (*geometry.spacing_mm, *geometry.origin_lps_mm, *geometry.direction)
    return f"{geometry.shape}|{','.join((float(v) + 0.0).hex() for v in numbers)}|{geometry.known_spacing}"


def pseudonym(sha256: str) -> str:
    """The name of a scan in reports and traces: says nothing about patient or file."""
    return f"image-{sha256[:8]}"
