"""The permutation test by itself: on exchangeable samples, and on regions of lesion-free noise (the canary)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

from r2seg_agent.reject.mmd import mmd_permutation_test
from studies.validity.blobs import blob_case
from studies.validity.intervals import share_of
from studies.validity.results import Blobs, Exchangeable
from studies.validity.search import ALPHA
from studies.validity.volumes import Scanner

BLOB_SCANNERS = tuple(
    Scanner(name=name, fwhm_vox=fwhm)
    for name, fwhm in (("white", 0.01), ("FWHM 2", 2.0), ("FWHM 3", 3.0), ("FWHM 4", 4.0))
)
TRIALS = 400
PAIRS = 100


def exchangeable() -> Exchangeable:
    """Type-I error on samples that are exchangeable by construction, and the exact against the low-rank path."""
    rng = np.random.default_rng(1)
    rejected, largest = [], 0.0
    for trial in range(TRIALS):
        x, y = rng.standard_normal((60, 1)), rng.standard_normal((200, 1))
        (low,) = mmd_permutation_test([x], y, permutations=199, seed=trial, method="lowrank")
        rejected.append(low.p <= ALPHA)
        if trial < PAIRS:
            (exact,) = mmd_permutation_test([x], y, permutations=199, seed=trial, method="exact")
            largest = max(largest, abs(exact.mmd2 - low.mmd2), abs(exact.p - low.p))
    return Exchangeable(rejected=share_of(rejected), largest_difference=largest, pairs=PAIRS)


def measure_blobs(n: int, *, jobs: int = 1, scanners: Sequence[Scanner] = BLOB_SCANNERS) -> list[Blobs]:
    """`n` lesion-free volumes per scanner: how often each test calls a blind and a proposed region different."""
    rows = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for scanner in scanners:
            done = list(pool.map(partial(blob_case, scanner), range(n), chunksize=25))
            proposed = [item for item in done if item.proposed_permutation is not None]
            rows.append(
                Blobs(
                    scanner=scanner.name,
                    blind_permutation=share_of([item.blind_permutation <= ALPHA for item in done]),
                    blind_placement=share_of([item.blind_placement <= ALPHA for item in done]),
                    proposed_permutation=share_of([(item.proposed_permutation or 0.0) <= ALPHA for item in proposed]),
                    proposed_placement=share_of([(item.proposed_placement or 0.0) <= ALPHA for item in proposed]),
                )
            )
    return rows
