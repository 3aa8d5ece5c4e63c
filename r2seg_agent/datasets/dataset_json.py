"""`dataset.json`, as nnU-Net and the Medical Segmentation Decathlon write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from r2seg_agent.datasets.labels import Labels, parse_labels
from r2seg_agent.errors import InputError
from r2seg_agent.segment.folders.channels import modalities_of

NAME = "dataset.json"


class DatasetJson:
    """The fields of a dataset.json that say what images and labels are."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` when the file cannot be read."""
        self.path = folder / NAME
        try:
            found: object = json.loads(self.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read `{self.path}`: {error}", "It must be JSON.") from error
        if not isinstance(found, dict):
            raise InputError(f"`{self.path}` is not a JSON object", "Compare it with the description of the layout.")
        self.fields: Mapping[str, object] = found

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels in their order: `channel_names` (nnU-Net) or `modality` (Decathlon, nnU-Net v1)."""
        named = self.fields.get("channel_names", self.fields.get("modality"))
        if not isinstance(named, dict):
            return ()
        return tuple(str(named[key]) for key in sorted(named, key=lambda key: int(key) if str(key).isdigit() else 0))

    @property
    def modality(self) -> str | None:
        """The modality of the first channel, where its name says it."""
        found = modalities_of(self.channels[:1])
        return found[0] if found else None

    def labels(self) -> Labels:
        """Raises `InputError` where they cannot be understood."""
        return parse_labels(self.fields.get("labels"), str(self.path))

    def inside(self, text: str) -> Path:
        """A path that the file names, which must lie inside its folder: a data set from elsewhere must not choose what
        else is read. Links are followed: whoever made the folder made them. Raises `InputError`."""
        path = PurePosixPath(text.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in text:
            raise InputError(
                f"`{self.path}` names `{text}`, which is outside the data set's folder",
                "Paths in it must be relative and stay inside; mend the file, or give a table of cases.",
            )
        return self.path.parent / Path(*path.parts)
