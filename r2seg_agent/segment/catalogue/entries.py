"""The catalogue of released models as typed data, read from `catalogue.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.anchors.totalseg.tasks import Quality
from r2seg_agent.segment.folders.bundle_manifest import Manifest
from r2seg_agent.segment.folders.side_file import SideFile

Kind = Literal["nnunet", "bundle", "totalseg", "anchors", "nninteractive", "voxtell", "plugin"]
"""What an entry becomes: a segmenter from a model folder, TotalSegmentator's weights for lesions or for organs, a
segmenter that takes prompts, or nothing that this program runs by itself ("plugin")."""
CLASS_KINDS: Final = ("nnunet", "bundle", "totalseg")
PROMPTED_KINDS: Final = ("nninteractive", "voxtell")
FILE_KINDS: Final = ("nnunet", "bundle", *PROMPTED_KINDS)
"""Kinds whose files the entry lists."""

FREE_LICENCES: Final = ("Apache-2.0",)
"""Licences without conditions on use: shown, not asked for."""
SLACK: Final = 1.5
SLACK_BYTES: Final = 16 * 2**20
"""A file may be this much larger than the size in the catalogue, which is approximate."""
UNKNOWN_SHA256: Final = "0" * 64

Relative = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]


class RemoteFile(Frozen):
    """One file to download. `source` is its path below the entry's address and in a mirror, `target` its path in the
    model folder (default: the same). With a `member` the file is an archive, and only that member is kept. Hashes are
    of the downloaded file, as far as its authors publish them.
    """

    source: Relative
    target: Relative | None = None
    size_bytes: Annotated[int, Field(gt=0)]
    member: Relative | None = None
    sha256: Hex | None = None
    sha1: Hex | None = None
    md5: Hex | None = None

    @property
    def place(self) -> PurePosixPath:
        """Where it lies in the model folder."""
        return PurePosixPath(self.target or self.source)

    @property
    def limit_bytes(self) -> int:
        """The largest size that is accepted."""
        return int(self.size_bytes * SLACK) + SLACK_BYTES


class Entry(Frozen):
    """One released model.

    `targets` are concept ids, or "any". `address` is the folder that holds the `files`; `hosts` are the only ones that
    are asked, with their subdomains. `task` and `quality` name TotalSegmentator's own task, whose files its installed
    package lists. `module` is what must be importable to run it besides r2seg's own dependencies, `install` the command
    that brings it. `side_file` and `manifest` (without its hash) are written beside the weights. `unproven` says what
    nobody has tried here with the real weights.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    kind: Kind
    about: str
    targets: tuple[str, ...]
    modalities: tuple[Modality, ...]
    licence: str
    terms: str = ""
    page: str
    address: str = ""
    hosts: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    size_bytes: Annotated[int, Field(gt=0)]
    task: str | None = None
    quality: Quality = "full"
    side_file: SideFile | None = None
    manifest: Mapping[str, JsonValue] | None = None
    module: str | None = None
    install: str = ""
    unproven: str

    @property
    def fetched(self) -> bool:
        """True for what `r2seg models fetch` can get."""
        return self.kind != "plugin"

    @property
    def is_segmenter(self) -> bool:
        """True for what `--segmenter NAME` takes."""
        return self.kind in (*CLASS_KINDS, *PROMPTED_KINDS)

    @property
    def by_class(self) -> bool:
        """True for a segmenter that answers by named classes, without a prompt."""
        return self.kind in CLASS_KINDS

    @property
    def module_here(self) -> bool:
        """False where the package that it needs besides r2seg's own dependencies is not installed."""
        try:
            return self.module is None or find_spec(self.module) is not None
        except ModuleNotFoundError:  # of the package that the module is part of
            return False

    @property
    def must_accept(self) -> bool:
        """True where the licence has conditions that the user must accept by name."""
        return self.licence not in FREE_LICENCES

    @property
    def size(self) -> str:
        """For people."""
        mb = self.size_bytes / 1e6
        return f"{mb / 1000:.1f} GB" if mb >= 1000 else f"{mb:.0f} MB"

    def manifest_for(self, sha256: str) -> Manifest:
        """The bundle's manifest for a network with this hash."""
        return Manifest.model_validate({**(self.manifest or {}), "licence": self.licence, "sha256": sha256})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind in FILE_KINDS) != bool(self.files):
            raise ValueError(f"{self.name}: {', '.join(FILE_KINDS)} have files, other kinds none")
        if (self.kind in ("totalseg", "anchors")) != (self.task is not None):
            raise ValueError(f"{self.name}: totalseg and anchors name a task, other kinds none")
        if (self.module is None) != (not self.install):
            raise ValueError(f"{self.name}: a module comes with the command that installs it")
        if self.kind == "bundle":
            self.manifest_for(UNKNOWN_SHA256)
        places = [file.place for file in self.files]
        if len(set(places)) != len(places):
            raise ValueError(f"{self.name}: two files have the same place")
        if self.fetched and not (self.address.startswith("https://") and self.hosts):
            raise ValueError(f"{self.name}: an entry that is fetched has an https address and hosts")
        return self


class Catalogue(Frozen):
    """All entries, and the sizes of TotalSegmentator's archives, which its package does not state, by set id."""

    entries: tuple[Entry, ...]
    totalseg_zip_bytes: Mapping[int, int]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue that ships with the package."""
    text = files("r2seg_agent.segment.catalogue").joinpath("catalogue.json").read_bytes()
    return Catalogue.model_validate_json(text)


def find_entry(name: str) -> Entry | None:
    """The entry called `name`, if there is one."""
    return next((entry for entry in catalogue().entries if entry.name == name), None)


def fetch_command_of_task(task: str) -> str:
    """The command that fetches the weights of TotalSegmentator's `task`; "" where the catalogue does not have them."""
    entry = next((entry for entry in catalogue().entries if entry.task == task and entry.is_segmenter), None)
    return "" if entry is None else f"r2seg models fetch {entry.name}"


def entry_named(name: str) -> Entry:
    """The entry called `name`; `InputError` lists the names."""
    entry = find_entry(name)
    if entry is None:
        raise InputError(
            f"there is no model `{name}` in the catalogue; there are: "
            f"{', '.join(entry.name for entry in catalogue().entries)}",
            "Run `r2seg models list` to see what each one finds.",
        )
    return entry
