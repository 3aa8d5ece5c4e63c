"""Where the truth of each case comes from, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r2seg_agent.datasets.csv_file import read_csv
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.files import file_of, suffix_of
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import LESION_FREE, Labels, to_labels
from r2seg_agent.imaging.read import read_array

REST = "rest"
"""For `--lesion-free`: every case without a truth file."""
MASK_ENDINGS = ("", "_label", "_seg", "_mask", "-label", "-seg", "-mask")
CHANNEL = "_0000"


@dataclass(frozen=True)
class TruthSource:
    """Truth files by scan. `by_path` and `by_name` come from a table or a folder; `free` are names of scans."""

    by_path: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, str | None] = field(default_factory=dict)
    """None: the name stands for several."""
    listed: tuple[str, ...] = ()
    """The scans of a table, in its order."""
    free: frozenset[str] = frozenset()
    rest_free: bool = False

    def of(self, image: str, own: str | None) -> str | None:
        """The truth file of a scan, `LESION_FREE`, or None; `own` is what its run was given.

        Raises `InputError` where a file name fits several truths.
        """
        if self.free & {image, _resolved(image), file_of(image).name, _stem(image)}:
            return LESION_FREE
        found = self.by_path.get(_resolved(image))
        for name in (file_of(image).name, _stem(image), _stem(image).removesuffix(CHANNEL)):
            if found is not None:
                break
            if name in self.by_name:
                found = self.by_name[name]
                if found is None:
                    raise InputError(
                        f"the name `{name}` fits several truth files", "Give a table with full image paths instead."
                    )
        return found or own or (LESION_FREE if self.rest_free else None)

    def not_run(self, images: Iterable[str]) -> tuple[str, ...]:
        """Names of scans that the table lists and `images` lack."""
        known = {key for image in images for key in (_resolved(image), file_of(image).name)}
        return tuple(
            Path(image).name for image in self.listed if _resolved(image) not in known and Path(image).name not in known
        )


def truth_source(truth: Path | None, lesion_free: str | None = None) -> TruthSource:
    """Truth from a folder of masks named like the scans, or a table with columns `image` and `truth`.

    In a table the word `lesion-free` in place of a file says that the scan holds none; an empty cell says nothing.
    `lesion_free` is a list of scans (one name a line, or a table with a column `image`), or `rest`. Raises
    `InputError` for what is neither, a missing file, or a table without these columns; it names the line.
    """
    free, rest = frozenset[str](), lesion_free == REST
    if lesion_free is not None and not rest:
        free = frozenset(_names(Path(lesion_free)))
    if truth is None:
        return TruthSource(free=free, rest_free=rest)
    if truth.is_dir():
        by_name: dict[str, str | None] = {}
        for path in sorted(truth.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                stem = _stem(path.name)
                for ending in MASK_ENDINGS:
                    if stem.endswith(ending) and len(stem) > len(ending):
                        name = stem.removesuffix(ending) if ending else stem
                        by_name[name] = None if name in by_name else str(path)
        if not by_name:
            raise InputError(f"the truth folder `{truth}` is empty", "It holds one mask per scan, named like the scan.")
        return TruthSource(by_name=by_name, free=free, rest_free=rest)
    if truth.suffix.lower() != ".csv" or not truth.exists():
        what = "is no table and no folder" if truth.exists() else "does not exist"
        raise InputError(
            f"the truth `{truth}` {what}",
            "Give a folder of masks named like the scans, or a .csv with the columns image and truth.",
        )
    return _table(truth, free, rest)


def read_truth_alone(path: str) -> tuple[Labels, Geometry] | None:
    """The truth map on its own grid, for a case that has no report; None where only the scan's grid would do."""
    file, values = _with_values(path)
    try:
        array, grid, _ = read_array(Path(file), "reference mask")
        labels = to_labels(Path(file), "reference mask", array, may_be_empty=True)
    except InputError:
        return None
    return (np.isin(labels, values).astype(np.uint8) if values else labels), grid


def _with_values(path: str) -> tuple[str, tuple[int, ...]]:
    """`FILE::2,3` → the file and the values; none where the path is a file as it stands."""
    file, _, text = path.rpartition("::")
    if not file or Path(path).exists() or not all(part.isdigit() for part in text.split(",")):
        return path, ()
    return file, tuple(int(part) for part in text.split(","))


def _table(path: Path, free: frozenset[str], rest: bool) -> TruthSource:
    by_path: dict[str, str] = {}
    by_name: dict[str, str | None] = {}
    listed = []
    table = read_csv(path)
    if not {"image", "truth"} <= set(table.header):
        raise InputError(
            f"the truth table `{path.name}` has no columns `image` and `truth`; it has: "
            f"{', '.join(table.header) or 'none'}",
            f"`truth` is a mask file, the word {LESION_FREE}, or empty where nothing is known.",
        )
    for number, row in table.rows:
        image, truth = row["image"].strip(), row.get("truth", "").strip()
        if not image:
            raise InputError(f"`{path.name}` line {number} has no `image`")
        image = str(path.parent / image)
        listed.append(image)
        if not truth:
            continue
        if truth != LESION_FREE:
            truth = str(path.parent / truth)
            if not Path(truth.partition("::")[0]).exists():
                raise InputError(
                    f"`{path.name}` line {number}: the truth `{row['truth']}` does not exist",
                    f"Files are looked for beside the table. A scan without a lesion has the word {LESION_FREE}.",
                )
        by_path[_resolved(image)] = truth
        for name in {Path(image).name, _stem(image)}:
            by_name[name] = None if name in by_name else truth
    return TruthSource(by_path, by_name, tuple(listed), free, rest)


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(
            f"the list of lesion-free scans `{path}` does not exist",
            f"Give a file with one scan's name a line, a table with a column `image`, or the word {REST}.",
        )
    lines = _lines(path)
    if lines and "image" in lines[0].split(","):
        return [row["image"] for _, row in read_csv(path).rows]
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read `{path}`: {error}", "Save it as UTF-8 text.") from error


def _stem(name: str) -> str:
    path = file_of(name)
    return path.name[: len(path.name) - len(suffix_of(path))]


def _resolved(path: str) -> str:
    return str(file_of(path).resolve())
