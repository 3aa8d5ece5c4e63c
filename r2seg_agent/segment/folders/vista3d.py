"""VISTA3D as the network of a bundle: MONAI's own class, asked by class prompts. A seam to `monai` (torch).

The file holds weights alone (a state dict). `class_head.class_embeddings.weight` (512, features) says how wide the
network is; 48 in the released one. Every class of the manifest names the prompt that it stands for: the global class
index of VISTA3D's label table.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.folders.archive import UnsafeModelError
from r2seg_agent.segment.folders.constants import MONAI_INSTALL

EMBEDDINGS: Final = "class_head.class_embeddings.weight"
WRAPPERS: Final = ("model", "state_dict", "network_weights")
"""Keys under which training programs put the state dict."""
PREFIXES: Final = ("network.", "module.")
"""What wrappers of the network put before each name."""


class Vista3D:
    """The loaded network with its prompts: (1, 1, z, y, x) float32 → logits (1, prompts, z, y, x) float32."""

    def __init__(self, data: bytes, prompts: Sequence[int], device: torch.device) -> None:
        """Raises `UnsafeModelError` for bytes that are no plain weights of this network, `MissingDependencyError`
        without MONAI.
        """
        weights = _weights(data)
        try:
            nets: Any = importlib.import_module("monai.networks.nets")
        except ImportError as error:
            raise MissingDependencyError("VISTA3D needs MONAI", MONAI_INSTALL) from error
        features = weights[EMBEDDINGS]
        if features.ndim != 2 or max(prompts) >= features.shape[0]:
            raise UnsafeModelError(f"its class embeddings have shape {tuple(features.shape)}, prompt {max(prompts)}")
        self._network = nets.vista3d132(encoder_embed_dim=int(features.shape[1]), in_channels=1)
        try:
            self._network.load_state_dict(weights)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UnsafeModelError(f"its weights do not fit VISTA3D: {' '.join(lines[1:2] or lines)[:300]}") from error
        self._network.eval().to(device)
        self._device = device
        self._prompts = torch.tensor([[prompt] for prompt in prompts], device=device)

    def __call__(self, batch: FloatArray) -> FloatArray:
        """Every prompt's logits of one window; they share one pass of the encoder."""
        with torch.inference_mode():
            given = torch.from_numpy(batch).to(self._device)
            answer = self._network(given, class_vector=self._prompts, transpose=True)
        found: FloatArray = answer.float().cpu().numpy()
        return found


def _weights(data: bytes) -> dict[str, torch.Tensor]:
    """The state dict in a file, whatever its wrapper."""
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsafeModelError(f"it holds no plain weights ({first[:200]})") from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise UnsafeModelError("it is no table of tensors by name")
    weights = {str(name): value for name, value in loaded.items()}
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    if EMBEDDINGS not in weights:
        raise UnsafeModelError(f"it lacks `{EMBEDDINGS}`: weights of another network")
    return weights
