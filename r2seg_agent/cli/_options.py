"""Options that several verbs share and that are no option of a run (`runs/options.py` has those), declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from r2seg_agent.batch.engines import EngineName
from r2seg_agent.datasets.layouts import LayoutName

SCAN_PANEL, DATA_PANEL, WORKERS_PANEL, OUTPUT_PANEL = "Scan", "Data set", "Workers", "Output"
SCAN_FORMATS = "NIfTI, NRRD, MetaImage, a DICOM folder or file, PNG, JPEG or TIFF"

Image = Annotated[
    str | None,
    typer.Option(
        "--image", "-i", help="The scan, in place of the argument SCAN.", metavar="SCAN", rich_help_panel=SCAN_PANEL
    ),
]
MovedImage = Annotated[
    str | None,
    typer.Option(
        "--image", "-i", help="The scan, where it has moved since.", metavar="SCAN", rich_help_panel=SCAN_PANEL
    ),
]
Request = Annotated[
    str | None,
    typer.Option(
        "--request",
        help="What to find, for cases that do not say it themselves.",
        metavar="WORDS",
        rich_help_panel=DATA_PANEL,
    ),
]
Layout = Annotated[
    LayoutName | None,
    typer.Option(
        "--layout",
        help="Of the data set.",
        show_default="recognised from its files, and printed",
        rich_help_panel=DATA_PANEL,
    ),
]
LesionLabels = Annotated[
    list[str] | None,
    typer.Option(
        "--lesion-label",
        help="Which label is the lesion, by name or number; `none`: use no truth. Repeatable.",
        metavar="LABEL",
        rich_help_panel=DATA_PANEL,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Only scans whose name or path in the data set fits: '*_T1w.nii.gz'. Repeatable.",
        metavar="PATTERN",
        rich_help_panel=DATA_PANEL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        help="Worker processes; each computes with one thread unless OMP_NUM_THREADS is set.",
        metavar="N",
        rich_help_panel=WORKERS_PANEL,
    ),
]
Engine = Annotated[
    EngineName,
    typer.Option(
        "--engine", help="`local`: this machine; `ray`: a cluster (extra `ray`).", rich_help_panel=WORKERS_PANEL
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of a running Ray cluster.",
        metavar="ADDRESS",
        show_default="one on this machine",
        rich_help_panel=WORKERS_PANEL,
    ),
]
GpusPerWorker = Annotated[
    float,
    typer.Option(
        "--gpus-per-worker",
        min=0.0,
        help="GPUs of its own for each worker; 0.5: two workers share one.",
        metavar="N",
        rich_help_panel=WORKERS_PANEL,
    ),
]
CaseTimeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.1,
        help="Most seconds for one case; a case that hangs is then killed.",
        metavar="SECONDS",
        show_default="no limit",
        rich_help_panel=WORKERS_PANEL,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the report as JSON on stdout.", rich_help_panel=OUTPUT_PANEL)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, only the answer.", rich_help_panel=OUTPUT_PANEL)
]
