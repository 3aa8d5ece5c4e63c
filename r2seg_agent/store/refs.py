"""`ArtifactRef`: what state, messages and reports carry instead of arrays."""

from __future__ import annotations

from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Geometry

ArtifactKind = Literal["image", "anchors", "probability", "candidates", "lesions", "samples", "picture", "json"]


class ArtifactRef(Frozen):
    """A stored array or file by content: `sha256` covers voxels, geometry and the parameters that made it.

    `geometry` is None for what has no grid (pictures, JSON).
    """

    sha256: str
    kind: ArtifactKind
    shape: tuple[int, ...] = ()
    dtype: str = ""
    geometry: Geometry | None = None
