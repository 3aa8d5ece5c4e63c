"""`nninteractive` as a `Segmenter`: bodies are proposed in 3D, the network outlines each from a box in one plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from r2seg_agent.imaging.geometry import Box, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.plan import Window
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.encoded import EncodedView, check_modality, check_solid
from r2seg_agent.segment.folders.grid import TurnedScans
from r2seg_agent.segment.folders.nnunet import files_sha256
from r2seg_agent.segment.nninteractive import NAME
from r2seg_agent.segment.proposals import propose
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo
from r2seg_agent.segment.regions.outline import outlined

if TYPE_CHECKING:
    from r2seg_agent.segment.nninteractive.session import NnInteractiveSession

MODALITIES: Final[tuple[Modality, ...]] = ("CT", "MR", "PT")
ORIENTATION: Final = "LPS"
"""Every scan is shown as DICOM stores it, so that it does not matter how a file orders its axes."""
MAX_BODIES: Final = 12
"""Most bodies that are asked for, the most prominent first, and …"""
MAX_OUTLINED: Final = 5
"""… most ranked regions that get the network's outline, best first: each costs a pass of a large network."""


class EncodedScan(EncodedView):
    """Nothing is computed before the first prompt; the network's session keeps the image that it saw last."""


class NnInteractiveSegmenter:
    """The network sees the whole scan (its grey values are scaled by it) and draws in 3D what a prompt points at.

    A prompt's `box` and `points` are asked for as they are. Without them, the bodies that `contrast` proposes inside
    the prompt's `mask` are drawn one by one, and their union is the answer: a mask, so every probability is 0 or 1. It
    never abstains, which is what Reject is for. `outline` draws ranked regions, so that it serves in reference mode.
    """

    def __init__(
        self, folder: Path, licence: str, check_files: Callable[[], None], progress: Progress = silent
    ) -> None:
        """`check_files` raises where the files in `folder` are not those that were fetched."""
        self._folder, self._licence, self._check_files = folder, licence, check_files
        self._session: NnInteractiveSession | None = None
        self._turned = TurnedScans(ORIENTATION)
        self.progress = progress

    @property
    def info(self) -> SegmenterInfo:
        """The weights by hash, and how it is asked."""
        tables = sorted(path for path in self._folder.glob("*.json") if not path.name.startswith("r2seg"))
        proposing = {f"proposals_{key}": value for key, value in ContrastSegmenter().info.settings.items()}
        return SegmenterInfo(
            name=NAME,
            version=f"nnInteractive {_version()}",
            ndim=3,
            prompt_kinds=("box", "points", "mask"),
            output_kind="probability",
            licence=self._licence,
            stand_in=False,
            modalities=MODALITIES,
            weights_sha256=files_sha256(self._folder / "fold_0" / "checkpoint_final.pth"),
            # Scans are turned to one orientation first, so a flip would ask the same again.
            flip_equivariant=True,
            roi_independent=True,
            settings={
                "tables_sha256": files_sha256(*tables),
                "orientation": ORIENTATION,
                "prompt": "a box around the largest axial section, else a point",
                "max_bodies": MAX_BODIES,
                "max_outlined": MAX_OUTLINED,
                **proposing,
            },
        )

    def check(self, modality: Modality) -> None:
        """Raise `InputError` for a modality that it was not trained on, `MissingDependencyError` for changed files."""
        check_modality(NAME, MODALITIES, modality)
        self._check_files()

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for a single slice."""
        check_solid(NAME, volume)

    def encode(self, volume: Volume, roi: Box) -> EncodedScan:
        """Nothing yet; `InputError` when `roi` is off the grid."""
        return EncodedScan.of(volume, roi)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32, 0 or 1, on the ROI grid."""
        if not isinstance(encoded, EncodedScan):
            raise TypeError(f"expected what NnInteractiveSegmenter.encode returned, got {type(encoded).__name__}")
        volume, roi = encoded.volume, encoded.roi
        out = np.zeros((len(prompts), *roi.shape), dtype=np.float32)
        for n, prompt in enumerate(prompts):
            if prompt.box is not None or prompt.points:
                box = None if prompt.box is None else prompt.box.shifted(roi.start)
                points = tuple((_moved(place, roi.start), positive) for place, positive in prompt.points)
                out[n][self._drawn(volume, box, points)[roi.slices]] = 1.0
                continue
            bodies = propose(volume, roi, prompt, MAX_BODIES)
            for done, body in enumerate(bodies):
                self.progress("segment", done, len(bodies), f"body {done + 1}")
                out[n][self._asked(volume, body)[roi.slices]] = 1.0
        return out

    def outline(
        self, volume: Volume, window: Window | None, regions: Sequence[Region], progress: Progress
    ) -> tuple[Region, ...]:
        """The network's masks of the first `MAX_OUTLINED` regions; one that is unlike its region is left out."""
        view = volume.geometry.full_box
        taken = np.zeros(view.shape, dtype=bool)
        found = []
        for k, region in enumerate(regions):
            if k < MAX_OUTLINED:
                progress("segment", k, min(MAX_OUTLINED, len(regions)), f"region {k + 1}")
                drawn = self._asked(volume, region).astype(np.float32)
            else:
                drawn = np.zeros(view.shape, dtype=np.float32)
            found.append(outlined(region, drawn, view, taken))
        return tuple(found)

    def _asked(self, volume: Volume, region: Region) -> Mask:
        """What the network draws for a body: asked by a box around its largest axial section, or by its middle."""
        if not self.load().takes_boxes:
            return self._drawn(volume, None, ((_middle(region), True),))
        return self._drawn(volume, _largest_section(region), ())

    def _drawn(self, volume: Volume, box: Box | None, points: tuple[tuple[Index3, bool], ...]) -> Mask:
        """The network's mask (z, y, x) on the image grid; a box of several slices is asked for in its middle one."""
        session = self.load()
        turn, image = self._turned.of(volume)
        session.show(image)
        shape = volume.geometry.shape
        flat = None if box is None else turn.box(_in_one_slice(box), shape)
        seen = tuple((turn.place(place, shape), positive) for place, positive in points)
        mask: Mask = np.ascontiguousarray(turn.undo(session.draw(flat, seen)))
        return mask

    def load(self) -> NnInteractiveSession:
        """The network, loaded once. Raises `MissingDependencyError` for files that cannot be loaded."""
        if self._session is None:
            from r2seg_agent.segment.nninteractive.session import NnInteractiveSession

            self._session = NnInteractiveSession(self._folder)
        return self._session


def _largest_section(region: Region) -> Box:
    """The box around the axial section with the most voxels, one slice high, on the image grid."""
    z = int(np.argmax(region.mask.sum(axis=(1, 2))))
    tight = bounding_box(region.mask[z : z + 1])
    assert tight is not None  # a region has voxels
    return tight.shifted((region.box.start[0] + z, region.box.start[1], region.box.start[2]))


def _middle(region: Region) -> Index3:
    """The voxel of the region that is nearest to its centre of mass."""
    voxels = np.argwhere(region.mask)
    z, y, x = voxels[int(np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)))] + region.box.start
    return int(z), int(y), int(x)


def _in_one_slice(box: Box) -> Box:
    z = (box.start[0] + box.stop[0]) // 2
    return Box(start=(z, *box.start[1:]), stop=(z + 1, *box.stop[1:]))


def _moved(place: Index3, start: Index3) -> Index3:
    return (place[0] + start[0], place[1] + start[1], place[2] + start[2])


def _version() -> str:
    try:
        return version("nnInteractive")
    except PackageNotFoundError:
        return "not installed"
