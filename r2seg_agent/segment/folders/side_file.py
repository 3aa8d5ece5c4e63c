"""`r2seg.json` beside an nnU-Net model: what its own files do not say, or say wrongly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality

FILE_NAME: Final = "r2seg.json"
MAX_BYTES: Final = 1_000_000

Orientation = Literal["as_stored", "LPS", "RAS"]
"""How a network wants its arrays: as the file stores them, or with x, y, z growing to Left, Posterior, Superior (the
usual order of DICOM) or to Right, Anterior, Superior (nibabel's canonical order)."""


Model = TypeVar("Model", bound=BaseModel)


class SideFile(Frozen):
    """Every field may be left out. `classes`: class → its targets (concept ids or their names, or "any"). `site`: the
    organ of classes that name none. `channels`: the names of the images, where the model's own say nothing.
    `stand_in`: the weights are not meant to find anything in patients (tests, demonstrations).
    """

    comment: str = ""
    name: str | None = None
    licence: str | None = None
    modalities: tuple[Modality, ...] = ()
    site: str | None = None
    classes: Mapping[str, tuple[str, ...]] = {}
    channels: tuple[str, ...] = ()
    orientation: Orientation | None = None
    stand_in: bool = False


def read_side_file(folder: Path) -> SideFile:
    """The folder's side file, or one with nothing in it; `InputError` for one that cannot be used."""
    path = folder / FILE_NAME
    if not path.is_file():
        return SideFile()
    return read_model(path, SideFile, "side file")


def read_json(path: Path, what: str) -> object:
    """A small JSON file; `InputError` names `what` it was to be when it is missing, large or not JSON."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the {what} `{path.name}` has more than {MAX_BYTES} bytes: it is something else")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the {what} `{path.name}` cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"the {what} `{path.name}` is not JSON: {error}") from error
    return found


def read_model(path: Path, model: type[Model], what: str) -> Model:
    """`read_json` as a `model`; `InputError` lists each field that is wrong."""
    try:
        return model.model_validate(read_json(path, what))
    except ValidationError as error:
        faults = "; ".join(f"`{'.'.join(map(str, e['loc'])) or what}`: {e['msg']}" for e in error.errors())
        raise InputError(
            f"the {what} `{path.name}` cannot be used: {faults}", "docs/models.md lists its fields."
        ) from error
