"""`r2seg phantom`: synthetic patients with known organs and lesions, as a data set for the other verbs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options

if TYPE_CHECKING:
    from r2seg_agent.phantom.cohort import Cohort
    from r2seg_agent.phantom.files import Written


class Modality(StrEnum):
    """What kind of scan."""

    CT = "CT"
    MR = "MR"


class Organ(StrEnum):
    """Where the lesions lie, and what is asked for."""

    liver = "liver"
    pancreas = "pancreas"
    kidney = "kidney"
    spleen = "spleen"
    lung = "lung"


class Fov(StrEnum):
    """What a scan shows (docs/guide/phantoms.md)."""

    trunk = "trunk"
    abdomen = "abdomen"
    chest = "chest"
    liver = "liver"
    belly = "belly"
    dome = "dome"
    left = "left"
    core = "core"


class Kernel(StrEnum):
    """Reconstruction kernel."""

    soft = "soft"
    standard = "standard"
    sharp = "sharp"
    mixed = "mixed"


class Size(StrEnum):
    """Body size."""

    mixed = "mixed"
    child = "child"
    slim = "slim"
    average = "average"
    large = "large"
    obese = "obese"


class PhaseName(StrEnum):
    """Phase of the contrast agent in CT."""

    native = "native"
    arterial = "arterial"
    venous = "venous"


class Weighting(StrEnum):
    """Contrast of MR."""

    t1 = "t1"
    t2 = "t2"


def phantom_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the data set.", show_default=False, rich_help_panel="Output")
    ],
    cases: Annotated[
        int, typer.Option("--cases", "-n", min=1, help="Number of patients, one scan each.", rich_help_panel="Patients")
    ] = 10,
    lesion_free: Annotated[
        bool, typer.Option("--lesion-free", help="No lesions: for `calibrate`.", rich_help_panel="Patients")
    ] = False,
    lesion_free_share: Annotated[
        float,
        typer.Option(
            "--lesion-free-share", min=0, max=1, help="Share of patients without a lesion.", rich_help_panel="Patients"
        ),
    ] = 0.0,
    lesions: Annotated[
        str, typer.Option("--lesions", help="Lesions of a patient that has any: 1, or 1..3.", rich_help_panel="Lesions")
    ] = "1",
    organ: Annotated[
        Organ, typer.Option("--organ", help="Organ of the lesions.", rich_help_panel="Lesions")
    ] = Organ.liver,
    volume_ml: Annotated[
        str, typer.Option("--volume-ml", help="Volume of a lesion: 2, or 0.5..5.", rich_help_panel="Lesions")
    ] = "0.5..5",
    contrast: Annotated[
        str | None,
        typer.Option(
            "--contrast",
            help="HU (MR: grey values) over the organ: -40, or -60..-20.",
            show_default="usual",
            rich_help_panel="Lesions",
        ),
    ] = None,
    look: Annotated[
        str,
        typer.Option(
            "--look",
            help="Of even, lobulated, spiculated, necrotic, rim, calcified; commas between them.",
            rich_help_panel="Lesions",
        ),
    ] = "even,lobulated,necrotic,rim",
    mimics: Annotated[
        int,
        typer.Option(
            "--mimics",
            min=0,
            max=5,
            help="Simple cysts a patient: not lesions, not in the truth.",
            rich_help_panel="Lesions",
        ),
    ] = 0,
    modality: Annotated[
        Modality, typer.Option("--modality", help="Kind of scan.", rich_help_panel="Scanner")
    ] = Modality.CT,
    phase: Annotated[
        PhaseName, typer.Option("--phase", help="Contrast agent in CT.", rich_help_panel="Scanner")
    ] = PhaseName.venous,
    weighting: Annotated[
        Weighting, typer.Option("--weighting", help="Contrast of MR.", rich_help_panel="Scanner")
    ] = Weighting.t1,
    spacing: Annotated[
        str, typer.Option("--spacing", help="Voxel size in mm: one number, or z,y,x.", rich_help_panel="Scanner")
    ] = "3",
    fov: Annotated[Fov, typer.Option("--fov", help="What the scan shows.", rich_help_panel="Scanner")] = Fov.liver,
    size: Annotated[
        Size, typer.Option("--size", help="Body size; mixed: adults of all.", rich_help_panel="Patients")
    ] = Size.mixed,
    scanner: Annotated[
        Kernel, typer.Option("--scanner", help="Reconstruction kernel of CT.", rich_help_panel="Scanner")
    ] = Kernel.standard,
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise",
            help="Noise in HU, mean over the body: 12, or 8..20.",
            show_default="the kernel's",
            rich_help_panel="Scanner",
        ),
    ] = None,
    slice_mm: Annotated[
        float | None,
        typer.Option(
            "--slice-mm", min=0.1, help="Slice thickness.", show_default="the slice spacing", rich_help_panel="Scanner"
        ),
    ] = None,
    shading: Annotated[
        float,
        typer.Option("--shading", min=0, help="Slow drifts of the grey value, SD in HU.", rich_help_panel="Scanner"),
    ] = 2.0,
    gantry_mm: Annotated[
        float | None,
        typer.Option(
            "--gantry-mm",
            min=50,
            help="Diameter of the reconstructed circle; -1024 outside.",
            rich_help_panel="Scanner",
        ),
    ] = None,
    organ_grey: Annotated[
        str | None,
        typer.Option(
            "--organ-grey",
            help="Normal grey value of the organ: 46, or 40..52.",
            show_default="by phase",
            rich_help_panel="Patients",
        ),
    ] = None,
    anchor_error: Annotated[
        float,
        typer.Option(
            "--anchor-error",
            min=0,
            help="How far organ borders are off, SD in mm, as a model's are.",
            rich_help_panel="Patients",
        ),
    ] = 1.0,
    request: Annotated[
        str | None,
        typer.Option("--request", help="Column `request`.", show_default="by organ", rich_help_panel="Patients"),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of everything random.", rich_help_panel="Patients")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.", rich_help_panel="Workers")] = 1,
    quiet: options.Quiet = False,
) -> None:
    """Make SYNTHETIC patients: images, organ label maps, truth masks, and `cases.csv` for batch, calibrate and eval.

    Deterministic by seed. Stop it at any time; the same command again draws what is left, and a larger --cases adds
    patients. Every image says in its header that it is synthetic. docs/guide/phantoms.md says what is modelled and
    what is not.

    Example: r2seg phantom --cases 40 --lesion-free --out free
    """
    from pydantic import ValidationError

    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.errors import InputError
    from r2seg_agent.phantom.cohort import Cohort
    from r2seg_agent.phantom.files import write_cohort

    fewest, most = (round(n) for n in _range("--lesions", lesions))
    given = {
        "seed": seed,
        "modality": modality.value,
        "spacing_mm": _spacing(spacing),
        "view": fov.value,
        "organ": organ.value,
        "lesions": (0, 0) if lesion_free else (fewest, most),
        "lesion_free_share": lesion_free_share,
        "volume_ml": _range("--volume-ml", volume_ml),
        "contrast": None if contrast is None else _range("--contrast", contrast),
        "looks": tuple(name.strip() for name in look.split(",") if name.strip()),
        "mimics": mimics,
        "phase": phase.value,
        "sequence": weighting.value,
        "habitus": None if size is Size.mixed else size.value,
        "kernel": None if scanner is Kernel.mixed else scanner.value,
        "noise_sd": None if noise is None else _range("--noise", noise),
        "slice_mm": slice_mm,
        "gantry_mm": gantry_mm,
        "shading_hu": shading,
        "organ_grey": None if organ_grey is None else _range("--organ-grey", organ_grey),
        "anchor_error_mm": anchor_error,
        "request": request,
    }
    try:
        cohort = Cohort.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    with terminal_progress(enabled=not quiet) as progress:
        written = write_cohort(cohort, cases, out, workers=workers, progress=progress)
    _print_result(written, cohort, out)


def _range(option: str, text: str) -> tuple[float, float]:
    """ "0.5..3" or "2" as two numbers."""
    from r2seg_agent.errors import InputError

    first, dots, second = text.partition("..")
    try:
        low = float(first)
        return low, float(second) if dots else low
    except ValueError:
        raise InputError(f"{option} got `{text}`", "Give a number, or a range such as 0.5..3.") from None


def _spacing(text: str) -> tuple[float, float, float]:
    from r2seg_agent.errors import InputError

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise InputError(f"--spacing got `{text}`", "Give one number in mm, or three as z,y,x: 3 or 2.5,0.8,0.8.")
    z, y, x = numbers * 3 if len(numbers) == 1 else numbers
    return z, y, x


def _print_result(written: Written, cohort: Cohort, out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    before = f", {written.n_before} of them from before" if written.n_before else ""
    console.print(f"{out}: {written.n} SYNTHETIC patient{'s' * (written.n != 1)}{before}")
    console.print("cases.csv (images, organs, truth), lesions.csv, phantom.json")
    if cohort.lesions[1] == 0:
        words = cohort.asked.removeprefix("find ").removeprefix("a ").removeprefix("the ")
        console.print(f'Next: r2seg calibrate --cases {written.cases_csv} --target "{words}" --out calibration.json')
    else:
        console.print(f"Next: r2seg batch {written.cases_csv} --synthetic --out results")
    console.print("Phantoms stand for no patient: what holds for them must be shown on real scans.", style="dim")
