"""`voxtell` as a `Segmenter`: a text names the target, the network answers in 3D."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.segment.encoded import EncodedView, check_modality, check_solid
from r2seg_agent.segment.folders.grid import TurnedScans
from r2seg_agent.segment.folders.nnunet import files_sha256
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo
from r2seg_agent.segment.voxtell import NAME
from r2seg_agent.segment.voxtell.words import FILE_NAME, TextBank

if TYPE_CHECKING:
    from r2seg_agent.segment.voxtell.network import VoxTellNetwork

MODALITIES: Final[tuple[Modality, ...]] = ("CT", "MR", "PT")
ORIENTATION: Final = "RAS"
"""The package reads images by nnU-Net's `NibabelIOWithReorient`."""


class EncodedScan(EncodedView):
    """Nothing is computed before the first prompt: image and text meet inside the network."""


class VoxTellSegmenter:
    """Asked by the wording of the target that its table of text embeddings holds (`words.py`).

    The network sees the ROI and half a window around it; its grey values are scaled by the whole scan, and voxels are
    taken as they are, whatever their size in mm. Boxes, points and masks of the prompts change nothing. It draws masks
    of its own, so it is judged in the paper's mode or with a calibration.
    """

    def __init__(self, folder: Path, licence: str, check_files: Callable[[], None]) -> None:
        """`check_files` raises where the files in `folder` are not those that were fetched."""
        self._folder, self._licence, self._check_files = folder, licence, check_files
        self._network: VoxTellNetwork | None = None
        self._turned = TurnedScans(ORIENTATION)

    @cached_property
    def bank(self) -> TextBank:
        """The texts that it can be asked by."""
        return TextBank(self._folder / FILE_NAME)

    @property
    def info(self) -> SegmenterInfo:
        """The weights by hash; texts and plans too, since they change the answer."""
        return SegmenterInfo(
            name=NAME,
            version=f"voxtell {_version()}",
            ndim=3,
            prompt_kinds=("text",),
            output_kind="probability",
            licence=self._licence,
            stand_in=False,
            modalities=MODALITIES,
            weights_sha256=files_sha256(self._folder / "fold_0" / "checkpoint_final.pth"),
            # Scans are turned to one orientation first, so a flip would ask the same again.
            flip_equivariant=True,
            # Up to where its tiles fall: every ROI is looked at with half a window around it.
            roi_independent=True,
            settings={
                "tables_sha256": files_sha256(self._folder / "plans.json", self._folder / FILE_NAME),
                "orientation": ORIENTATION,
                "text": "the first wording of the target in the table of texts",
            },
        )

    def check(self, modality: Modality) -> None:
        """Raise `InputError` for a modality that it was not trained on, `MissingDependencyError` for changed files."""
        check_modality(NAME, MODALITIES, modality)
        self._check_files()

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for a single slice."""
        check_solid(NAME, volume)

    def check_plan(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """No remarks; `InputError` for a target that no text of its table names."""
        self.bank.words_for(plan.target, plan.laterality)
        return ()

    def encode(self, volume: Volume, roi: Box) -> EncodedScan:
        """Nothing yet; `InputError` when `roi` is off the grid."""
        return EncodedScan.of(volume, roi)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1] on the ROI grid; all texts share the passes of the image."""
        if not isinstance(encoded, EncodedScan):
            raise TypeError(f"expected what VoxTellSegmenter.encode returned, got {type(encoded).__name__}")
        words = [self.bank.words_for(prompt.concept or prompt.target, prompt.laterality) for prompt in prompts]
        network = self.load()
        turn, image = self._turned.of(encoded.volume)
        roi = turn.box(encoded.roi, encoded.volume.geometry.shape)
        answer = network.probabilities(image, roi, [self.bank.vector(text) for text in words])
        return np.ascontiguousarray(turn.undo(answer))

    def load(self) -> VoxTellNetwork:
        """The network, loaded once. Raises `MissingDependencyError` for files that cannot be loaded."""
        if self._network is None:
            from r2seg_agent.segment.voxtell.network import VoxTellNetwork

            network = VoxTellNetwork(self._folder)
            if network.text_width != self.bank.width:
                raise MissingDependencyError(
                    f"VoxTell's network takes texts of {network.text_width} numbers, its table has {self.bank.width}",
                    "Network and table are of different versions: fetch both again.",
                )
            self._network = network
        return self._network


def _version() -> str:
    try:
        return version("voxtell")
    except PackageNotFoundError:
        return "not installed"
