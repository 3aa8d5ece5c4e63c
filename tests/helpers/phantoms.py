"""Phantoms for tests: drawn once a process, and only as finely as their voxels, which takes a second."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.phantom import Acquisition, LesionSpec, Phantom, Scanner, make_phantom
from r2seg_agent.phantom.materials import Phase

FOUR_MM: Float3 = (4.0, 4.0, 4.0)
LIVER_LESION = LesionSpec("liver", volume_ml=12.0, contrast=-70.0)


@lru_cache(maxsize=8)
def phantom(
    seed: int, *, spacing_mm: Float3 = FOUR_MM, noise_sd: float = 14.0, phase: Phase = "native", **more: Any
) -> Phantom:
    """`make_phantom` drawn at its own voxels. Without contrast agent vessels hardly stand out from the liver."""
    acquisition = Acquisition(scanner=Scanner(noise_sd=noise_sd), phase=phase, finest_mm=spacing_mm)
    return make_phantom(seed, spacing_mm=spacing_mm, acquisition=acquisition, **more)


def liver_phantom() -> Phantom:
    """A trunk at 4 mm with one dark lesion of 12 ml in the liver."""
    return phantom(17, lesions=(LIVER_LESION,))
