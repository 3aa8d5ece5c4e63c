"""nnInteractive's own inference session over a folder of weights: the seam to the package `nnInteractive` (torch).

The package's loader unpickles whole checkpoints and imports what plans.json names. Here the checkpoint is read as plain
weights, the plans are held against nnU-Net's own names, the network is built from them, and the finished parts are
handed to the session (`initialize_from_loaded_artifacts`). Its prints, its thread count and its cudnn switch stay
inside.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Index3
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.reason.anchors.totalseg.networks import load_checkpoint
from r2seg_agent.reason.anchors.totalseg.plans import read_plans

CHECKPOINT: Final = Path("fold_0") / "checkpoint_final.pth"
INFORMATION: Final = ("inference_info.json", "inference_session_class.json")
"""What says how the network is prompted: the newer file, else the one of version 1.0."""
OUTPUTS: Final = 2
"""Object or not, whatever labels dataset.json lists."""
SESSION_CLASS: Final = "nnInteractiveInferenceSession"


class NnInteractiveSession:
    """A loaded network with one image at a time. Arrays are (z, y, x) in the orientation that the caller chose."""

    def __init__(self, folder: Path) -> None:
        """Raises `MissingDependencyError` for an absent package and files that are no such network, `InputError` for
        tables that cannot be read.
        """
        with _quiet():
            self._session = _load(folder)
        self._image: NDArray[Any] | None = None
        self._drawn: NDArray[np.uint8] | None = None

    @property
    def takes_boxes(self) -> bool:
        """Whether the weights were trained with boxes in a plane."""
        return bool(self._session.supported_interactions.get("bbox2d", False))

    def show(self, image: NDArray[Any]) -> None:
        """Take `image` (z, y, x) as it is; what was shown last is not prepared again. `InputError` for one of zeros."""
        if self._image is image:
            return
        if not image.any():
            raise InputError("nnInteractive cannot look at an image of zeros", "Use another segmenter.")
        self._drawn = np.zeros(image.shape, dtype=np.uint8)
        with _quiet():
            self._session.set_image(np.asarray(image, dtype=np.float32)[None])
            self._session.set_target_buffer(self._drawn)
        self._image = image

    def draw(self, box: Box | None, points: tuple[tuple[Index3, bool], ...] = ()) -> Mask:
        """What the network outlines for a box in one plane (one side of one voxel) and for points (positive?)."""
        assert self._drawn is not None  # `show` comes first
        with _quiet():
            self._session.reset_interactions()
            if box is not None:
                edges = [[int(a), int(b)] for a, b in zip(box.start, box.stop, strict=True)]
                self._session.add_bbox_interaction(edges, include_interaction=True)
            for place, positive in points:
                self._session.add_point_interaction(tuple(int(i) for i in place), include_interaction=positive)
        mask: Mask = self._drawn > 0
        return mask


def _load(folder: Path) -> Any:
    try:
        inference: Any = importlib.import_module("nnInteractive.inference.inference_session")
        points: Any = importlib.import_module("nnInteractive.interaction.point")
    except ImportError as error:
        raise MissingDependencyError(f"nnInteractive cannot be imported: {error}", _INSTALL) from error
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    capability, settings = _information(folder)
    dataset = _table(folder / "dataset.json")
    plans = PlansManager(read_plans(folder / "plans.json", "`nninteractive`"))
    checkpoint = load_checkpoint(folder / CHECKPOINT)
    name = checkpoint["init_args"]["configuration"]
    if name not in plans.available_configurations:
        raise MissingDependencyError(f"the checkpoint of nnInteractive was trained as `{name}`, which its plans lack")
    configuration = plans.get_configuration(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    benchmark = torch.backends.cudnn.benchmark
    session = inference.nnInteractiveInferenceSession(
        device=device,
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=torch.get_num_threads(),
        do_autozoom=True,
        enable_undo=False,
    )
    torch.backends.cudnn.benchmark = benchmark
    artifacts = {
        "capability_content": capability,
        "point_interaction": points.PointInteraction_stub(settings["point_radius"], True),
        "preferred_scribble_thickness": settings["preferred_scribble_thickness"],
        "interaction_decay": settings["interaction_decay"],
        "pad_mode_data": settings["pad_mode_image"],
        "plans_manager": plans,
        "configuration_manager": configuration,
        "dataset_json": dataset,
        "trainer_name": str(checkpoint["trainer_name"])[:100],
        "label_manager": plans.get_label_manager(dataset),
        "license": "",
        "network": None,
    }
    session.initialize_from_loaded_artifacts(artifacts)  # it says how many channels prompts take
    channels = determine_num_input_channels(plans, configuration, dataset) + session.num_interaction_channels
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        OUTPUTS,
        allow_init=False,
        deep_supervision=False,
    )
    try:
        network.load_state_dict(checkpoint["network_weights"])
    except RuntimeError as error:
        first = [line.strip() for line in str(error).splitlines() if line.strip()][1:2]
        raise MissingDependencyError(
            f"the checkpoint of nnInteractive does not fit its plans.json: {' '.join(first)[:300]}",
            "Its authors may have published weights for a newer version of the package.",
        ) from error
    session.initialize_from_loaded_artifacts({**artifacts, "network": network.eval().to(device)})
    return session


_INSTALL: Final = "pip install --no-deps nninteractive==2.6.0 nninteractive-client==2.6.0"
_DEFAULTS: Final[Mapping[str, Any]] = {
    "point_radius": 4,
    "preferred_scribble_thickness": [2, 2, 2],
    "interaction_decay": 0.98,
    "pad_mode_image": "constant",
}
"""The package's own, for what the file does not say."""


def _information(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the network can be asked by, numbers of the prompts), as the package reads them."""
    newer, older = (folder / name for name in INFORMATION)
    if newer.is_file():
        found = _table(newer)
        wanted = found.get("inference_class", SESSION_CLASS)
        if wanted != SESSION_CLASS:
            raise MissingDependencyError(f"these weights need the class {str(wanted)[:80]!r} of nnInteractive")
        return found, {key: found.get(key, value) for key, value in _DEFAULTS.items()}
    content = json.loads(_text(older))
    if isinstance(content, str):  # the first release names a class alone
        return {}, {**_DEFAULTS, "interaction_decay": 0.9}
    if not isinstance(content, dict):
        raise InputError(f"`{older.name}` of nnInteractive is neither a name nor a table")
    return {}, {key: content.get(key, value) for key, value in _DEFAULTS.items()}


def _table(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise InputError(f"`{path.name}` of nnInteractive is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"`{path.name}` of nnInteractive is no table")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path.name}` of nnInteractive cannot be read ({type(error).__name__})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The package prints at every step and warns; nnU-Net says that its folders are not in the environment."""
    with environment_kept(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
