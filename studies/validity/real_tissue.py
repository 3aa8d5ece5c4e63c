"""Modes and scores on blocks of real lesion-free tissue, with implanted lesions and three kinds of calibration.

The blocks of an organ (`tissue.py`) serve as cases; calibration blocks come from the same scan, from the other half of
the same organ, or from other scans. `real_tissue_tables.py` prints what docs/evidence/validity-real-tissue.md shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.profile import profile_warnings
from r2seg_agent.reject.scores import ScoreName
from studies.validity.levels import ScoredCase, Tested, calibration_of, conformal_tested, scored
from studies.validity.search import GateChoice, SearchedCase, search_case
from studies.validity.tissue import BLOCK_MM, LUNG, Tissue, blocks_of, plan_of, with_lesion

Split = Literal["same scan", "other half", "other scans"]
VOLUMES_ML = (0.25, 0.5, 1.0, 2.0)
CNRS: Mapping[str, tuple[float, ...]] = {LUNG: (4.0, 8.0, 12.0)}
"""Lesion contrast in robust standard deviations of the organ's grey values. A lung's is 60–120 HU, and its vessels
stand out by 600 HU: what would be plain in a liver is nothing there."""
DEFAULT_CNRS = (2.0, 3.0, 4.0)
FOLDS = 10
LESION_BLOCKS = 30
"""Blocks per tissue that get lesions, drawn at random."""


class Lesion(NamedTuple):
    """What was implanted: volume, and contrast in the organ's standard deviations."""

    volume_ml: float
    cnr: float


@dataclass(frozen=True, eq=False)
class SearchedTissue:
    """Every block searched: `free[k]` lesion-free at `centres_mm[k]`; `implanted[lesion][k]` block k with a lesion."""

    tissue: Tissue
    centres_mm: tuple[Float3, ...]
    free: tuple[SearchedCase, ...]
    implanted: Mapping[Lesion, Mapping[int, SearchedCase]]


def search_tissue(
    tissue: Tissue,
    *,
    block_mm: float = BLOCK_MM,
    lesions: bool = True,
    permutations: int = 199,
    seed: int = 0,
) -> SearchedTissue:
    """Search every block of `tissue` as it is and, with `lesions`, `LESION_BLOCKS` of them with each lesion."""
    blocks, plan = blocks_of(tissue, block_mm), plan_of(tissue)
    free = [search_case(b.scene.volume, b.scene.organ, plan=plan, permutations=permutations) for b in blocks]
    chosen = np.random.default_rng(seed).permutation(len(blocks))[:LESION_BLOCKS].tolist()
    sign = 1 if plan.expected_contrast == "brighter" else -1
    implanted: dict[Lesion, dict[int, SearchedCase]] = {}
    for lesion in lesions_of(tissue) if lesions else ():
        implanted[lesion] = {}
        for k in chosen:
            scene = with_lesion(blocks[k], volume_ml=lesion.volume_ml, cnr=lesion.cnr, sign=sign, seed=k)
            implanted[lesion][k] = search_case(
                scene.volume, scene.organ, scene.truth, plan=plan, permutations=permutations
            )
    return SearchedTissue(
        tissue=tissue,
        centres_mm=tuple(b.centre_mm for b in blocks),
        free=tuple(free),
        implanted=implanted,
    )


def lesions_of(tissue: Tissue) -> tuple[Lesion, ...]:
    """Every volume with every contrast."""
    return tuple(Lesion(v, c) for v in VOLUMES_ML for c in CNRS.get(tissue.request, DEFAULT_CNRS))


def same_organ(one: SearchedTissue, everyone: Sequence[SearchedTissue]) -> tuple[SearchedTissue, ...]:
    """The other scans of the same organ, searched by the same request."""
    kind = (one.tissue.organ, one.tissue.request)
    return tuple(t for t in everyone if t is not one and (t.tissue.organ, t.tissue.request) == kind)


def halves(one: SearchedTissue) -> tuple[list[int], list[int]]:
    """Blocks of the two halves of the organ, cut across the axis along which its blocks spread most."""
    centres = np.asarray(one.centres_mm)
    axis = int(np.argmax(centres.std(axis=0)))
    order = [int(k) for k in np.argsort(centres[:, axis], kind="stable")]
    return order[: len(order) // 2], order[len(order) // 2 :]


def calibrations(
    one: SearchedTissue,
    split: Split,
    others: Sequence[SearchedTissue],
    *,
    score: ScoreName,
    gates: GateChoice,
    profiles: bool = False,
) -> tuple[Calibration, ...]:
    """The calibration that judges each block of `one`; a block stands for a patient here, which it is not.

    "same scan": the nine tenths of its scan's blocks, drawn at random, that it is not in. Ranks are symmetric then, so
    the level of lesion-free blocks cannot leave α but by chance: that is no evidence. "other half": the other half's
    blocks. "other scans": all of `others`. `profiles`: keep the blocks' scan profiles, for `warned`.
    """
    null = scored(one.free, score, gates)

    def of(cases: Sequence[ScoredCase]) -> Calibration:
        return calibration_of(cases, score, profiles=profiles)

    if split == "same scan":
        fold = (np.random.default_rng(0).permutation(len(null)) % FOLDS).tolist()
        without = [of([case for case, own in zip(null, fold, strict=True) if own != k]) for k in range(FOLDS)]
        return tuple(without[k] for k in fold)
    if split == "other half":
        first, second = halves(one)
        by_first, by_second = (of([null[k] for k in half]) for half in (first, second))
        return tuple(by_second if k in first else by_first for k in range(len(null)))
    return (of([case for other in others for case in scored(other.free, score, gates)]),) * len(null)


def judge_blocks(
    one: SearchedTissue,
    by: Sequence[Calibration],
    *,
    score: ScoreName,
    gates: GateChoice,
    alpha: float,
    lesion: Lesion | None = None,
) -> list[Tested]:
    """Conformal mode, case maximum, on the blocks of `one`, block k by `by[k]`: lesion-free, or those with `lesion`."""
    cases = dict(enumerate(one.free)) if lesion is None else one.implanted[lesion]
    return [
        test for k, case in cases.items() for test in conformal_tested(scored([case], score, gates), by[k], alpha=alpha)
    ]


def warned(one: SearchedTissue, by: Sequence[Calibration]) -> list[bool]:
    """Which blocks the profile diagnostic calls unlike the calibration (made with `profiles`) that judges them."""
    return [
        case.profile is not None and bool(profile_warnings(calibration.profiles, case.profile))
        for calibration, case in zip(by, one.free, strict=True)
    ]


def proposed(one: SearchedTissue, lesion: Lesion, gates: GateChoice) -> list[bool]:
    """Which implanted lesions some candidate that passes its gates hits: what is left to be found by any test."""
    return [any(case.hits) for case in scored(list(one.implanted[lesion].values()), "contrast_log_volume", gates)]
