"""Many phantoms as a data set: which patients (`plan_cohort`), from one set of wishes (`Cohort`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.phantom.draw import Acquisition
from r2seg_agent.phantom.lesions import LOOKS, LesionSpec
from r2seg_agent.phantom.make import Phantom, make_phantom
from r2seg_agent.phantom.materials import MATERIALS, Phase, Sequence
from r2seg_agent.phantom.patient import Habitus
from r2seg_agent.phantom.scanner import KERNELS, KernelName, Scanner
from r2seg_agent.phantom.views import ViewName

OrganName = Literal["liver", "pancreas", "kidney", "spleen", "lung"]
Range = tuple[float, float]


class _Organ(NamedTuple):
    """Classes that a lesion may lie in, its material, how one asks for it, usual contrasts in CT."""

    classes: tuple[str, ...]
    material: str
    request: str
    contrast: Range


ORGANS: Mapping[OrganName, _Organ] = {
    "liver": _Organ(("liver",), "liver", "find a liver lesion", (-60, -25)),
    "pancreas": _Organ(("pancreas",), "pancreas", "find a pancreatic lesion", (-50, -20)),
    "kidney": _Organ(("kidney_left", "kidney_right"), "kidney_cortex", "find a kidney lesion", (-90, -40)),
    "spleen": _Organ(("spleen",), "spleen", "find a spleen lesion", (-60, -25)),
    "lung": _Organ(
        ("lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_lower_lobe_right"),
        "lung",
        "find the lung nodule",
        (820, 900),
    ),
}
MR_CONTRAST: Range = (-140.0, -60.0)
HABITUS_SHARES: Mapping[Habitus, float] = {"slim": 0.22, "average": 0.42, "large": 0.24, "obese": 0.12}
"""Adults of a mixed cohort; children only when asked for."""
ATTEMPTS = 6
"""A patient whose organ is too small, or out of view, for the lesion is drawn again this often."""


class Cohort(Frozen):
    """What `r2seg phantom` was asked for. Ranges are drawn from evenly (volumes: evenly in their logarithm)."""

    seed: int = Field(default=0, ge=0)
    modality: Literal["CT", "MR"] = "CT"
    spacing_mm: Float3 = (3.0, 3.0, 3.0)
    view: ViewName = "liver"
    organ: OrganName = "liver"
    lesions: Annotated[tuple[int, int], Field(description="fewest and most of one patient")] = (1, 1)
    lesion_free_share: float = Field(default=0.0, ge=0, le=1)
    volume_ml: Range = (0.5, 5.0)
    contrast: Range | None = None
    looks: tuple[str, ...] = ("even", "lobulated", "necrotic", "rim")
    mimics: int = Field(default=0, ge=0, le=5)
    phase: Phase = "venous"
    sequence: Sequence = "t1"
    habitus: Habitus | None = None
    kernel: KernelName | None = "standard"
    noise_sd: Range | None = None
    slice_mm: float | None = Field(default=None, gt=0)
    gantry_mm: float | None = Field(default=None, gt=0)
    shading_hu: float = Field(default=2.0, ge=0)
    organ_grey: Range | None = None
    anchor_error_mm: float = Field(default=1.0, ge=0)
    request: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("volume_ml", "noise_sd", "contrast", "lesions", "organ_grey"):
            value = getattr(self, name)
            if value is not None and value[0] > value[1]:
                raise InputError(f"{name} goes from {value[0]:g} to {value[1]:g}", "Give the smaller number first.")
        if self.volume_ml[0] <= 0 or min(self.spacing_mm) <= 0 or (self.noise_sd and self.noise_sd[0] < 0):
            raise InputError("volumes and spacings must be positive, noise must not be negative")
        unknown = [look for look in self.looks if look not in LOOKS]
        if unknown or not self.looks:
            raise InputError(f"there is no look `{unknown[0] if unknown else ''}`", f"Looks: {', '.join(LOOKS)}.")
        if self.organ == "lung" and self.view in ("liver", "belly", "dome", "abdomen", "left", "core"):
            raise InputError(f"the view `{self.view}` shows too little lung", "Choose `--fov chest` or `trunk`.")
        if self.organ != "lung" and self.view == "chest":
            raise InputError(f"the view `chest` does not show the {self.organ}", "Choose `--fov abdomen` or `trunk`.")
        return self

    @property
    def asked(self) -> str:
        """The request for these cases, as `find` takes it."""
        return self.request or ORGANS[self.organ].request


class PhantomCase(Frozen):
    """One patient of a cohort, before it is drawn: everything that decides its voxels besides the cohort."""

    number: int
    seed: int
    habitus: Habitus
    kernel: KernelName
    noise_sd: float | None
    organ_grey: float | None
    volumes_ml: tuple[float, ...]
    contrasts: tuple[float, ...]
    looks: tuple[str, ...]
    mimic_volumes_ml: tuple[float, ...]

    @property
    def name(self) -> str:
        """Of its files and of its patient."""
        return f"phantom-{self.number:05d}"


def plan_cohort(cohort: Cohort, n: int) -> tuple[PhantomCase, ...]:
    """The first `n` patients; a longer cohort begins with the same ones."""
    return tuple(_plan(cohort, number) for number in range(1, n + 1))


def _plan(cohort: Cohort, number: int) -> PhantomCase:
    rng = np.random.default_rng([cohort.seed, number])
    seed = int(rng.integers(2**31))
    names, shares = list(HABITUS_SHARES), list(HABITUS_SHARES.values())
    habitus: Habitus = cohort.habitus or names[int(rng.choice(len(names), p=shares))]
    kernels: tuple[KernelName, ...] = get_args(KernelName)
    kernel = cohort.kernel or kernels[int(rng.integers(len(kernels)))]
    noise = None
    if cohort.noise_sd is not None:
        noise = float(rng.uniform(*cohort.noise_sd))
    elif cohort.modality == "CT":
        noise = KERNELS[kernel].noise_sd * float(np.exp(rng.normal(0.0, 0.18)))
    free = bool(rng.random() < cohort.lesion_free_share)
    count = 0 if free else int(rng.integers(cohort.lesions[0], cohort.lesions[1] + 1))
    usual = ORGANS[cohort.organ].contrast if cohort.modality == "CT" else MR_CONTRAST
    low, high = cohort.contrast or usual
    volumes = tuple(float(np.exp(rng.uniform(*np.log(cohort.volume_ml)))) for _ in range(count))
    contrasts = tuple(float(rng.uniform(low, high)) for _ in range(count))
    looks = tuple(cohort.looks[int(rng.integers(len(cohort.looks)))] for _ in range(count))
    mimics = tuple(float(np.exp(rng.uniform(*np.log((0.3, 3.0))))) for _ in range(cohort.mimics))
    grey = None if cohort.organ_grey is None else float(rng.uniform(*cohort.organ_grey))
    return PhantomCase(
        number=number,
        seed=seed,
        habitus=habitus,
        kernel=kernel,
        noise_sd=noise,
        organ_grey=grey,
        volumes_ml=volumes,
        contrasts=contrasts,
        looks=looks,
        mimic_volumes_ml=mimics,
    )


class Made(NamedTuple):
    """A drawn patient and the lesions that it holds, in the order of its masks."""

    phantom: Phantom
    lesions: tuple[LesionSpec, ...]


def make_case(cohort: Cohort, case: PhantomCase) -> Made:
    """Draw a patient; where the organ is too small for the lesion, or cut off, another one of the same plan.

    Raises `InputError` when none of `ATTEMPTS` patients can hold the lesions.
    """
    scanner = Scanner(
        kernel=case.kernel,
        noise_sd=case.noise_sd,
        slice_mm=cohort.slice_mm,
        shading_hu=cohort.shading_hu,
        gantry_mm=cohort.gantry_mm,
    )
    grey = () if case.organ_grey is None else ((ORGANS[cohort.organ].material, case.organ_grey),)
    acquisition = Acquisition(scanner=scanner, phase=cohort.phase, sequence=cohort.sequence, grey=grey)
    last: InputError | None = None
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([case.seed, attempt])
        specs = tuple(
            LesionSpec(_place(cohort.organ, rng), volume, contrast, look=LOOKS[look])
            for volume, contrast, look in zip(case.volumes_ml, case.contrasts, case.looks, strict=True)
        )
        mimics = tuple(_cyst(cohort, volume, rng) for volume in case.mimic_volumes_ml)
        try:
            phantom = make_phantom(
                case.seed + attempt,
                spacing_mm=cohort.spacing_mm,
                modality=cohort.modality,
                lesions=specs,
                acquisition=acquisition,
                view=cohort.view,
                habitus=case.habitus,
                mimics=mimics,
            )
        except InputError as error:
            last = error
            continue
        return Made(phantom, specs)
    assert last is not None
    raise InputError(
        f"no phantom of {ATTEMPTS} could hold the lesions of case {case.number}: {last.message}",
        "Ask for smaller lesions, another organ, or a field of view that shows it.",
    )


def _place(organ: OrganName, rng: np.random.Generator) -> str:
    classes = ORGANS[organ].classes
    return classes[int(rng.integers(len(classes)))]


def _cyst(cohort: Cohort, volume_ml: float, rng: np.random.Generator) -> LesionSpec:
    """A simple cyst: fluid, sharp, even. In no truth mask."""
    column = cohort.phase if cohort.modality == "CT" else cohort.sequence
    tissue, fluid = MATERIALS[ORGANS[cohort.organ].material], MATERIALS["gallbladder"]
    contrast = float(getattr(fluid, column)) - float(getattr(tissue, column))
    return LesionSpec(_place(cohort.organ, rng), volume_ml, contrast, edge_mm=0.8)
