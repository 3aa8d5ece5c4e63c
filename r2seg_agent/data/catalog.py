"""The catalogue of demo scans: which package holds them, their hashes, licences and roles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import Field

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality

Derivation = Literal["brain_mask", "implant_liver", "implant_slice"]


class Package(Frozen):
    """A distribution on the package registry: exact version and archive hash."""

    version: str
    format: Literal["sdist", "wheel"]
    mb: int
    sha256: str
    licence: str


class Member(Frozen):
    """One file of the archive."""

    member: str
    sha256: str


class Folder(Frozen):
    """One folder of the archive; `sha256` covers the sorted lines "<file sha256>  <name>"."""

    member: str
    files: int
    sha256: str


class Dataset(Frozen):
    """One demo scan; `image`, `truth` and `anchors` are names inside its folder in the cache."""

    package: str
    modality: Modality
    about: str
    image: str
    truth: str | None = None
    anchors: str | None = None
    synthetic: bool = False
    files: Mapping[str, Member] = Field(default_factory=dict)
    folders: Mapping[str, Folder] = Field(default_factory=dict)
    derive: Derivation | None = None


class Catalog(Frozen):
    """All packages and datasets."""

    packages: Mapping[str, Package]
    datasets: Mapping[str, Dataset]


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The catalogue that ships with the package."""
    return Catalog.model_validate_json(files("r2seg_agent.data").joinpath("catalog.json").read_bytes())


def dataset(name: str) -> Dataset:
    """The dataset called `name`; `InputError` lists the legal names."""
    found = catalog().datasets.get(name)
    if found is None:
        raise InputError(
            f"there is no demo scan `{name}`; there are: {', '.join(sorted(catalog().datasets))}",
            "Run `r2seg data list` to see what each one is.",
        )
    return found
