"""Any data set as cases: its layout is recognised from its files, and named in the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from r2seg_agent.datasets.bids import is_bids, matches, read_bids
from r2seg_agent.datasets.case import IMAGE_SUFFIXES, Case, Dataset, Wanted
from r2seg_agent.datasets.folder import read_folder
from r2seg_agent.datasets.layouts import LAYOUT_WORDS, LayoutName
from r2seg_agent.datasets.msd import is_msd, read_msd
from r2seg_agent.datasets.nnunet import is_nnunet, read_nnunet
from r2seg_agent.datasets.table import TABLE_SUFFIXES, read_table
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.files import file_of

Reader = Callable[[Path, Wanted], Dataset]
KINDS = "Give a .csv or .jsonl table, a folder of scans, or a BIDS, nnU-Net or Decathlon data set."


OWN_TABLE = "cases.csv"
"""The list that `r2seg phantom` writes into a data set's folder."""


def _table(path: Path, wanted: Wanted) -> Dataset:
    cases, notes = read_table(path / OWN_TABLE if path.is_dir() else path)
    return Dataset(layout="table", cases=cases, notes=notes)


def _folder(path: Path, wanted: Wanted) -> Dataset:
    return Dataset(layout="folder", cases=read_folder(path))


READERS: Mapping[LayoutName, Reader] = {
    "table": _table,
    "folder": _folder,
    "bids": read_bids,
    "nnunet": read_nnunet,
    "msd": read_msd,
}


def recognise(path: Path) -> LayoutName:
    """The layout of `path`, by its files. Raises `InputError` for what is no data set."""
    if not path.exists():
        raise InputError(f"`{path}` does not exist", KINDS)
    if not path.is_dir():
        if path.suffix.lower() in TABLE_SUFFIXES:
            return "table"
        raise InputError(f"`{path}` is no list of cases", KINDS)
    if (path / OWN_TABLE).is_file():
        return "table"
    # nnU-Net's first version wrote a Decathlon-like list whose names lack the channel numbers that the files have.
    if is_nnunet(path):
        return "nnunet"
    if is_msd(path):
        return "msd"
    return "bids" if is_bids(path) else "folder"


def read_dataset(path: Path, *, layout: LayoutName | None = None, wanted: Wanted | None = None) -> Dataset:
    """The cases of `path`, with notes for the user; `layout` None: what `recognise` sees.

    Raises `InputError`: no data set, damaged, a choice that only the user can make (which label is the lesion, which
    kind of scan), or no case at all.
    """
    wanted = wanted or Wanted()
    try:
        chosen = layout or recognise(path)
        found = READERS[chosen](path, wanted)
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}", "Check its permissions.") from error
    root = path if path.is_dir() else path.parent
    cases = tuple(case for case in found.cases if matches(root, file_of(case.image), wanted.only))
    if not cases and found.cases:
        raise InputError(
            f"no scan of {len(found.cases)} fits --only {' '.join(wanted.only)} (first: `{found.cases[0].image}`)",
            "Patterns are for file names, or for paths inside the data set: `*_T1w.nii.gz`, `imagesTs/*`.",
        )
    if not cases:
        words = "as " + LAYOUT_WORDS[chosen]
        raise InputError(f"`{path}` holds no case {words}", f"Scans end in {', '.join(IMAGE_SUFFIXES)}, or are DICOM.")
    return found.model_copy(update={"cases": cases})


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of `path` alone; see `read_dataset`."""
    return read_dataset(path).cases
