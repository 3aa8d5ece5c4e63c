"""`AnatomyPlan`: what to look for and where, decided before any voxel is segmented (method: Reason)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality

Side = Literal["left", "right"]
Contrast = Literal["darker", "brighter", "either"]
"""Of the lesion against its organ, in the image's own grey values."""

DEFAULT_PADDING_MM = 10.0
"""ρ, ours: the paper's value is not public."""
DEFAULT_SCALES = (1.0, 1.5, 2.0)
"""Σ, ours."""

AnchorRole = Literal["inside", "near"]
"""`inside`: the lesion lies in the anchors, so their mask is where to look. `near`: the target organ has no anchor of
its own; the anchors are landmarks, and the whole ROI around them is where to look."""

Window = tuple[float, float]
"""(low, high) grey values, HU for CT."""


class AnatomyPlan(Frozen):
    """One target and where to search for it; made by a planner, editable by hand (`--plan plan.json`).

    `target` is a concept id of the concept table (`reason/concepts.json`); `anchors` and `neighbours` are canonical
    organ names (`reason/anatomy.py`). `window` None means the 0.5–99.5 percentile of voxels > 0 (MR and others).
    `expected_volume_ml` and `expected_contrast` describe the typical lesion; gates may use them and must say so.
    `not_inside` are organs that the target does not lie in: a candidate mostly inside one is rejected, and the anchor
    source is asked for them. `mimics` look like the target and are treated alike where the anchors hold them anyway.
    `not_used` says in sentences what the request asks for and this plan does not do.
    """

    target: str
    target_name: str
    snomed_ct: str = ""
    site: str
    laterality: Side | None = None
    modality: Modality
    anchors: Annotated[tuple[str, ...], Field(min_length=1)]
    anchor_role: AnchorRole = "inside"
    neighbours: tuple[str, ...] = ()
    mimics: tuple[str, ...] = ()
    not_inside: tuple[str, ...] = ()
    padding_mm: Annotated[float, Field(ge=0, le=500)] = DEFAULT_PADDING_MM
    scales: Annotated[tuple[Annotated[float, Field(ge=0, le=20)], ...], Field(min_length=1)] = DEFAULT_SCALES
    square: bool = True
    prompt: str
    window: Window | None = None
    expected_volume_ml: tuple[float, float] = (0.02, 2000.0)
    expected_contrast: Contrast = "either"
    rationale: str = ""
    not_used: tuple[str, ...] = ()


ChoiceKind = Literal["concept", "keep_image", "finding", "rejected"]


class Choice(Frozen):
    """One choice of a question. Code decides by `kind` and `value`; `text` is for people.

    `concept`: a target of the concept table, `value` its id. `keep_image`: this image is meant although the request
    names another modality. `finding`, `rejected`: `value` is the number of the finding or of the rejected candidate.
    """

    kind: ChoiceKind
    text: str
    value: str = ""

    @property
    def number(self) -> str:
        """The number by which the user knows the choice already; "" where it has none."""
        return self.value if self.kind in ("finding", "rejected") else ""

    @property
    def line(self) -> str:
        """The text with that number in front, for lists without numbers of their own."""
        return f"{self.number}: {self.text}" if self.number else self.text


class Clarification(Frozen):
    """The planner cannot map the request: a question with the nearest legal choices."""

    question: str
    choices: tuple[Choice, ...] = ()


class PlanSet(Frozen):
    """What planning gives: one plan per target, what the request excluded, or a question back to the user."""

    request: str
    plans: tuple[AnatomyPlan, ...] = ()
    excluded: tuple[str, ...] = ()
    clarification: Clarification | None = None
