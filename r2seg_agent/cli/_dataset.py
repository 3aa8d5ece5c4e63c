"""What `batch` and `calibrate` share: a data set read, and said how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from r2seg_agent.cli._options import LayoutKind
    from r2seg_agent.datasets.case import Dataset


def read_and_tell(
    path: Path,
    layout: LayoutKind | None,
    *,
    request: str | None,
    lesion_labels: Sequence[str] | None,
    only: Sequence[str] | None,
    anchors: str,
    modality: str | None,
) -> Dataset:
    """Read `path` and say on stderr which layout was recognised and what was taken for what. `anchors` and `modality`
    are the command's options: named there, they come before what the layout says."""
    from r2seg_agent.datasets.case import Wanted
    from r2seg_agent.datasets.read import read_dataset

    wanted = Wanted(
        request=request,
        lesion_labels=tuple(lesion_labels or ()),
        only=tuple(only or ()),
        anchors=anchors == "auto",
        modality=modality is None,
    )
    data = read_dataset(path, layout=None if layout is None else layout.value, wanted=wanted)
    count = len(data.cases)
    for line in (f"`{path}` read as {data.told}: {count} case{'s' * (count != 1)}", *data.notes):
        typer.echo(f"r2seg: {line}", err=True)
    return data
