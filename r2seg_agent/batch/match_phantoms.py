"""Phantoms like one scan: `match_cohort` gives a cohort the scan's voxels, noise, grey value and contrast phase.

What is matched is what can be measured in the scan's organ. Matching removes known differences, not unknown ones:
phantoms and patients are not exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, get_args

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom.cohort import ORGANS, Cohort, OrganName, make_case, plan_cohort
from r2seg_agent.phantom.materials import MATERIALS, Phase
from r2seg_agent.phantom.views import ViewName
from r2seg_agent.reject.profile import MIN_VOXELS, ScanProfile, measure_profile

PILOTS: Final = 4
"""Phantoms by which the noise of a cohort is set to the scan's."""
PILOT_NOISE_SD: Final = 12.0
NOISE_SPREAD: Final = 0.15
"""Patients of one scanner and protocol differ by about this much in noise (ours)."""
ANCHOR_ERROR_MM: Final = 0.6
"""Border error that gives a phantom's liver mask the same share of fat and lung as a real scan's mask has."""
SHADING_HU: Final = 4.0
GREY_SPREAD_HU: Final = 6.0
"""The phantoms' organs are within this of the scan's: without contrast agent, vessels are darker than a bright liver
and as bright as a grey one, and then they are, or are not, proposed as lesions."""
VIEW_OF: Final[Mapping[OrganName, ViewName]] = {
    "liver": "belly", "pancreas": "abdomen", "kidney": "abdomen", "spleen": "abdomen", "lung": "chest",
}  # fmt: skip


class Matched(NamedTuple):
    """A cohort like a scan, the scan's profile, and the profiles of the pilots before the noise was set."""

    cohort: Cohort
    scan: ScanProfile
    pilots: tuple[ScanProfile, ...]


def organ_of(anchors: Sequence[str]) -> OrganName:
    """The phantoms' organ that all `anchors` are, or are parts of; `InputError` where phantoms have no such organ."""
    for name in ORGANS:
        if anchors and all(anchor == name or anchor.startswith(f"{name}_") for anchor in anchors):
            return name
    raise InputError(
        f"there are no phantoms for the anchors {', '.join(anchors)}",
        f"Phantoms have: {', '.join(ORGANS)}. For others, calibrate on lesion-free scans: `r2seg calibrate --cases`.",
    )


def match_cohort(volume: Volume, organ: Mask, name: OrganName, *, seed: int, pilots: int = PILOTS) -> Matched:
    """Lesion-free phantoms of the spacing, noise and grey value that the CT `volume` has in `organ` (both (z, y, x)).

    The contrast phase is the one whose usual grey value of the organ is nearest. Raises `InputError` for an image that
    is not in HU, a single slice, or an organ of a few voxels.
    """
    if volume.unit != "HU" or volume.geometry.is_2d:
        what = "one slice" if volume.geometry.is_2d else "no CT in HU"
        raise InputError(
            f"phantoms can be made like a CT volume in HU, and this image is {what}",
            "Calibrate on lesion-free scans like it: `r2seg calibrate --cases`.",
        )
    scan = measure_profile(volume, organ)
    if scan.n_voxels < MIN_VOXELS:
        raise InputError(f"only {scan.n_voxels} voxels of the {name} are in view: too few to measure its noise")
    usual, phases = MATERIALS[ORGANS[name].material], get_args(Phase)
    phase: Phase = min(phases, key=lambda phase: abs(getattr(usual, phase) - scan.anchor_median))
    trial = Cohort(
        seed=seed,
        organ=name,
        lesions=(0, 0),
        view=VIEW_OF[name],
        phase=phase,
        spacing_mm=volume.geometry.spacing_mm,
        noise_sd=(PILOT_NOISE_SD, PILOT_NOISE_SD),
        # a scan resampled to coarse voxels by interpolation keeps the noise of single fine ones: no correlation along z
        slice_mm=0.5 * volume.geometry.spacing_mm[0],
        shading_hu=SHADING_HU,
        organ_grey=(scan.anchor_median - GREY_SPREAD_HU, scan.anchor_median + GREY_SPREAD_HU),
        anchor_error_mm=ANCHOR_ERROR_MM,
    )
    seen = []
    for case in plan_cohort(trial, pilots):
        phantom = make_case(trial, case).phantom
        seen.append(measure_profile(phantom.volume, phantom.organ(*ORGANS[name].classes)))
    factor = scan.noise_sd / float(np.mean([profile.noise_sd for profile in seen]))
    middle = PILOT_NOISE_SD * factor
    noise = (round(middle * (1 - NOISE_SPREAD), 2), round(middle * (1 + NOISE_SPREAD), 2))
    return Matched(trial.model_copy(update={"noise_sd": noise}), scan, tuple(seen))
