"""How BiomedParse runs, from the environment: variables `R2SEG_BIOMEDPARSE_…` (docs/guide/models.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from r2seg_agent.errors import InputError

PREFIX = "R2SEG_BIOMEDPARSE_"


class BiomedParseSettings(BaseSettings):
    """The defaults are the exact ones; see `BiomedParseSegmenter` for what each does."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "tensorfloat32", "bfloat16", "float16"] = "float32"
    joint: bool = False
    compiled: bool = False
    slices_at_once: Annotated[int, Field(ge=1)] | None = None
    existence: Path | None = None
    """The file of the existence check; without it there is none."""
    existence_below: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Masks that score lower are dropped."""


def settings_from_environment() -> BiomedParseSettings:
    """Read the variables.

    Raises:
        InputError: a value that is not allowed; names the variable.
    """
    try:
        return BiomedParseSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise InputError(
            f"{name} is `{first['input']}`: {first['msg'].lower()}", "Set it to an allowed value, or unset it."
        ) from error
