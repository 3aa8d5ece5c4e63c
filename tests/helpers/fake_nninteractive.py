"""A stand-in for the package `nnInteractive` 2.6.0: its names and signatures, and the least that a session does.

`test_nninteractive.py` holds the signatures against the real package where that is installed, and runs on it too.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

CHANNELS = {"prev_seg": 0, "bbox2d": 1, "points": 3}
"""The positive channel of each prompt, as weights of version 1.0 have them."""


class PointInteraction_stub:  # noqa: N801 - the package's name
    def __init__(self, point_radius: int, use_distance_transform: bool = False) -> None:
        self.point_radius = point_radius


class nnInteractiveInferenceSession:  # noqa: N801 - the package's name
    def __init__(
        self,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the package's signature
        use_torch_compile: bool = False,
        verbose: bool = False,
        torch_n_threads: int = 8,
        do_autozoom: bool = True,
        interactions_storage: str = "auto",
        enable_undo: bool = True,
    ) -> None:
        print("session initialized")
        torch.backends.cudnn.benchmark = True
        self.num_interaction_channels = 0
        self.supported_interactions: dict[str, bool] = {}
        self.network: Any = None

    def initialize_from_loaded_artifacts(self, artifacts: dict[str, Any]) -> None:
        capability = artifacts["capability_content"]
        self.supported_interactions = {
            **{"points": True, "bbox2d": True},
            **capability.get("supported_interactions", {}),
        }
        self.num_interaction_channels = capability.get("interaction_channels", 6) + 1
        self.network = artifacts["network"]

    def set_image(self, image: np.ndarray, image_properties: dict[str, Any] | None = None) -> None:
        assert image.ndim == 4
        there = np.nonzero(image[0])
        inside = image[(slice(None), *(slice(axis.min(), axis.max() + 1) for axis in there))]
        self._image = torch.from_numpy((image - inside.mean()) / inside.std()).float()
        self._prompts = torch.zeros(self.num_interaction_channels, *image.shape[1:])

    def set_target_buffer(self, target_buffer: np.ndarray | torch.Tensor) -> None:
        assert target_buffer.ndim == 3
        self.target_buffer = target_buffer

    def reset_interactions(self, _preserve_undo: bool = False) -> None:
        self._prompts.zero_()
        self.target_buffer[:] = 0

    def add_bbox_interaction(
        self,
        bbox_coords: Any,
        include_interaction: bool,
        run_prediction: bool = True,
        override_capability_checks: bool = False,
    ) -> None:
        if 1 not in [stop - start for start, stop in bbox_coords]:
            raise ValueError("a 3D bounding box is not supported by the loaded model checkpoint")
        if not self.supported_interactions["bbox2d"]:
            raise ValueError("Interaction 'bbox2d' is not supported")
        self._prompts[(CHANNELS["bbox2d"], *(slice(a, b) for a, b in bbox_coords))] = 1.0
        self._predict()

    def add_point_interaction(
        self,
        coordinates: tuple[int, ...],
        include_interaction: bool,
        run_prediction: bool = True,
        override_capability_checks: bool = False,
    ) -> None:
        around = tuple(slice(max(0, c - 2), c + 3) for c in coordinates)
        self._prompts[(CHANNELS["points"] + (not include_interaction), *around)] = 1.0
        self._predict()

    @torch.inference_mode()
    def _predict(self) -> None:
        print("Done.")
        given = torch.cat([self._image, self._prompts])[None]
        size = given.shape[2:]
        padded = torch.nn.functional.pad(given, [n % 2 for pad in reversed(size) for n in (0, pad)])
        answer = self.network(padded)[0].argmax(0)[tuple(slice(n) for n in size)].to(torch.uint8)
        self._prompts[CHANNELS["prev_seg"]] = answer
        self.target_buffer[:] = answer.numpy()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be."""
    modules = {
        name: ModuleType(name)
        for name in (
            "nnInteractive",
            "nnInteractive.inference",
            "nnInteractive.inference.inference_session",
            "nnInteractive.interaction",
            "nnInteractive.interaction.point",
        )
    }
    modules["nnInteractive.inference.inference_session"].nnInteractiveInferenceSession = (  # type: ignore[attr-defined]
        nnInteractiveInferenceSession
    )
    modules["nnInteractive.interaction.point"].PointInteraction_stub = PointInteraction_stub  # type: ignore[attr-defined]
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
