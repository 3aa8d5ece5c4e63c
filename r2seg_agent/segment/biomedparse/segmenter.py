"""`BiomedParseSegmenter`: the frozen model of the paper behind the `Segmenter` protocol."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.segment.biomedparse.cache import FeatureCache
from r2seg_agent.segment.biomedparse.config import RELEASED
from r2seg_agent.segment.biomedparse.preprocess import (
    Frame,
    Window,
    frame_of,
    network_input,
    slice_probabilities,
    target_of,
    window_of,
    words_of,
)
from r2seg_agent.segment.biomedparse.weights import LICENCE, check_file, file_sha256, load, weights_path
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo

if TYPE_CHECKING:
    from r2seg_agent.segment.biomedparse.decoder import ImageFeatures
    from r2seg_agent.segment.biomedparse.existence import ExistenceCheck
    from r2seg_agent.segment.biomedparse.model import BiomedParse
    from r2seg_agent.segment.biomedparse.runner import Device, Precision, Runner

MODALITIES: tuple[Modality, ...] = ("CT", "MR", "US", "XR", "photo", "unknown")
KEPT_SLICES_BYTES = 512 * 2**20
_counter = itertools.count()


@dataclass(frozen=True, eq=False)
class EncodedSlice:
    """The grey values (y, x) of one slice. The network's features depend on the grey window, which comes with the
    prompt: they are made at the first prompt, and kept by the segmenter within its memory budget."""

    roi: Box
    pixels: NDArray[Any]
    number: int = field(default_factory=_counter.__next__)

    @property
    def frame(self) -> Frame:
        """Its place in the network's square input."""
        return frame_of((self.pixels.shape[0], self.pixels.shape[1]))


class _Task(NamedTuple):
    """One encoding: a slice in one grey window, and the prompts that ask for it (by number)."""

    asked: int
    window: Window | None
    prompts: list[int]


class BiomedParseSegmenter:
    """One slice and any number of text prompts. Weights load at the first slice, never at construction.

    `joint=True` answers prompts as the original code does, in one sequence in which they change each other's masks;
    by default each prompt is answered as if alone. `precision` is that of the image encoder (autocast): half precision
    halves its time. The decoder is cheap and always float32, because its masks steer its next layer. float16 keeps the
    masks closer to float32 than bfloat16 does. `compiled` and `slices_at_once`: see `Runner`. With `existence` the
    original's existence check empties masks (a baseline, see existence.py).
    `model` takes the place of the weights file (tests, benchmarks).
    """

    def __init__(
        self,
        weights: Path | None = None,
        *,
        model: BiomedParse | None = None,
        device: Device = "auto",
        precision: Precision = "float32",
        joint: bool = False,
        compiled: bool = False,
        slices_at_once: int | None = None,
        existence: ExistenceCheck | None = None,
        kept_slices_bytes: int = KEPT_SLICES_BYTES,
    ) -> None:
        self._weights = weights
        self._given = model
        self._runner: Runner | None = None
        self._device, self._precision, self._joint = device, precision, joint
        self._compiled, self._slices_at_once, self._existence = compiled, slices_at_once, existence
        self._features = FeatureCache(kept_slices_bytes)
        self._sha256: str | None = None
        self.ignored_tensors: tuple[str, ...] = ()
        """Names in the weights file that the model has no use for; known once it is loaded."""

    @classmethod
    def from_environment(cls) -> BiomedParseSegmenter:
        """As the variables `R2SEG_BIOMEDPARSE_…` say; `InputError` for a value or file that cannot be used."""
        from r2seg_agent.segment.biomedparse.existence import read_existence_file
        from r2seg_agent.segment.biomedparse.settings import settings_from_environment

        chosen = settings_from_environment()
        check = chosen.existence and read_existence_file(chosen.existence.expanduser(), chosen.existence_below)
        return cls(
            device=chosen.device,
            precision=chosen.precision,
            joint=chosen.joint,
            compiled=chosen.compiled,
            slices_at_once=chosen.slices_at_once,
            existence=check or None,
        )

    @property
    def info(self) -> SegmenterInfo:
        """`weights_sha256` is known after `check` or the first slice."""
        config = RELEASED if self._given is None else self._given.config
        settings: dict[str, str | float | int | bool] = {
            "image_size": config.image_size,
            "joint": self._joint,
            "precision": self._precision,
            "compiled": self._compiled,
            "weights": "released" if self._given is None else "given model",
        }
        if self._existence is not None:
            settings |= {"existence": self._existence.sha256, "existence_below": self._existence.below}
        return SegmenterInfo(
            name="biomedparse",
            version="1",
            ndim=2,
            prompt_kinds=("text",),
            output_kind="probability",
            licence=LICENCE,
            stand_in=self._given is not None,
            modalities=MODALITIES,
            weights_sha256=self._sha256,
            feature_names=("res2", "res3"),
            settings=settings,
        )

    def check(self, modality: Modality) -> None:
        """Raise `InputError` for PET and a bad weights file, `MissingDependencyError` for a missing file or GPU."""
        if modality not in MODALITIES:
            raise InputError(
                f"BiomedParse was not trained on modality `{modality}`; it takes: {', '.join(MODALITIES)}.",
                "Use another segmenter: `r2seg doctor` lists them.",
            )
        if self._device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise MissingDependencyError(
                    f"the device `cuda` was asked for, but torch {torch.__version__} finds none",
                    "Use the device `cpu`.",
                )
        if self._given is None:
            path = self._weights or weights_path()
            check_file(path)
            self._sha256 = file_sha256(path)

    def encode(self, volume: Volume, roi: Box) -> EncodedSlice:
        """Keep a view of one slice; `InputError` for a thicker region or one outside the volume."""
        if roi.shape[0] != 1 or not volume.geometry.full_box.contains(roi):
            raise InputError(
                f"BiomedParse sees one slice at a time; a region of shape {roi.shape} (z, y, x) from {roi.start} of a "
                f"volume of shape {volume.geometry.shape} came.",
                "Lift it to volumes with `SliceBySlice`.",
            )
        return EncodedSlice(roi=roi, pixels=volume.array[roi.slices][0])

    def features_at(
        self, volume: Volume, around: Box, window: Window | None, voxels: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """(k, 576) res2 and res3 of the slices of `around` at `voxels` (`HasFeatures`); no text goes in."""
        from r2seg_agent.segment.biomedparse.maps import at_pixels, early_maps

        runner = self._ready()
        rows: list[tuple[NDArray[np.bool_], FloatArray]] = []
        for z in np.unique(voxels[:, 0]).tolist():
            plane = volume.array[z, around.start[1] : around.stop[1], around.start[2] : around.stop[2]]
            grey = network_input(plane, window, runner.model.config.image_size)
            here = voxels[:, 0] == z
            maps = early_maps(runner.model, grey, runner.device)
            rows.append((here, at_pixels(maps, frame_of(plane.shape), voxels[here, 1:] - around.start[1:])))
        out = np.zeros((len(voxels), rows[0][1].shape[1] if rows else 0), dtype=np.float32)
        for here, values in rows:
            out[here] = values
        return out

    @property
    def slices_at_once(self) -> int:
        """How many slices `segment_many` encodes together; smaller once that many did not fit."""
        return self._ready().slices_at_once

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, 1, y, x) float32; prompts of one grey window share one encoding."""
        return self.segment_many([(encoded, prompts)])[0]

    def segment_many(self, asked: Sequence[tuple[Encoded, Sequence[Prompt]]]) -> list[FloatArray]:
        """`segment` for many slices, encoded in batches."""
        slices = [_own(encoded) for encoded, _ in asked]
        answers = [np.zeros((len(prompts), *encoded.roi.shape), dtype=np.float32) for encoded, prompts in asked]
        tasks: list[_Task] = []
        for n, (_, prompts) in enumerate(asked):
            by_window: dict[Window | None, list[int]] = {}
            for number, prompt in enumerate(prompts):
                by_window.setdefault(window_of(prompt), []).append(number)
            tasks += [_Task(n, window, numbers) for window, numbers in by_window.items()]
        while tasks:
            together = tasks[: self.slices_at_once]
            tasks = tasks[len(together) :]
            made = self._encoded([(slices[task.asked], task.window) for task in together])
            for task, features in zip(together, made, strict=True):
                prompts = [asked[task.asked][1][number] for number in task.prompts]
                answer = self._answer(slices[task.asked], task.window, features, prompts)
                answers[task.asked][task.prompts, 0] = answer
        return answers

    def _answer(
        self, encoded: EncodedSlice, window: Window | None, features: ImageFeatures, prompts: Sequence[Prompt]
    ) -> FloatArray:
        """(n_prompts, y, x) for prompts of one window."""
        runner = self._ready()
        logits = runner.logits(features, [runner.embed(words_of(prompt)) for prompt in prompts])
        probabilities = slice_probabilities(logits, encoded.frame)
        if self._existence is not None:
            size = runner.model.config.image_size
            grey = network_input(encoded.pixels, window, size)
            squares = slice_probabilities(logits, frame_of((size, size)))
            for n, (prompt, square) in enumerate(zip(prompts, squares, strict=True)):
                if not self._existence.keeps(grey, square, prompt.modality, prompt.site, target_of(prompt)):
                    probabilities[n] = 0.0
        return probabilities

    def _encoded(self, wanted: Sequence[tuple[EncodedSlice, Window | None]]) -> list[ImageFeatures]:
        keys = [(encoded.number, window) for encoded, window in wanted]
        found = [self._features.find(key) for key in keys]
        missing = [n for n, features in enumerate(found) if features is None]
        if missing:
            self._features.make_room(len(missing))
            runner = self._ready()
            size = runner.model.config.image_size
            made = runner.encode([network_input(wanted[n][0].pixels, wanted[n][1], size) for n in missing])
            for n, features in zip(missing, made, strict=True):
                found[n] = features
                self._features.keep(keys[n], features)
        return [features for features in found if features is not None]

    def _ready(self) -> Runner:
        if self._runner is None:
            from r2seg_agent.segment.biomedparse.runner import Runner, device_of

            model = self._given
            if model is None:
                loaded = load(self._weights or weights_path())
                model, self._sha256, self.ignored_tensors = loaded.model, loaded.sha256, loaded.ignored
            self._runner = Runner(
                model,
                device_of(self._device),
                self._precision,
                joint=self._joint,
                compiled=self._compiled,
                slices_at_once=self._slices_at_once,
            )
        return self._runner


def _own(encoded: Encoded) -> EncodedSlice:
    if not isinstance(encoded, EncodedSlice):
        raise TypeError(f"expected what BiomedParseSegmenter.encode returned, got {type(encoded).__name__}")
    return encoded
