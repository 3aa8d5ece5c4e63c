"""`r2seg.json` beside an nnU-Net model: what its own files do not say, or say wrongly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality

FILE_NAME: Final = "r2seg.json"
MAX_BYTES: Final = 1_000_000

AXIS_OF: Final[Mapping[str, tuple[int, float]]] = {
    "L": (2, 1.0),
    "R": (2, -1.0),
    "P": (1, 1.0),
    "A": (1, -1.0),
    "S": (0, 1.0),
    "I": (0, -1.0),
}
"""Letter → the patient's axis in (z, y, x) order (Superior, Posterior, Left) and the direction along it, in LPS."""


def _orientation(text: str) -> str:
    axes = sorted(AXIS_OF[letter][0] if letter in AXIS_OF else -1 for letter in text)
    if text == "as_stored" or axes == [0, 1, 2]:
        return text
    raise ValueError("an orientation is `as_stored` or three letters such as LPS or RAS: where x, y and z grow to")


Orientation = Annotated[str, AfterValidator(_orientation)]
"""How a network wants its arrays: "as_stored" in the file, or three letters that say where the axes x, y, z grow to:
LPS (to Left, Posterior, Superior: the usual order of DICOM), RAS (nibabel's canonical order), or any other."""

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
            f"the {what} `{path.name}` cannot be used: {faults}", "docs/guide/models.md lists its fields."
        ) from error
