"""Are organs exchangeable? Lesion-free organs of one phantom, and of one real scan, scored side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from r2seg_agent.evals.fdr.intervals import Mean, Share, share_of
from r2seg_agent.evals.fdr.levels import maxima, scored
from r2seg_agent.evals.fdr.real_tissue import SearchedTissue
from r2seg_agent.evals.fdr.search import GateChoice, SearchedCase, search_case
from r2seg_agent.imaging.geometry import bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.phantom import make_phantom
from r2seg_agent.reject.scores import ScoreName

PHANTOMS = 60
PHANTOM_PAIRS: tuple[tuple[str, str], ...] = (
    ("kidney_left", "kidney_right"),
    ("autochthon_left", "autochthon_right"),
    ("spleen", "kidney_left"),
    ("liver", "spleen"),
    ("liver", "autochthon_left"),
)
"""(target, decoy). The first two are mirror images, the others differ in size and texture."""
TISSUE_PAIRS: tuple[tuple[str, str], ...] = (
    ("liver A", "muscle A"),
    ("liver A", "kidneys A"),
    ("kidneys A", "muscle A"),
    ("liver B", "spleen B"),
    ("left lung 1", "right lung 1"),
    ("right lung 1", "left lung 1"),
    ("left lung 2", "right lung 2"),
    ("right lung 2", "left lung 2"),
)
"""(target, decoy) among the blocks of one real scan (`tissue.py`)."""
MARGIN_VOX = 4


class Compared(NamedTuple):
    """Lesion-free targets against decoys. `wins`, `losses`: pairs in one patient that were not ties (phantoms).

    `level`: targets called a finding at α against all decoys of the scan, None where these are too few.
    """

    target: str
    decoy: str
    n: tuple[int, int]
    wins: Share | None
    larger: Mean
    level: Mapping[float, Share | None]


def search_phantom(seed: int) -> dict[str, SearchedCase]:
    """Every organ of `PHANTOM_PAIRS` in the lesion-free phantom of `seed`, each searched for a liver lesion."""
    phantom = make_phantom(seed)
    found = {}
    for organ in sorted({name for pair in PHANTOM_PAIRS for name in pair}):
        mask = phantom.organ(organ)
        box = bounding_box(mask)
        if box is None:
            continue
        around = box.dilated((MARGIN_VOX, MARGIN_VOX, MARGIN_VOX), mask.shape)
        part = Volume(
            array=np.ascontiguousarray(phantom.volume.array[around.slices]),
            geometry=phantom.volume.geometry.crop(around),
            modality=phantom.volume.modality,
            unit=phantom.volume.unit,
            name=f"phantom-{organ}",
        )
        found[organ] = search_case(part, np.ascontiguousarray(mask[around.slices]), permutations=1)
    return found


def compare_phantoms(
    phantoms: Sequence[Mapping[str, SearchedCase]], target: str, decoy: str, score: ScoreName, gates: GateChoice
) -> Compared:
    """Target and decoy organ of the same phantom, pair by pair."""
    both = [(one[target], one[decoy]) for one in phantoms if target in one and decoy in one]
    t, d = (maxima(scored([pair[k] for pair in both], score, gates)) for k in (0, 1))
    differ = t != d
    larger = (t > d) + 0.5 * ~differ
    return Compared(
        target=target,
        decoy=decoy,
        n=(len(t), len(d)),
        wins=share_of(t[differ] > d[differ]),
        larger=Mean(value=float(larger.mean()), se=float(larger.std() / np.sqrt(len(larger))), n=len(larger)),
        level={},
    )


def compare_tissues(
    target: SearchedTissue,
    decoy: SearchedTissue,
    score: ScoreName,
    gates: GateChoice,
    alphas: Sequence[float],
    rng: np.random.Generator,
) -> Compared:
    """Every block of the target organ with every block of the decoy organ; the error by the bootstrap over blocks.

    Neighbouring blocks resemble each other, so the true error is larger.
    """
    t, d = (maxima(scored(one.free, score, gates)) for one in (target, decoy))
    again = [_larger(rng.choice(t, len(t)), rng.choice(d, len(d))) for _ in range(300)]
    reached = len(d) - np.searchsorted(np.sort(d), t, side="left")
    p = np.where(np.isneginf(t), 1.0, (1.0 + reached) / (len(d) + 1.0))
    return Compared(
        target=target.tissue.name,
        decoy=decoy.tissue.name,
        n=(len(t), len(d)),
        wins=None,
        larger=Mean(value=_larger(t, d), se=float(np.std(again)), n=len(t)),
        level={a: share_of(p <= a) if len(d) + 1 >= 1.0 / a - 1e-9 else None for a in alphas},
    )


def _larger(t: np.ndarray, d: np.ndarray) -> float:
    """P(target > decoy) + P(tie) / 2 over all pairs (Mann-Whitney): 0.5 where both are alike."""
    order = np.sort(d)
    return float(np.mean(np.searchsorted(order, t, side="left") + np.searchsorted(order, t, side="right")) / 2 / len(d))
