"""The released weights file: where it lies, what is wrong with it, and the model made from it."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import cached_file_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
    from r2seg_agent.segment.biomedparse.model import BiomedParse

FILE_NAME = "biomedparse_v1.pt"
VARIABLE = "R2SEG_BIOMEDPARSE"
LICENCE = "CC-BY-NC-SA-4.0 (weights: non-commercial use only)"
IGNORED_PARTS = (
    "dilation_kernel",
    "pn_indicator",
    "mask_sptial_embed",
    "spatial_embed",
    "spatial_featured",
    "biomed_encoder",
)
"""Parts of the names of tensors that only training, strokes and clicks use. All others must match, one to one."""
SOURCE = "its authors: microsoft/BiomedParse on Hugging Face"
_WHERE = (
    f"r2seg never downloads it: take `{FILE_NAME}` from {SOURCE}, accept its licence, {LICENCE}, and run "
    "`r2seg weights import FILE`"
)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model ready for inference, with the names in the file that it has no use for, and the file's sha256."""

    model: BiomedParse
    ignored: tuple[str, ...]
    sha256: str


def weights_path() -> Path:
    """$R2SEG_BIOMEDPARSE, else `weights/biomedparse_v1.pt` in the cache root."""
    if configured := os.environ.get(VARIABLE):
        return Path(configured).expanduser()
    from r2seg_agent.data.fetch import cache_root

    return cache_root() / "weights" / FILE_NAME


def check_file(path: Path) -> None:
    """Quick: the file is there and whole (a cut-off archive has lost its directory, which is at the end).

    Raises:
        MissingDependencyError: no file there.
        InputError: not a complete PyTorch weights file.
    """
    if not path.is_file():
        raise MissingDependencyError(
            f"BiomedParse's weights file `{FILE_NAME}` is missing: there is no file `{path}`",
            f"{_WHERE}, or set {VARIABLE} to where it is.",
        )
    if not zipfile.is_zipfile(path):
        raise _unusable(path, "it is cut off or no PyTorch weights file")


def note_of(path: Path) -> Path:
    """Beside weights, written by `r2seg weights import`: their sha256, and their size and time when it was taken."""
    return path.with_name(path.name + ".json")


def file_sha256(path: Path) -> str:
    """The file's sha256, from the note beside it while size and time agree: reading 1.4 GB takes seconds."""
    status = path.stat()
    try:
        note = json.loads(note_of(path).read_text(encoding="utf-8"))
        if (note["size"], note["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
            return str(note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or one of another making: the file itself tells
    return cached_file_sha256(path, status.st_mtime_ns, status.st_size)


def load(path: Path, config: BiomedParseConfig | None = None) -> Loaded:
    """The model with the weights of `path`, memory-mapped: pages are read when they are first used.

    Raises:
        MissingDependencyError: no file there.
        InputError: cut off, not a weights file, or of another model; says which tensors differ.
    """
    state, model, ignored = _matched(path, config)
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=True, assign=True)
    return Loaded(model=model.eval().requires_grad_(False), ignored=ignored, sha256=file_sha256(path))


def check_contents(path: Path, config: BiomedParseConfig | None = None) -> tuple[str, ...]:
    """Slow: every byte is what was once written, every tensor has its name and shape. Returns the ignored names.

    Raises:
        MissingDependencyError: no file there.
        InputError: as `load`, and for damage inside the archive.
    """
    check_file(path)
    with zipfile.ZipFile(path) as archive:
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise _unusable(path, f"it is damaged inside ({error})") from error
    if damaged is not None:
        raise _unusable(path, f"it is damaged inside, at `{damaged}`")
    return _matched(path, config)[2]


def _matched(path: Path, config: BiomedParseConfig | None) -> tuple[dict[str, Tensor], BiomedParse, tuple[str, ...]]:
    """The file's tensors without leftovers, an empty model that they fit, and the leftovers' names."""
    import torch

    from r2seg_agent.segment.biomedparse.config import RELEASED
    from r2seg_agent.segment.biomedparse.model import BiomedParse

    check_file(path)
    state = _read(path)
    ignored = tuple(sorted(key for key in state if any(part in key for part in IGNORED_PARTS)))
    kept = {key: tensor for key, tensor in state.items() if key not in ignored}
    with torch.device("meta"):
        model = BiomedParse(config or RELEASED)
    _compare(path, kept, model.state_dict())
    return kept, model, ignored


def _read(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _unusable(
            path,
            "besides plain tensors it holds Python objects, which could run code and are never loaded "
            "(a training checkpoint, or BiomedParse v2?)",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _unusable(path, "it cannot be read as plain tensors; it may be damaged") from error
    if isinstance(state, dict) and "state_dict" in state:
        raise _unusable(path, "it is a training checkpoint (as BiomedParse v2 has them), not v1's plain tensors")
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise _unusable(path, "it holds something other than named tensors")
    return state


def _compare(path: Path, kept: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    missing = [key for key in wanted if key not in kept]
    unknown = [key for key in kept if key not in wanted]
    if missing or unknown:
        first = "; ".join(
            f"{len(names)} {what}, the first `{names[0]}`"
            for names, what in ((missing, "tensors are missing"), (unknown, "are unknown"))
            if names
        )
        raise _unusable(path, f"its tensors are those of another model (BiomedParse v2?): {first}")
    for key, tensor in wanted.items():
        if kept[key].shape != tensor.shape or not kept[key].is_floating_point():
            raise _unusable(
                path,
                f"`{key}` is {kept[key].dtype} {tuple(kept[key].shape)} where v1 has float {tuple(tensor.shape)}",
            )


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"`{path}` is not BiomedParse's `{FILE_NAME}`: {why}",
        f"{_WHERE}; or set {VARIABLE} to the right file.",
    )
