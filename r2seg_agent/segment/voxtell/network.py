"""VoxTell's own network over a folder of weights: the seam to the package `voxtell` (torch).

The package's predictor unpickles whole checkpoints, downloads what is missing and imports what plans.json names. Here
the checkpoint is read as plain weights, names are held against a list, and only the network's class is the package's.
Preprocessing is the predictor's: cut to the voxels other than 0, z-score over that box, windows with half overlap.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pydoc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.reason.anchors.totalseg.networks import load_checkpoint
from r2seg_agent.reason.anchors.totalseg.plans import IMPORTED, read_architecture
from r2seg_agent.segment.folders.windows import sliding_windows

CHECKPOINT: Final = Path("fold_0") / "checkpoint_final.pth"
CONFIGURATION: Final = "3d_fullres"
DECODER_LAYER: Final = 4
"""Stage of the encoder that the text attends to; the package's own value, not stored in the weights."""
STAGES: Final = 5
OVERLAP: Final = 0.5


class VoxTellNetwork:
    """The loaded network. Arrays are (z, y, x) of RAS."""

    def __init__(self, folder: Path) -> None:
        """Raises `MissingDependencyError` for an absent package and files that are no such network, `InputError` for a
        plans file that cannot be read.
        """
        with _quiet():
            self._network, self.window, self.text_width = _load(folder)
        self._device = next(self._network.parameters()).device

    def probabilities(self, image: NDArray[Any], roi: Box, texts: Sequence[FloatArray]) -> FloatArray:
        """(n_texts, z, y, x) on `roi` for text vectors (text_width,) each; `image` is the whole scan.

        The network sees the ROI and half a window around it, scaled by the whole scan. Raises `InputError` for an image
        of zeros.
        """
        body = bounding_box(image != 0)
        if body is None:
            raise InputError("VoxTell cannot look at an image of zeros", "Use another segmenter.")
        out = np.zeros((len(texts), *roi.shape), dtype=np.float32)
        half: Index3 = (self.window[0] // 2, self.window[1] // 2, self.window[2] // 2)
        asked, seen = roi.intersection(body), roi.dilated(half, image.shape).intersection(body)
        if asked is None or seen is None:
            return out
        whole = image[body.slices].astype(np.float64)
        mean, sd = float(whole.mean()), max(float(whole.std()), 1e-8)
        grey = torch.from_numpy(((image[seen.slices] - mean) / sd).astype(np.float32))[None]
        vectors = torch.from_numpy(np.stack(texts))[None].to(self._device)

        def ask(window: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self._network(window[None].to(self._device), vectors)[0]
            return answer.float().cpu()

        with torch.inference_mode(), torch.autocast(self._device.type, enabled=self._device.type == "cuda"):
            raw = sliding_windows(grey, self.window, OVERLAP, len(texts), ask)
        answer = raw.sigmoid().numpy()
        out[(slice(None), *asked.within(roi).slices)] = answer[(slice(None), *asked.within(seen).slices)]
        return out


def _load(folder: Path) -> tuple[Any, Index3, int]:
    try:
        module: Any = importlib.import_module("voxtell.model.voxtell_model")
    except ImportError as error:
        raise MissingDependencyError(f"voxtell cannot be imported: {error}", _INSTALL) from error
    arguments, window = read_architecture(folder / "plans.json", "`voxtell`", CONFIGURATION)
    known = inspect.signature(module.VoxTellModel.__init__).parameters
    if strange := sorted(set(arguments) - set(known)):
        raise MissingDependencyError(f"`plans.json` of VoxTell gives {strange[0]!r}, which its network does not take")
    weights: Mapping[str, torch.Tensor] = load_checkpoint(folder / CHECKPOINT)["network_weights"]
    layers = {key: pydoc.locate(value) for key, value in arguments.items() if key in IMPORTED and value is not None}
    try:
        sizes = _sizes(weights, module.VoxTellModel.DECODER_CONFIGS[1]["channels"])
        network = module.VoxTellModel(input_channels=1, **{**arguments, **layers}, **sizes, deep_supervision=False)
        network.load_state_dict(weights)
    except (KeyError, IndexError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise MissingDependencyError(
            f"the checkpoint of VoxTell does not fit its network: {' '.join(lines[1:2] or lines)[:300]}",
            "Its authors may have published weights for a newer version of the package.",
        ) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.eval().to(device), window, sizes["text_embedding_dim"]


_INSTALL: Final = "pip install --no-deps voxtell==0.1.2 positional-encodings==6.0.3"


def _sizes(weights: Mapping[str, torch.Tensor], channels: int) -> dict[str, int]:
    """The sizes that the package's predictor writes out as numbers (2560, 32, 2048, 2048), read off the weights;
    `channels` are those of the decoder's second stage.
    """
    text, query = weights["project_text_embed.0.weight"], weights["project_bottleneck_embed.2.weight"]
    first, last = (weights[f"project_to_decoder_channels.1.{n}.weight"] for n in (0, 2))
    return {
        "decoder_layer": DECODER_LAYER,
        "text_embedding_dim": int(text.shape[1]),
        "num_maskformer_stages": STAGES,
        "num_heads": int(last.shape[0]) // channels,
        "query_dim": int(query.shape[0]),
        "project_to_decoder_hidden_dim": int(first.shape[0]),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """nnU-Net warns that its folders are not in the environment; it needs none of them."""
    with environment_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
