"""`BiomedParseSegmenter`: the frozen model of the paper behind the `Segmenter` protocol."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.segment.biomedparse.cache import FeatureCache
from r2seg_agent.segment.biomedparse.config import RELEASED
from r2seg_agent.segment.biomedparse.preprocess import (
    Frame,
    Window,
    frame_of,
    network_input,
    prompt_text,
    slice_probabilities,
    window_of,
)
from r2seg_agent.segment.biomedparse.weights import LICENCE, check_file, file_sha256, load, weights_path
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo

if TYPE_CHECKING:
    import torch

    from r2seg_agent.segment.biomedparse.decoder import ImageFeatures
    from r2seg_agent.segment.biomedparse.model import BiomedParse
    from r2seg_agent.segment.biomedparse.text import TextEmbedding

Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]

MODALITIES: tuple[Modality, ...] = ("CT", "MR", "US", "XR", "photo", "unknown")
PROMPTS_AT_ONCE = 16
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


class BiomedParseSegmenter:
    """One slice and any number of text prompts. Weights load at the first slice, never at construction.

    `joint=True` answers prompts as the original code does, in one sequence in which they change each other's masks;
    by default each prompt is answered as if alone. `precision` is that of the image encoder (autocast): half precision
    halves its time. The decoder is cheap and always float32, because its masks steer its next layer. float16 keeps the
    masks closer to float32 than bfloat16 does.
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
        kept_slices_bytes: int = KEPT_SLICES_BYTES,
    ) -> None:
        self._weights = weights
        self._given = model
        self._model: BiomedParse | None = None
        self._device, self._precision, self._joint = device, precision, joint
        self._features = FeatureCache(kept_slices_bytes)
        self._texts: dict[str, TextEmbedding] = {}
        self._sha256: str | None = None
        self.ignored_tensors: tuple[str, ...] = ()
        """Names in the weights file that the model has no use for; known once it is loaded."""

    @property
    def info(self) -> SegmenterInfo:
        """`weights_sha256` is known after `check` or the first slice."""
        config = RELEASED if self._given is None else self._given.config
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
            settings={
                "image_size": config.image_size,
                "joint": self._joint,
                "precision": self._precision,
                "weights": "released" if self._given is None else "given model",
            },
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

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, 1, y, x) float32; prompts of one grey window share one encoding."""
        if not isinstance(encoded, EncodedSlice):
            raise TypeError(f"expected what BiomedParseSegmenter.encode returned, got {type(encoded).__name__}")
        out = np.zeros((len(prompts), *encoded.roi.shape), dtype=np.float32)
        by_window: dict[Window | None, list[int]] = {}
        for n, prompt in enumerate(prompts):
            by_window.setdefault(window_of(prompt), []).append(n)
        for window, numbers in by_window.items():
            texts = [self._text(prompts[n]) for n in numbers]
            logits = self._logits(self._encoded(encoded, window), texts)
            out[numbers, 0] = slice_probabilities(logits, encoded.frame)
        return out

    def _text(self, prompt: Prompt) -> TextEmbedding:
        words = prompt.text.strip() or prompt_text(prompt.target, prompt.site, prompt.modality)
        if words not in self._texts:
            self._texts[words] = self._ready().embed(words)
        return self._texts[words]

    def _encoded(self, encoded: EncodedSlice, window: Window | None) -> ImageFeatures:
        return self._features.get((encoded.number, window), lambda: self._encode_image(encoded.pixels, window))

    def _encode_image(self, pixels: NDArray[Any], window: Window | None) -> ImageFeatures:
        import torch

        model = self._ready()
        grey = torch.from_numpy(network_input(pixels, window, model.config.image_size))
        image = grey.to(self._torch_device(), torch.float32)[None, None].expand(1, 3, -1, -1)
        with self._autocast():
            return model.encode(image)[0].float32()

    def _logits(self, features: ImageFeatures, texts: Sequence[TextEmbedding]) -> torch.Tensor:
        """(P, h, w). Out of GPU memory, half as many prompts are tried at once; in a joint answer none can wait."""
        import torch

        model = self._ready()
        if self._joint:
            return model.decode(features, texts, joint=True).logits
        parts: list[torch.Tensor] = []
        at_once, done = PROMPTS_AT_ONCE, 0
        while done < len(texts):
            try:
                parts.append(model.decode(features, texts[done : done + at_once]).logits)
            except torch.OutOfMemoryError as error:
                if at_once == 1:
                    raise RunFailedError(
                        "the GPU's memory does not hold BiomedParse and one prompt", "Use the device `cpu`."
                    ) from error
                at_once //= 2
                continue
            done += at_once
        return torch.cat(parts)

    def _ready(self) -> BiomedParse:
        if self._model is None:
            if self._given is not None:
                model = self._given.eval()
            else:
                loaded = load(self._weights or weights_path())
                model, self._sha256, self.ignored_tensors = loaded.model, loaded.sha256, loaded.ignored
            self._model = model.to(self._torch_device())
        return self._model

    def _torch_device(self) -> torch.device:
        import torch

        if self._device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self._device)

    def _autocast(self) -> AbstractContextManager[object]:
        import torch

        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._torch_device().type, dtype=getattr(torch, self._precision))
