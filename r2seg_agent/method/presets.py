"""`Preset`: which parts of the method take part in a run, for the ablation. One graph serves them all.

| preset | where it looks | test | gates |
|---|---|---|---|
| `baseline` | the whole image, no organ is located | none | none |
| `+roi` | Reason's regions around the located organs | none | none |
| `+roi+reject` | the same | MMD² by permutation, Benjamini-Hochberg | none |
| `+gates` | the same | the same | the paper's, L1 to L3 |
| `full` | the same | the options' | the paper's and our plausibility gates |
| `conformal` | the same | a calibration's p-values | the same |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from r2seg_agent.frozen import Frozen

Preset = Literal["full", "baseline", "+roi", "+roi+reject", "+gates", "conformal"]
"""`full` leaves nothing out: what `find` does unless told otherwise."""


class Parts(Frozen):
    """What takes part. `regions` False: the frozen model sees the whole image at once.

    `reject` is the mode that the preset settles, None where the options decide.
    """

    regions: bool = True
    reject: Literal["none", "paper", "conformal"] | None = None
    gates: Literal["all", "paper", "none"] = "all"

    @property
    def tests(self) -> bool:
        """False where every candidate is reported."""
        return self.reject != "none"

    def rounds(self, wanted: int) -> int:
        """Rounds of the search: the whole image leaves nothing to widen into."""
        return wanted if self.regions else 1


PARTS: Mapping[Preset, Parts] = {
    "baseline": Parts(regions=False, reject="none", gates="none"),
    "+roi": Parts(reject="none", gates="none"),
    "+roi+reject": Parts(reject="paper", gates="none"),
    "+gates": Parts(reject="paper", gates="paper"),
    "full": Parts(),
    "conformal": Parts(reject="conformal"),
}
"""In the order of the ablation: each adds one thing to the one before."""
WHOLE_METHOD = PARTS["full"]

LEFT_OUT: Mapping[Preset, str] = {
    "baseline": "the frozen model alone on the whole image: no organ was located, no region built, nothing was tested, "
    "no gate applied. Every connected piece of its mask is reported.",
    "+roi": "regions around the located organs, and nothing else: nothing was tested, no gate applied. Every candidate "
    "is reported.",
    "+roi+reject": "no gate was applied: the two-sample test alone decided.",
    "+gates": "our own plausibility gates were left out: the test and the paper's gates (L1 to L3) decided.",
}
"""What a preset leaves out, in words for whoever reads its results; the others leave out nothing."""
