"""nnU-Net's `plans.json` before nnU-Net sees it: what it names is compared with lists, and nothing is imported.

nnU-Net looks up every class and function that plans name, wherever it lies, and calls it with the plans' arguments. A
plans file of a stranger could so run any program. Here each name must be one of nnU-Net's own, whatever the branch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from r2seg_agent.errors import InputError, MissingDependencyError

MAX_BYTES: Final = 4_000_000
MAX_WINDOW: Final = 512
NETWORKS: Final = frozenset(
    f"dynamic_network_architectures.architectures.{name}"
    for name in (
        "unet.PlainConvUNet",
        "unet.ResidualEncoderUNet",
        "unet.ResidualUNet",
        "residual_unet.ResidualEncoderUNet",
        "residual_unet.ResidualUNet",
    )
)
_LAYERS: Final = {
    "conv": "Conv1d Conv2d Conv3d",
    "instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
    "normalization": "GroupNorm LayerNorm LocalResponseNorm",
    "dropout": "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout",
    "activation": "CELU ELU GELU Hardswish Hardtanh LeakyReLU Mish PReLU ReLU ReLU6 SELU Sigmoid SiLU Softplus Tanh",
    "linear": "Identity",
}
_BLOCKS: Final = frozenset(
    f"dynamic_network_architectures.building_blocks.residual.{name}" for name in ("BasicBlockD", "BottleneckD")
)
OPERATIONS: Final = _BLOCKS | {
    path
    for module, names in _LAYERS.items()
    for name in names.split()
    for path in (f"torch.nn.{name}", f"torch.nn.modules.{module}.{name}")
}
"""Everything that a network's arguments may name."""
IMPORTED: Final = frozenset(("conv_op", "norm_op", "dropout_op", "nonlin", "block"))
"""Arguments whose value is such a name; nnU-Net and its trainers look them up whether or not the plans say so."""
_CHOSEN: Final[Mapping[str, frozenset[str]]] = {
    "preprocessor_name": frozenset(("DefaultPreprocessor",)),
    "normalization_schemes": frozenset(
        f"{kind}Normalization" for kind in ("CT", "ZScore", "No", "RescaleTo01", "RGBTo01")
    ),
    "UNet_class_name": frozenset(("PlainConvUNet", "ResidualEncoderUNet")),
    **dict.fromkeys(
        ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"),
        frozenset(
            ("resample_data_or_seg_to_shape", "resample_torch_simple", "resample_torch_fornnunet", "no_resampling_hack")
        ),
    ),
}
_ARGUMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_WORD: Final = re.compile(r"[a-z][a-z_-]{0,19}")
_HINT: Final = (
    "r2seg builds networks of torch.nn and dynamic_network_architectures alone. Export any other network as a bundle "
    "(docs/guide/models.md)."
)


def read_plans(path: Path, model: str) -> dict[str, Any]:
    """A `plans.json` in which every name is one of nnU-Net's own. `model` is what errors call it.

    Raises `MissingDependencyError` for a file that names anything else, `InputError` for one that is no plans file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"`{path.name}` of {model} has more than {MAX_BYTES} bytes: it is something else")
        plans: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"`{path.name}` of {model} cannot be read ({type(error).__name__})") from error
    problem = next(_problems(plans), None)
    if problem is not None:
        raise MissingDependencyError(f"`{path.name}` of {model} {problem}; nothing of it was run", _HINT)
    return cast("dict[str, Any]", plans)


def read_architecture(path: Path, model: str, configuration: str) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """The arguments of a network that its own package builds, and its window (z, y, x), from a `plans.json`: layers are
    names of torch.nn, to be looked up, all else numbers. What class the plans name does not matter: it is not imported.

    Raises as `read_plans`.
    """
    try:
        own = json.loads(path.read_text(encoding="utf-8"))["configurations"][configuration]
        architecture, window = dict(own["architecture"]), tuple(own["patch_size"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(
            f"`{path.name}` of {model} has no architecture of `{configuration}` ({type(error).__name__})"
        ) from error
    problem = next(_architecture_problems({**architecture, "network_class_name": next(iter(NETWORKS))}), None)
    if problem is None and not (len(window) == 3 and all(isinstance(n, int) and 0 < n <= MAX_WINDOW for n in window)):
        problem = f"gives {_shown(window)} as `patch_size`"
    if problem is not None:
        raise MissingDependencyError(f"`{path.name}` of {model} {problem}; nothing of it was run", _HINT)
    return architecture["arch_kwargs"], (window[0], window[1], window[2])


def _problems(plans: object) -> Iterator[str]:
    if not isinstance(plans, dict) or not isinstance(plans.get("configurations"), dict):
        yield "is no plans file: it has no `configurations`"
        return
    if plans.get("label_manager", "LabelManager") not in (None, "LabelManager"):
        yield f"names the label manager {_shown(plans['label_manager'])}, which is not nnU-Net's own"
    for name, configuration in plans["configurations"].items():
        if not isinstance(configuration, dict):
            yield f"has a configuration {_shown(name)} that is no table"
            continue
        for key, allowed in _CHOSEN.items():
            given = configuration.get(key, [])
            for value in given if isinstance(given, list) else [given]:
                if not isinstance(value, str) or value not in allowed:
                    yield f"names {_shown(value)} as `{key}`; allowed: {', '.join(sorted(allowed))}"
        for key in ("data", "seg", "probabilities"):
            yield from _plain_arguments(configuration.get(f"resampling_fn_{key}_kwargs", {}), f"resampling_fn_{key}")
        if "architecture" in configuration:
            yield from _architecture_problems(configuration["architecture"])


def _architecture_problems(architecture: object) -> Iterator[str]:
    if not isinstance(architecture, dict):
        yield "has an `architecture` that is no table"
        return
    network = architecture.get("network_class_name")
    if not isinstance(network, str) or network not in NETWORKS:
        yield f"names the network {_shown(network)}, which is none of {', '.join(sorted(NETWORKS))}"
    imports, arguments = architecture.get("_kw_requires_import", []), architecture.get("arch_kwargs")
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        yield "has a `_kw_requires_import` that is no list of names"
        return
    if not isinstance(arguments, dict):
        yield "has no `arch_kwargs`"
        return
    for key in imports:
        if key not in arguments:
            yield f"lacks the argument {_shown(key)} that `_kw_requires_import` names"
    for key in IMPORTED.union(imports).intersection(arguments):
        value = arguments[key]
        if value is not None and not (isinstance(value, str) and value in OPERATIONS):
            yield f"names {_shown(value)} as {_shown(key)}, which is no layer of torch.nn that nnU-Net uses"
    yield from _plain_arguments({k: v for k, v in arguments.items() if k not in IMPORTED.union(imports)}, "arch_kwargs")


def _plain_arguments(arguments: object, what: str) -> Iterator[str]:
    """Arguments are numbers, short words, and lists and tables of them."""
    if not isinstance(arguments, dict):
        yield f"has a `{what}` whose arguments are no table"
        return
    for key, value in arguments.items():
        if not _ARGUMENT.fullmatch(key) or not _is_plain(value, depth=5):
            yield f"gives {_shown(value)} as {_shown(key)} of `{what}`, which is neither a number nor a plain word"


def _is_plain(value: object, depth: int) -> bool:
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, Mapping) and depth:
        return all(_ARGUMENT.fullmatch(key) and _is_plain(inner, depth - 1) for key, inner in value.items())
    if isinstance(value, Sequence) and depth:
        return all(_is_plain(inner, depth - 1) for inner in value)
    return value is None or isinstance(value, bool | int | float)


def _shown(value: object) -> str:
    """What a stranger wrote, safe to print."""
    text = ascii(value)
    return f"`{text[1:-1] if isinstance(value, str) else text}`" if len(text) <= 80 else f"`{text[:77]}…`"
