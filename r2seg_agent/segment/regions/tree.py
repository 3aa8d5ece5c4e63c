"""Nested regions from component trees: connected parts of thresholds, bright and dark, at several smoothings.

The parts of rising thresholds form a tree (a max-tree with quantised levels). A part is kept when it is much smaller
than the last kept one above it, so a lesion is kept once for each size that it has, whatever its grey value is relative
to the organ's: nothing hangs on one global reference. Two more views of the image give trees of their own: grey values
less their mean nearby (what slow changes of the organ hide), and thresholds whose parts are cut apart where they are
thin (what is joined to the organ's wall).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.segment.regions.grid import WorkingGrid

View = Literal["grey", "local", "opened"]
SIGMAS = (0.7, 1.5, 3.0)
"""Smoothings in blocks of the working grid."""
LOCAL_SHARES = (0.12, 0.3)
"""Sizes of the neighbourhoods whose mean is taken off, as shares of the organ's size."""
LEVELS = np.concatenate([np.linspace(0.03, 0.97, 20), [0.985, 0.993]])
"""Thresholds as quantiles of the searched values."""
KEPT_SHRINKAGE = 0.82
"""A part is kept when it has at most this share of the kept part that holds it."""
LARGEST_SHARE = {2: 0.95, 3: 0.6}
"""Of the searched region: what is larger is the organ itself. In a slice a tumour may be all of the organ in view."""
LEAST_VOXELS = {2: 8, 3: 12}
OPENED_FROM = {2: 60, 3: 120}
"""Parts of more voxels lose their thin bridges (binary opening), unless that takes more than half of them."""
REACH = 3
"""Blocks around the organ that are searched too."""
CUT_LEVELS = (0.25, 0.5, 0.7, 0.87)
LEAST_CORE = 2
MOST_OF_A_SIZE = 20
"""Parts of a tree within a factor of 2 of size; those that stand out least are left out."""
CUT_RADII = (1.8, 3.5, 6.0, 10.0)
"""Radii in blocks at which parts are cut apart."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A region: `mask` covers `box` of the working grid. `life`: over how many thresholds it kept its size.

    `sign` 1: brighter than what surrounds it, −1: darker. `view`: what it was found in.
    """

    box: tuple[slice, ...]
    mask: Mask
    sigma: float
    sign: int
    life: int
    view: View


@dataclass(frozen=True, eq=False)
class _Part:
    """A part before its mask is cut out: `labels == label` inside `box`, and how much it stands out."""

    labels: NDArray[Any]
    label: int
    box: tuple[slice, ...]
    size: int
    sigma: float
    sign: int
    contrast: float
    view: View
    life: int = 0


class _Contrasts:
    """Grey values less their mean nearby, for neighbourhoods of doubling size: how much a part stands out."""

    def __init__(self, grey: FloatArray) -> None:
        self.differences = [grey - ndimage.gaussian_filter(grey, 2.0**k) for k in range(1, 6)]
        self.ndim = grey.ndim

    def of(self, labels: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean difference of every part, (n,), each against a neighbourhood of about its own radius."""
        radii = (sizes / np.pi) ** 0.5 if self.ndim == 2 else (3.0 * sizes / (4.0 * np.pi)) ** (1.0 / 3.0)
        which = np.clip(np.round(np.log2(np.maximum(radii, 1.0))) - 1, 0, len(self.differences) - 1).astype(int)
        at, out = np.flatnonzero(labels), np.zeros(len(sizes))
        flat = labels.ravel()[at]
        for k in np.unique(which[1:]).tolist():
            sums = np.bincount(flat, weights=self.differences[k].ravel()[at], minlength=len(sizes))
            out[which == k] = (sums / np.maximum(sizes, 1))[which == k]
        return out


def propose(grid: WorkingGrid) -> list[Proposal]:
    """The regions of a grid; their order depends on nothing but the grid."""
    searched = ndimage.binary_dilation(grid.organ, iterations=REACH)
    weight = searched.astype(np.float32)
    size = float(np.count_nonzero(grid.organ)) ** (1.0 / grid.ndim)
    contrasts = _Contrasts(grid.grey)
    found: list[Proposal] = []
    for sigma in SIGMAS:
        smooth = ndimage.gaussian_filter(grid.grey, sigma)
        for sign in (1, -1):
            found += _masks(_tree(smooth * np.float32(sign), searched, sigma, sign, "grey", contrasts))
    for share in LOCAL_SHARES:
        wide = share * size
        sigma = max(0.7, wide / 8.0)
        nearby = ndimage.gaussian_filter(grid.grey * weight, wide) / (ndimage.gaussian_filter(weight, wide) + 1e-3)
        local = ndimage.gaussian_filter(grid.grey, sigma) - nearby
        for sign in (1, -1):
            found += _masks(_tree(local * np.float32(sign), searched, sigma, sign, "local", contrasts))
    smooth = ndimage.gaussian_filter(grid.grey, 1.0)
    for sign in (1, -1):
        found += _cut_apart(smooth * np.float32(sign), searched, sign, contrasts)
    return found


def _tree(
    values: FloatArray, searched: Mask, sigma: float, sign: int, view: View, contrasts: _Contrasts
) -> list[_Part]:
    n_searched, least = int(np.count_nonzero(searched)), LEAST_VOXELS[values.ndim]
    parts: list[_Part] = []
    lives: list[int] = []
    labels_above: NDArray[Any] | None = None
    kept_above: dict[int, tuple[float, int]] = {}
    for level in np.unique(np.quantile(values[searched], LEVELS)):
        labels: NDArray[Any] = cc3d.connected_components(
            (values > level) & searched, connectivity=8 if values.ndim == 2 else 26
        )
        if not labels.any():
            continue
        statistics = cc3d.statistics(labels)
        sizes = statistics["voxel_counts"].astype(np.int64)
        standing = contrasts.of(labels, sizes) * sign
        kept: dict[int, tuple[float, int]] = {}
        for label in (np.flatnonzero(sizes[1:] >= least) + 1).tolist():
            size, box = int(sizes[label]), tuple(statistics["bounding_boxes"][label])
            parent = 0 if labels_above is None else _label_above(labels, labels_above, label, box)
            above, index = kept_above.get(parent, (np.inf, -1))
            if size <= LARGEST_SHARE[values.ndim] * n_searched and size < KEPT_SHRINKAGE * above:
                parts.append(_Part(labels, label, box, size, sigma, sign, float(standing[label]), view))
                lives.append(0)
                kept[label] = (size, len(parts) - 1)
            else:
                kept[label] = (above, index)
                if index >= 0:
                    lives[index] += 1
        labels_above, kept_above = labels, kept
    return _outstanding([replace(part, life=life) for part, life in zip(parts, lives, strict=True)])


def _label_above(labels: NDArray[Any], above: NDArray[Any], label: int, box: tuple[slice, ...]) -> int:
    """The part one threshold lower that holds this one: the label at any of its voxels."""
    first = tuple(side.start for side in box[:-1])
    row = labels[(*first, box[-1])]
    at = np.flatnonzero(row == label)
    if at.size:
        return int(above[(*first, box[-1].start + int(at[0]))])
    part = labels[box] == label
    return int(above[box].ravel()[int(part.argmax())])


def _outstanding(parts: list[_Part]) -> list[_Part]:
    """Of each size (factor 2) the parts that stand out most, in their own order."""
    octave = [int(np.log2(part.size)) for part in parts]
    order = sorted(range(len(parts)), key=lambda k: (octave[k], -parts[k].contrast, k))
    counted: dict[int, int] = {}
    chosen = []
    for k in order:
        counted[octave[k]] = counted.get(octave[k], 0) + 1
        if counted[octave[k]] <= MOST_OF_A_SIZE:
            chosen.append(k)
    return [parts[k] for k in sorted(chosen)]


def _masks(parts: list[_Part]) -> list[Proposal]:
    return [
        Proposal(part.box, _solid(part.labels[part.box] == part.label), part.sigma, part.sign, part.life, part.view)
        for part in parts
    ]


def _cut_apart(values: FloatArray, searched: Mask, sign: int, contrasts: _Contrasts) -> list[Proposal]:
    """Parts of a few thresholds, opened by balls: what hangs together by thin bridges falls apart."""
    n_searched = int(np.count_nonzero(searched))
    found: list[tuple[_Part, Mask]] = []
    for level in np.unique(np.quantile(values[searched], CUT_LEVELS)):
        marked = (values > level) & searched
        depth = ndimage.distance_transform_edt(np.pad(marked, 1))[(slice(1, -1),) * values.ndim]
        for radius in CUT_RADII:
            cores: NDArray[Any] = cc3d.connected_components(depth > radius, connectivity=4 if values.ndim == 2 else 6)
            if not cores.any():
                break
            statistics = cc3d.statistics(cores)
            sizes = statistics["voxel_counts"].astype(np.int64)
            standing = contrasts.of(cores, sizes) * sign
            found += [
                (
                    _Part(
                        cores,
                        k,
                        _grown(statistics["bounding_boxes"][k], radius, values.shape),
                        int(sizes[k]),
                        radius,
                        sign,
                        float(standing[k]),
                        "opened",
                    ),
                    marked,
                )
                for k in (np.flatnonzero(sizes[1:] >= LEAST_CORE) + 1).tolist()
            ]
    marked_of = {id(part): marked for part, marked in found}
    whole = []
    for part in _outstanding([part for part, _ in found]):
        core = part.labels[part.box] == part.label
        mask = (ndimage.distance_transform_edt(~core) <= part.sigma) & marked_of[id(part)][part.box]
        if np.count_nonzero(mask) <= LARGEST_SHARE[values.ndim] * n_searched:
            whole.append(Proposal(part.box, _solid(mask), part.sigma, sign, 0, "opened"))
    return whole


def _grown(box: tuple[slice, ...], radius: float, shape: tuple[int, ...]) -> tuple[slice, ...]:
    pad = int(radius) + 1
    return tuple(slice(max(0, s.start - pad), min(n, s.stop + pad)) for s, n in zip(box, shape, strict=True))


def _solid(part: Mask) -> Mask:
    """Without thin bridges, holes and loose bits; on the same box."""
    padded: Mask = np.pad(part, 1)
    size = int(np.count_nonzero(part))
    if size > OPENED_FROM[part.ndim]:
        opened = _grown_by_one(~_grown_by_one(~padded))
        if np.count_nonzero(opened) > 0.5 * size:
            padded = opened
    faces: Literal[4, 6] = 4 if part.ndim == 2 else 6
    outside: NDArray[Any] = cc3d.connected_components(~padded, connectivity=faces)
    padded = outside != outside[(0,) * part.ndim]
    labels: NDArray[Any] = cc3d.connected_components(padded, connectivity=faces)
    if int(labels.max()) > 1:
        padded = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    solid: Mask = padded[(slice(1, -1),) * part.ndim]
    return solid


def _grown_by_one(mask: Mask) -> Mask:
    """Dilated along every axis by one voxel (a cross); the rim counts as unmarked."""
    out = mask.copy()
    for axis in range(mask.ndim):
        low = (slice(None),) * axis + (slice(0, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        out[low] |= mask[high]
        out[high] |= mask[low]
    return out
