"""The parts of nnU-Net's `dataset.json` and `plans.json` that a segmenter needs, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field


def _names(value: object) -> object:
    """nnU-Net's {"0": "T1", "1": "T2"} in the order of its numbers."""
    if isinstance(value, dict):
        return tuple(str(value[key]) for key in sorted(value, key=lambda k: (len(str(k)), str(k))))
    return value


def _text(value: object) -> object:
    """Words for people, which nnU-Net does not read: what is no text is as good as absent."""
    return value if isinstance(value, str) else ""


Text = Annotated[str, BeforeValidator(_text)]


class DatasetJson(BaseModel):
    """The part of nnU-Net's `dataset.json` that matters here. A label is a number, or the numbers of a region."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    channel_names: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(min_length=1, validation_alias=AliasChoices("channel_names", "modality")),
    ]
    labels: Mapping[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None = None
    name: Text = ""
    description: Text = ""
    licence: Text = ""
    license: Text = ""
    r2seg_stand_in: bool = False

    @property
    def has_regions(self) -> bool:
        """True where classes overlap (sigmoid outputs), by nnU-Net's own rule."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.labels.values())

    def outputs(self) -> tuple[str | None, ...]:
        """The class of each output of the network, None for the background; nnU-Net's own order."""
        kept = {name: value for name, value in self.labels.items() if name != "ignore"}
        if self.has_regions:
            return tuple(name for name, value in kept.items() if set(_as_tuple(value)) != {0})
        by_value = {_as_tuple(value)[0]: name for name, value in kept.items()}
        return tuple(by_value[value] if value != 0 else None for value in sorted(by_value))


class PlansJson(BaseModel):
    """The part of nnU-Net's `plans.json` that matters here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dataset_name: str
    image_reader_writer: str = "SimpleITKIO"
    configurations: Mapping[str, Mapping[str, object]]


def _as_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
