"""nnU-Net's own predictor, kept loaded, run in this process: the seam to `nnunetv2` (imports torch)."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.reason.anchors.totalseg.plans import read_plans
from r2seg_agent.reason.anchors.totalseg.tasks import WeightSet
from r2seg_agent.reason.anchors.totalseg.weights import checkpoints, model_dir

Device = Literal["cpu", "cuda", "auto"]
OnTile = Callable[[int, int], None]
"""Called as on_tile(done, total) after each sliding-window position."""


class NetworkPool:
    """Predictors by weight set, loaded once per file version and kept until the pool goes."""

    def __init__(self, weights_dir: Path, device: Device) -> None:
        self._weights_dir = weights_dir
        self._device = device
        self._loaded: dict[tuple[str, int, int], Any] = {}

    def segment(
        self, needed: WeightSet, image: NDArray[Any], spacing_mm: Float3, step_size: float, on_tile: OnTile
    ) -> NDArray[np.uint8]:
        """The set's own labels for an `image` (z, y, x) in canonical orientation with `spacing_mm` (z, y, x)."""
        predictor = self._predictor(needed)
        predictor.tile_step_size = step_size
        with warnings.catch_warnings(), _reporting(predictor, on_tile):
            warnings.simplefilter("ignore")
            labels = predictor.predict_single_npy_array(
                np.asarray(image, dtype=np.float32)[None], {"spacing": list(spacing_mm)}
            )
        return np.asarray(labels, dtype=np.uint8)

    def _predictor(self, needed: WeightSet) -> Any:
        first = checkpoints(self._weights_dir, needed)[0].stat()
        key = (f"{needed.folder}/{needed.model_folder}", first.st_mtime_ns, first.st_size)
        if key not in self._loaded:
            self._loaded[key] = _load_predictor(self._weights_dir, needed, _torch_device(self._device))
        return self._loaded[key]


def _load_predictor(weights_dir: Path, needed: WeightSet, device: torch.device) -> Any:
    """An `nnUNetPredictor` as `initialize_from_trained_model_folder` makes it, but from `weights_only` checkpoints."""
    with _loading(weights_dir):
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        folder = model_dir(weights_dir, needed)
        dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        plans = PlansManager(read_plans(folder / "plans.json", f"set {needed.set_id} `{needed.folder}`"))
        loaded = [load_checkpoint(path) for path in checkpoints(weights_dir, needed)]
        configuration = plans.get_configuration(loaded[0]["init_args"]["configuration"])
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            determine_num_input_channels(plans, configuration, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
            allow_init=False,
            deep_supervision=False,
        )
        try:
            network.load_state_dict(loaded[0]["network_weights"])
        except RuntimeError as error:
            raise MissingDependencyError(
                f"the checkpoint of set {needed.set_id} `{needed.folder}` does not fit its plans.json: {error}",
                "Delete the folder and download the set again.",
            ) from error
        return ready_predictor(network, plans, configuration, dataset, loaded, device=device)


def ready_predictor(
    network: Any,
    plans: Any,
    configuration: Any,
    dataset: Any,
    loaded: Sequence[Mapping[str, Any]],
    *,
    device: torch.device,
    mirror: bool = False,
    step_size: float = 0.5,
) -> Any:
    """nnU-Net's predictor over `network` with the `loaded` checkpoints (one a fold); global settings stay.

    `step_size` is the tiles' distance as a share of their size; `mirror` averages over mirrored copies.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    weights = [checkpoint["network_weights"] for checkpoint in loaded]
    if len(weights) == 1:
        weights = [network.state_dict()]  # nnU-Net reloads them before each case: share memory, do not copy
    benchmark = torch.backends.cudnn.benchmark
    predictor = nnUNetPredictor(
        tile_step_size=step_size, use_gaussian=True, use_mirroring=mirror, device=device, allow_tqdm=False
    )
    torch.backends.cudnn.benchmark = benchmark
    predictor.manual_initialization(
        network=network,
        plans_manager=plans,
        configuration_manager=configuration,
        parameters=weights,
        dataset_json=dataset,
        trainer_name=loaded[0]["trainer_name"],
        inference_allowed_mirroring_axes=loaded[0].get("inference_allowed_mirroring_axes"),
    )
    return predictor


def load_checkpoint(path: Path) -> dict[str, Any]:
    """An nnU-Net checkpoint, unpickled with nothing allowed but tensors, containers and NumPy numbers.

    Raises `MissingDependencyError` for a file that is broken or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise MissingDependencyError(
            f"the checkpoint `{path}` cannot be loaded as plain weights: {error}",
            "Delete the folder of this set and download it again; r2seg never runs code from a checkpoint.",
        ) from error
    missing = {"network_weights", "init_args", "trainer_name"} - set(loaded if isinstance(loaded, dict) else ())
    if missing:
        raise MissingDependencyError(
            f"the checkpoint `{path}` is no nnU-Net checkpoint: it lacks {', '.join(sorted(missing))}",
            "Delete the folder of this set and download it again.",
        )
    checkpoint: dict[str, Any] = loaded
    axes, arguments = checkpoint.get("inference_allowed_mirroring_axes"), checkpoint["init_args"]
    if not (isinstance(arguments, dict) and isinstance(arguments.get("configuration"), str)) or not (
        axes is None or (isinstance(axes, list | tuple) and all(axis in (0, 1, 2) for axis in axes))
    ):
        raise MissingDependencyError(
            f"the checkpoint `{path}` is no nnU-Net checkpoint: its configuration or its mirroring axes are none",
            "Delete the folder of this set and download it again.",
        )
    return checkpoint


def _numpy_numbers() -> list[Any]:
    """What nnU-Net's training log is made of; by the module names of NumPy 1 and of NumPy 2."""
    from numpy._core.multiarray import scalar

    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def _torch_device(device: Device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


@contextlib.contextmanager
def _loading(weights_dir: Path) -> Iterator[None]:
    """nnU-Net prints to stdout at import and at load, and reads its folders from the environment at import.

    Where that names none it gets the weights folder, so that the library's own functions still work later in the same
    process; the environment stays as it is.
    """
    with environment_kept(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = importlib.import_module("nnunetv2.paths")
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            if getattr(paths, name) is None:
                setattr(paths, name, str(weights_dir))
        yield


@contextlib.contextmanager
def _reporting(predictor: Any, on_tile: OnTile) -> Iterator[None]:
    """Count the tiles of one prediction. The two methods are nnU-Net's private ones: without them, no tile counts."""
    slicers = getattr(predictor, "_internal_get_sliding_window_slicers", None)
    one_tile = getattr(predictor, "_internal_maybe_mirror_and_predict", None)
    if slicers is None or one_tile is None:
        yield
        return
    total, done = 0, 0

    def counted_slicers(*args: Any) -> Any:
        nonlocal total
        found = slicers(*args)
        total = len(found)
        return found

    def counted_tile(*args: Any) -> Any:
        nonlocal done
        result = one_tile(*args)
        done += 1
        on_tile(min(done, total), total)
        return result

    predictor._internal_get_sliding_window_slicers = counted_slicers
    predictor._internal_maybe_mirror_and_predict = counted_tile
    try:
        yield
    finally:
        del predictor._internal_get_sliding_window_slicers
        del predictor._internal_maybe_mirror_and_predict
