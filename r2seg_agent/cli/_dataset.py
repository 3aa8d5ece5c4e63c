"""What `batch`, `calibrate` and `ablate` share: a data set is read, and its layout is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from r2seg_agent.datasets.case import Dataset
    from r2seg_agent.datasets.layouts import LayoutName
    from r2seg_agent.runs.options import RunOptions


def read_and_print(
    path: Path,
    layout: LayoutName | None,
    *,
    request: str | None,
    lesion_labels: Sequence[str] | None,
    only: Sequence[str] | None,
    options: RunOptions,
) -> Dataset:
    """Read `path` and print on stderr which layout was recognised and how its files are used.

    Anchors and modality of `options` come before those of the layout, where they are given.
    """
    from r2seg_agent.datasets.case import Wanted
    from r2seg_agent.datasets.read import read_dataset

    wanted = Wanted(
        request=request,
        lesion_labels=tuple(lesion_labels or ()),
        only=tuple(only or ()),
        anchors=options.anchors == "auto",
        modality=options.modality is None,
    )
    data = read_dataset(path, layout=layout, wanted=wanted)
    count = len(data.cases)
    for line in (f"`{path}` read as {data.layout_words}: {count} case{'s' * (count != 1)}", *data.notes):
        typer.echo(f"r2seg: {line}", err=True)
    return data
