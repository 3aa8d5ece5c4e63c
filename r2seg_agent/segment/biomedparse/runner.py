"""The network on its device: in the wanted precision, compiled or not, in batches that fit the memory there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.errors import RunFailedError
from r2seg_agent.segment.biomedparse.decoder import ImageFeatures
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.text import TextEmbedding

Precision = Literal["float32", "tensorfloat32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")

PROMPTS_AT_ONCE = 16
SLICES_AT_ONCE_CUDA = 8


class Runner:
    """Encodes slices and answers prompts; a batch for which memory is too small is halved, and stays halved.

    `precision` is that of the image encoder: autocast for the half ones; tensorfloat32 keeps float32 numbers and rounds
    inside GPU products only (on CPU it is float32). The decoder is always float32. `compiled` hands the encoder to
    `torch.compile`: minutes at the first slice. `slices_at_once` None is one on CPU, where batches gain nothing.
    """

    def __init__(
        self,
        model: BiomedParse,
        device: torch.device,
        precision: Precision = "float32",
        *,
        joint: bool = False,
        compiled: bool = False,
        slices_at_once: int | None = None,
    ) -> None:
        self.model = model.eval().to(device)
        if compiled:
            # In place: names stay those of the checkpoint.
            self.model.backbone.compile()
            self.model.sem_seg_head.pixel_decoder.compile()
        self.device, self.precision, self.joint = device, precision, joint
        self.slices_at_once = slices_at_once or (SLICES_AT_ONCE_CUDA if device.type == "cuda" else 1)
        self._prompts_at_once = PROMPTS_AT_ONCE
        self._texts: dict[str, TextEmbedding] = {}

    def encode(self, greys: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """Grey images, each (size, size), as float32 features."""

        def batch(start: int, stop: int) -> list[ImageFeatures]:
            grey = torch.from_numpy(np.stack(greys[start:stop])).to(self.device, torch.float32)
            with products_in(self.device, self.precision):
                features = self.model.encode(grey[:, None].expand(-1, 3, -1, -1))
            return [measured.float32() for measured in features]

        found, self.slices_at_once = in_parts(len(greys), self.slices_at_once, batch)
        return found

    def embed(self, words: str) -> TextEmbedding:
        """The text tower's answer, kept for the next slice."""
        if words not in self._texts:
            self._texts[words] = self.model.embed(words)
        return self._texts[words]

    def logits(self, features: ImageFeatures, texts: Sequence[TextEmbedding]) -> torch.Tensor:
        """(P, h, w). A joint answer is one row: it cannot be had in parts."""
        with products_in(self.device, "float32"):
            if self.joint:
                return self.model.decode(features, texts, joint=True).logits

            def batch(start: int, stop: int) -> list[torch.Tensor]:
                return list(self.model.decode(features, texts[start:stop]).logits)

            found, self._prompts_at_once = in_parts(len(texts), self._prompts_at_once, batch)
            return torch.stack(found)


@contextmanager
def products_in(device: torch.device, precision: Precision) -> Iterator[None]:
    """Run products in `precision`. On a GPU torch's convolutions round float32 to TF32 by default: not here."""
    saved = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tensorfloat32"
    half = precision in ("bfloat16", "float16")
    try:
        with torch.autocast(device.type, dtype=getattr(torch, precision)) if half else nullcontext():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = saved


def device_of(name: Device) -> torch.device:
    """`auto` is the first GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def in_parts(count: int, at_once: int, work: Callable[[int, int], list[T]]) -> tuple[list[T], int]:
    """All results of `work(start, stop)`, `at_once` together or, out of memory, half as many; and how many fitted.

    Raises:
        RunFailedError: not even one fits.
    """
    done: list[T] = []
    while len(done) < count:
        stop = min(count, len(done) + at_once)
        try:
            done += work(len(done), stop)
            continue
        except torch.OutOfMemoryError as error:
            if stop - len(done) == 1:
                raise RunFailedError(
                    "the memory of the GPU does not hold BiomedParse and one slice",
                    "Use the CPU (R2SEG_BIOMEDPARSE_DEVICE=cpu), or free the GPU of other programs.",
                ) from error
            at_once = (stop - len(done)) // 2
        # Outside of `except`: until here the error's traceback holds on to what did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return done, at_once
