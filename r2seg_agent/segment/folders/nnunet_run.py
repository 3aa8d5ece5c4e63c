"""nnU-Net's own predictor over any result folder, kept loaded, giving probabilities: a seam to `nnunetv2` (torch)."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Float3, Geometry
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.reason.anchors.totalseg.networks import load_checkpoint, ready_predictor
from r2seg_agent.reason.anchors.totalseg.plans import read_plans
from r2seg_agent.segment.folders.constants import STEP_SIZE
from r2seg_agent.segment.folders.grid import turn_to, with_context
from r2seg_agent.segment.folders.side_file import Orientation, read_json

FIXED_SCALES: Final = frozenset(("CTNormalization", "NoNormalization", "RGBTo01Normalization"))
"""nnU-Net's normalisations that do not depend on the image. With any other the whole scan must be looked at, or a cut
would change every grey value."""
UNKNOWN_SPACING: Final = 999.0
"""What nnU-Net's own reader of 2D pictures says for the slice distance."""


class NnUNetPredictor:
    """`nnUNetPredictor` as `initialize_from_trained_model_folder` makes it, but from plain weights; kept loaded."""

    def __init__(self, name: str, folder: Path, checkpoints: Sequence[Path], *, mirror: bool) -> None:
        """Raises `MissingDependencyError` for files that cannot be loaded as plain weights or do not fit."""
        self._name = name
        self._predictor = _load(name, folder, checkpoints, mirror=mirror)

    def probabilities(
        self,
        geometry: Geometry,
        channels: Sequence[NDArray[Any]],
        roi: Box,
        orientation: Orientation,
        wanted: Mapping[str, int],
    ) -> dict[str, FloatArray]:
        """(z, y, x) on the ROI grid for each `wanted` output of the network.

        `channels` are whole scans (z, y, x) on `geometry`. The network sees the ROI and half a patch around it, or
        the whole scan where its normalisation depends on that.
        """
        turn = turn_to(orientation, geometry)
        region = geometry.full_box if self.needs_whole else with_context(roi, self._context_mm(turn), geometry)
        image = np.stack([turn.apply(channel[region.slices]).astype(np.float32) for channel in channels])
        spacing = list(turn.triple(geometry.spacing_mm))
        if geometry.is_2d:
            spacing[turn.axes.index(0)] = UNKNOWN_SPACING
        with _quiet():
            _, found = self._predictor.predict_single_npy_array(
                image, {"spacing": spacing}, None, None, save_or_return_probabilities=True
            )
        inner = roi.within(region).slices
        return {
            name: np.ascontiguousarray(turn.undo(np.asarray(found[at]))[inner], dtype=np.float32)
            for name, at in wanted.items()
        }

    @property
    def needs_whole(self) -> bool:
        """True where the normalisation depends on the scan: then the answer for the whole scan serves all ROIs."""
        return not set(self._predictor.configuration_manager.normalization_schemes) <= FIXED_SCALES

    def _context_mm(self, turn: Any) -> Float3:
        """Half a patch in mm along the scan's axes (z, y, x); a 2D network sees nothing across slices."""
        configuration, plans = self._predictor.configuration_manager, self._predictor.plans_manager
        half = [0.5 * n * mm for n, mm in zip(configuration.patch_size, configuration.spacing, strict=True)]
        padded = [0.0] * (3 - len(half)) + [float(v) for v in half]
        a, b, c = (padded[axis] for axis in plans.transpose_backward)
        mm: Float3 = turn.triple_back((a, b, c))
        return mm


def _load(name: str, folder: Path, checkpoints: Sequence[Path], *, mirror: bool) -> Any:
    with _quiet():
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        plans = PlansManager(read_plans(folder / "plans.json", f"`{name}`"))
        dataset = read_json(folder / "dataset.json", "model table")
        loaded = [_checkpoint(name, path) for path in checkpoints]
        configuration_name = str(loaded[0]["init_args"]["configuration"])
        if configuration_name not in plans.available_configurations:
            raise MissingDependencyError(
                f"the checkpoint of `{name}` was trained as `{configuration_name}`, which its plans.json does not hold",
                "Give the folder as nnU-Net wrote it, with the plans.json of this training.",
            )
        try:
            configuration = plans.get_configuration(configuration_name)
        except _UNBUILDABLE as error:
            raise _unbuildable(name, error, "nnUNetTrainer") from error
        if configuration.previous_stage_name is not None:
            raise InputError(
                f"the model `{name}` is the second stage of a cascade: it needs the first stage's answer as input",
                "Use the first stage (3d_lowres) or a 3d_fullres or 2d training.",
            )
        trainer = str(loaded[0]["trainer_name"])[:100]
        network = _network(name, trainer, plans, configuration, dataset)
        for path, checkpoint in zip(checkpoints, loaded, strict=True):
            try:
                network.load_state_dict(checkpoint["network_weights"])
            except RuntimeError as error:
                raise MissingDependencyError(
                    f"the checkpoint in `{path.parent.name}` of `{name}` does not fit its network: {_short(error)}",
                    _TRAINER_HINT.format(trainer=trainer),
                ) from error
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return ready_predictor(
            network, plans, configuration, dataset, loaded, device=device, mirror=mirror, step_size=STEP_SIZE
        )


_TRAINER_HINT = (
    "It was trained by `{trainer}`. If that trainer builds a network of its own, its code must lie inside the "
    "installed package nnunetv2 (training/nnUNetTrainer), as its authors say; r2seg runs no code from a checkpoint."
)


def _network(name: str, trainer: str, plans: Any, configuration: Any, dataset: Any) -> Any:
    """The trainer's own network where nnU-Net knows the trainer, else the one that plans.json describes."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

    known = _trainer_class(trainer)
    try:
        arguments = (
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            determine_num_input_channels(plans, configuration, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
        )
        if known is not None:
            return known.build_network_architecture(*arguments, enable_deep_supervision=False)
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        return get_network_from_plans(*arguments, allow_init=False, deep_supervision=False)
    except _UNBUILDABLE as error:
        raise _unbuildable(name, error, trainer) from error


_UNBUILDABLE = (ImportError, AttributeError, TypeError, RuntimeError, KeyError, ValueError, IndexError, AssertionError)
"""What nnU-Net raises for plans that lack something or do not fit together."""


def _unbuildable(name: str, error: BaseException, trainer: str) -> MissingDependencyError:
    words = f"its plans.json lacks {error}" if isinstance(error, KeyError) else _short(error)
    return MissingDependencyError(
        f"the network of `{name}` cannot be built: {words}", _TRAINER_HINT.format(trainer=trainer)
    )


def _trainer_class(trainer: str) -> Any:
    """The class of that name inside nnunetv2, if it is there; None for any other (it is then not run)."""
    if trainer == "nnUNetTrainer":
        return None  # builds what the plans say: no need to search
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"
    try:
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        found = recursive_find_python_class(str(folder), trainer, "nnunetv2.training.nnUNetTrainer")
    except ImportError:  # some variants need packages that are not installed
        return None
    # The name is the checkpoint's: whatever else these modules hold is no trainer.
    return found if isinstance(found, type) and issubclass(found, nnUNetTrainer) else None


def _checkpoint(name: str, path: Path) -> dict[str, Any]:
    """`load_checkpoint` (plain weights only), with what to do for a folder of the user's own."""
    try:
        return load_checkpoint(path)
    except MissingDependencyError as error:
        cause = error.__cause__
        words = _short(cause) if cause is not None else "it lacks what nnU-Net writes into a checkpoint"
        raise MissingDependencyError(
            f"`{path.parent.name}/{path.name}` of `{name}` cannot be loaded as plain weights: {words}",
            "r2seg runs no code from a checkpoint. Export the weights again, or copy the file again.",
        ) from error


def _short(error: BaseException) -> str:
    """The first line of an error, of some length."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 300 else f"{line[:297]}..."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """nnU-Net prints to stdout and warns, also that its folders are not in the environment; it needs none of them."""
    with environment_kept(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
