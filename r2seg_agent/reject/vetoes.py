"""Vetoes: located tissue that looks like the target and is not it. A candidate mostly inside it is rejected.

A veto only deletes. It looks at where a candidate lies and never at its score, so no other candidate's p changes, and
the largest score of a case can only fall: p-values from a calibration without the veto stay valid (`identity.py`).

Two lists of a plan say what is vetoed. `not_inside` was asked for: the anchor source is made to locate it, and it holds
in every round. `mimics` come from the concept table: they are vetoed where the source gives them anyway, and not in a
round that searches them. Neither ever vetoes an organ that the target itself lies in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from r2seg_agent.errors import R2SegError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.segment.candidates import Region

GATE: Final = "ours.not_inside"
VETO_SHARE: Final = 0.5
"""A candidate with this share of its voxels inside vetoed tissue is rejected."""


def to_locate(plan: AnatomyPlan, source: AnchorSource, modality: Modality) -> tuple[str, ...]:
    """Organs that `source` must be asked for besides the plan's own, so that the plan's vetoes can be applied.

    Masks of the user are read where the plan names them; a model runs for nothing but `not_inside`.
    """
    if source.info.kind == "masks":
        known = source.organs(modality)
        return tuple(sorted(name for name in known if _under(name, (*plan.not_inside, *plan.mimics))))
    if source.info.kind == "model":
        return tuple(name for name in plan.not_inside if _can_locate(source, modality, name))
    return ()


def not_located(plan: AnatomyPlan, source: AnchorSource, modality: Modality) -> tuple[str, ...]:
    """Organs of `not_inside` that a model has no mask of their own for, here and now (its weights may be missing). None
    for masks of the user, which differ from case to case by nature.
    """
    if source.info.kind == "masks":
        return ()
    asked = to_locate(plan, source, modality)
    return tuple(name for name in plan.not_inside if name not in asked)


def without_mask(plan: AnatomyPlan, located: Iterable[str]) -> tuple[str, ...]:
    """Organs of `not_inside` of which nothing is among the `located` names: there the veto does nothing."""
    names = tuple(located)
    return tuple(organ for organ in plan.not_inside if not any(_under(name, (organ,)) for name in names))


def vetoed(plan: AnatomyPlan, own: Sequence[str], anchors: AnchorSet) -> tuple[str, ...]:
    """The located organs that a candidate of this round must not lie in, sorted.

    `plan` is the round's, `own` are the organs of the first round's. What contains one of these, by the organ table or
    because its mask holds all of it, is never among them.
    """
    kept = own_places(plan, own)
    asked = [name for name in plan.not_inside if name not in kept]
    alike = [name for name in plan.mimics if name not in kept]
    found = []
    for name, values in anchors.names.items():
        if not values or name in kept or any(_holds(values, anchors.names.get(organ, ())) for organ in own):
            continue
        if _under(name, asked) or (_under(name, alike) and not _searched(name, plan.anchors)):
            found.append(name)
    return tuple(sorted(found))


def veto_gate(region: Region, organs: Sequence[str], anchors: AnchorSet) -> GateResult:
    """Passed while less than `VETO_SHARE` of the candidate lies in the union of `organs`."""
    size = max(1, int(np.count_nonzero(region.mask)))
    share = np.count_nonzero(region.mask & anchors.mask(organs, region.box)) / size
    note = f"the share inside tissue that the target does not lie in is {share:.3g}"
    if share >= VETO_SHARE:
        by_organ = {o: int(np.count_nonzero(region.mask & anchors.mask(o, region.box))) for o in organs}
        most = max(organs, key=lambda o: (by_organ[o], o))
        note += f" (most of it {anatomy.organ(most).display}), under {VETO_SHARE:g} needed"
    return GateResult(name=GATE, passed=share < VETO_SHARE, value=float(share), threshold=VETO_SHARE, note=note)


def own_places(plan: AnatomyPlan, own: Sequence[str]) -> frozenset[str]:
    """The organs that the target itself lies in: its own ones and all that contain them by the organ table."""
    at = (*own, concepts.concept(plan.target).organ) if plan.target in concepts.concepts() else tuple(own)
    return frozenset(around for name in at if name in anatomy.organs() for around in anatomy.containing(name)) | {
        "body"
    }


def _under(name: str, organs: Iterable[str]) -> bool:
    """True when `name` is one of `organs` or a part of one."""
    return name in anatomy.organs() and not set(anatomy.containing(name)).isdisjoint(organs)


def _searched(name: str, anchors: Sequence[str]) -> bool:
    """True when a round by these anchors searches `name`: it is one of them, a part of one, or holds one."""
    return _under(name, anchors) or any(name in anatomy.containing(a) for a in anchors if a in anatomy.organs())


def _holds(values: Sequence[int], others: Sequence[int]) -> bool:
    return bool(others) and set(others) <= set(values)


def _can_locate(source: AnchorSource, modality: Modality, organ: str) -> bool:
    if organ not in source.organs(modality):
        return False
    try:
        source.check(modality, (organ,))
    except R2SegError:
        return False
    return True
