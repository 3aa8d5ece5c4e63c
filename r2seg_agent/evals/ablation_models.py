"""What an ablation holds: a step per preset, each compared with the one before, and what was forgotten. JSON exact."""

from __future__ import annotations

from collections.abc import Mapping

from r2seg_agent.evals.models import Accounting, Comparison, Figure
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.presets import Preset
from r2seg_agent.outcomes import DISCLAIMER


class Step(Frozen):
    """One preset over all cases. `folder` is the batch's, beside `ablation.json`; `methods` says it in words."""

    preset: Preset
    folder: str
    methods: tuple[str, ...]
    accounting: Accounting
    figures: tuple[Figure, ...]

    def figure(self, key: str) -> Figure:
        """The figure of this key; `KeyError` where there is none."""
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)


class OrganState(Frozen):
    """Organs of one scan as the anchor model sees them: the label map by hash, and the volumes in ml."""

    scan: str
    labels_sha256: str
    volumes_ml: Mapping[str, float]


class WeightsState(Frozen):
    """All that could forget: the files of the segmenter's and the anchor model's weights by hash (None: it has none),
    and the organs that the anchor model finds, located again. `anchors_kind` `masks`: the user's own files."""

    segmenter: str
    segmenter_sha256: str | None
    anchors: str
    anchors_kind: str
    anchors_sha256: str | None
    organs: tuple[OrganState, ...] = ()


class Forgetting(Frozen):
    """The same look before the first step and after the last one."""

    before: WeightsState
    after: WeightsState

    @property
    def same(self) -> bool:
        """True where nothing changed to the last bit."""
        return self.before == self.after


class Ablation(Frozen):
    """All that `r2seg ablate` says. `comparisons[i]` is step i + 1 against step i, paired by patient."""

    schema_version: str = "1"
    disclaimer: str = DISCLAIMER
    r2seg_version: str
    calibration_sha256: str | None = None
    steps: tuple[Step, ...]
    comparisons: tuple[Comparison, ...]
    forgetting: Forgetting
