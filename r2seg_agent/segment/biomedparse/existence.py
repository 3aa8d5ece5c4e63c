"""BiomedParse's own existence check, as an optional baseline: does a mask look like those of its target in training?

For every target the authors' file has four beta distributions: of the mean probability inside the mask (where it is at
least 128/256), and of the mean red, green and blue inside it, all as value / 256 (Zhao et al., Nature Methods 2025;
`inference_utils/output_processing.py`). With F_i the fitted distribution functions,

    score = Π_i 2 · min(F_i(x_i), 1 − F_i(x_i)).

The authors call the product a p-value (each factor is that of a Kolmogorov–Smirnov test with one observation). It is
not uniform for masks of true targets: the four are dependent, and a product of uniforms is not uniform. Here it is a
score. It stands for the paper's baseline and never takes the place of Reject.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.files import file_sha256
from r2seg_agent.imaging.volume import FloatArray, Modality

Beta = tuple[float, float]
N_STATISTICS = 4
_FORM = 'a JSON object {"CT-Abdomen": {"liver": [[a, b], [a, b], [a, b], [a, b]], …}, …} with a, b > 0'
_MODALITY_NAMES: Mapping[Modality, str] = {"CT": "CT", "MR": "MRI", "US": "Ultrasound", "XR": "X-Ray"}
_REGIONS: Mapping[str, str] = {
    **dict.fromkeys(("lung", "mediastinum", "heart", "esophagus", "breast", "thorax"), "chest"),
    **dict.fromkeys(
        ("liver", "pancreas", "kidney", "spleen", "stomach", "gallbladder", "adrenal gland", "duodenum", "colon"),
        "abdomen",
    ),
    **dict.fromkeys(("prostate", "bladder", "uterus", "cervix", "ovary", "rectum"), "pelvis"),
}
"""The region whose entry stands in where the file has none for the organ."""


@dataclass(frozen=True, eq=False)
class ExistenceCheck:
    """`fits` by image kind and target, both in lower case. Masks that score less than `below` are dropped."""

    fits: Mapping[str, Mapping[str, tuple[Beta, ...]]]
    sha256: str
    below: float = 0.05

    def entry(self, modality: Modality, site: str, target: str) -> tuple[Beta, ...] | None:
        """The fits for a target, of its organ ("ct-liver") or of the region around it ("ct-abdomen"); None if none."""
        kind = _MODALITY_NAMES.get(modality, modality).lower()
        places = (site.lower(), _REGIONS.get(site.lower()))
        for place in places:
            found = self.fits.get(f"{kind}-{place}", {}).get(target.lower())
            if found is not None:
                return found
        return None

    def keeps(
        self, grey: NDArray[np.uint8], probability: FloatArray, modality: Modality, site: str, target: str
    ) -> bool:
        """Whether a mask passes; one of a target that the file does not know always does (see `entry`)."""
        fits = self.entry(modality, site, target)
        return fits is None or existence_score(grey, probability, fits) >= self.below


def read_existence_file(path: Path, below: float = 0.05) -> ExistenceCheck:
    """Read the authors' `target_dist.json`, or a file of its form.

    Raises:
        InputError: no such file, or not of that form; says where it deviates.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"`{path.name}` cannot be read as JSON: {error}", f"It must be {_FORM}.") from error
    if not isinstance(data, dict):
        raise InputError(f"`{path.name}` holds a {type(data).__name__}", f"It must be {_FORM}.")
    fits: dict[str, Mapping[str, tuple[Beta, ...]]] = {}
    for kind, targets in data.items():
        if not isinstance(targets, dict):
            raise InputError(f"`{path.name}`, `{kind}`: a {type(targets).__name__} came", f"It must be {_FORM}.")
        fits[kind.lower()] = MappingProxyType(
            {target.lower(): _betas(f"`{path.name}`, `{kind}`, `{target}`", pairs) for target, pairs in targets.items()}
        )
    return ExistenceCheck(fits=MappingProxyType(fits), sha256=file_sha256(path), below=below)


def _betas(where: str, pairs: object) -> tuple[Beta, ...]:
    def number(x: object) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x > 0

    if (
        not isinstance(pairs, list)
        or len(pairs) != N_STATISTICS
        or not all(isinstance(pair, list) and len(pair) == 2 and all(number(x) for x in pair) for pair in pairs)
    ):
        raise InputError(f"{where}: {pairs!r} came, not four pairs of positive numbers", f"The file must be {_FORM}.")
    return tuple((float(a), float(b)) for a, b in pairs)


def mask_statistics(grey: NDArray[np.uint8], probability: FloatArray) -> tuple[float, float, float, float]:
    """Mean probability and mean grey value (three times, as red, green, blue) inside a mask, each / 256; any shape.

    Both as the original has them: the probability in 8 bits, inside where it is at least 128; zeros without a pixel.
    """
    scaled = probability * 255.0
    inside = scaled >= 128.0
    if not inside.any():
        return (0.0, 0.0, 0.0, 0.0)
    level = float(grey[inside].mean()) / 256.0
    return (float(scaled[inside].mean()) / 256.0, level, level, level)


def existence_score(grey: NDArray[np.uint8], probability: FloatArray, fits: tuple[Beta, ...]) -> float:
    """The score of a mask, 0 … 1, small where it is unlike its target's masks; 0 for an empty mask."""
    from scipy.special import betainc

    values = mask_statistics(grey, probability)
    below = np.array([betainc(a, b, value) for value, (a, b) in zip(values, fits, strict=True)])
    return float(np.prod(2.0 * np.minimum(below, 1.0 - below)))
