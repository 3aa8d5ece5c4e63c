"""Organs that a model located in a size that hardly any adult has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PLAUSIBLE_ML: Final[Mapping[str, tuple[float, float]]] = {"brain": (900.0, 1900.0)}
"""Volumes in ml of whole organs of adults."""


def implausible(volumes_ml: Mapping[str, float]) -> tuple[str, ...]:
    """Organs in view whose volume in ml is beyond `PLAUSIBLE_ML`, sorted. One that is cut by the edge of the scan, or a
    child's, may be right.
    """
    known = ((name, ml, PLAUSIBLE_ML[name]) for name, ml in sorted(volumes_ml.items()) if name in PLAUSIBLE_ML)
    return tuple(name for name, ml, (low, high) in known if ml > 0 and not low <= ml <= high)
