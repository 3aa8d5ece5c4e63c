"""`make validate`: slow statistical proofs, by hand; the figures stand in docs/validity.md.

Lesion-free volumes are white noise smoothed to a given correlation length; every figure comes with the standard error
of a share. The study over modes, scores, implanted lesions and scanner shifts is a later and larger one; this one pins
down what the shipped pieces do: the permutation test where its assumption holds and where it does not, the low-rank
path, and the case maximum with the real candidates of the real segmenter.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from r2seg_agent.evals.measure import machine_line
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.reject.mmd import mmd_permutation_test
from r2seg_agent.reject.scores import score_named
from r2seg_agent.segment.candidates import ScaleProbability, find_candidates
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.features import describe
from r2seg_agent.segment.protocol import Prompt

ALPHA = 0.05
FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
SHAPE = (20, 48, 48)
GEOMETRY = Geometry(shape=SHAPE, spacing_mm=(2.5, 1.0, 1.0))
BLOB_RADIUS_VOX = 4.0
TRIALS = 400
CALIBRATION_CASES = 99
TEST_CASES = 400


def permutation_test() -> None:
    """Type-I error of the permutation test on exchangeable samples, and exact against low-rank."""
    rng = np.random.default_rng(1)
    p_values, largest = [], 0.0
    for trial in range(TRIALS):
        x, y = rng.standard_normal((60, 1)), rng.standard_normal((200, 1))
        (low,) = mmd_permutation_test([x], y, permutations=199, seed=trial, method="lowrank")
        p_values.append(low.p)
        if trial < 100:
            (exact,) = mmd_permutation_test([x], y, permutations=199, seed=trial, method="exact")
            largest = max(largest, abs(exact.mmd2 - low.mmd2), abs(exact.p - low.p))
    print("| what | figure | expected |\n|---|---|---|")
    print(f"| exchangeable samples: share with p ≤ {ALPHA} | {_share(p_values)} | {ALPHA} |")
    print(f"| exact against low-rank, largest difference of MMD² or p, 100 pairs | {largest:.1e} | < 1e-5 |")


def canary() -> None:
    """The failure of `paper` mode: normal blobs of correlated noise against scattered normal voxels."""
    print(f"| smoothing of the noise (FWHM, voxels) | normal blobs called lesions at p ≤ {ALPHA} |\n|---|---|")
    for fwhm in (0.0, 1.5, 3.0, 5.0):
        rng = np.random.default_rng(int(fwhm * 10) + 7)
        p_values = []
        for trial in range(TRIALS // 2):
            field = _noise(rng, fwhm)
            blob = _ball(rng)
            x = field[blob][:200, None].astype(np.float64)
            y = rng.choice(field[~blob], 200, replace=False)[:, None].astype(np.float64)
            (test,) = mmd_permutation_test([x], y, permutations=199, seed=trial)
            p_values.append(test.p)
        print(f"| {fwhm:g} | {_share(p_values)} |", flush=True)


def conformal() -> None:
    """Case maximum with `contrast`'s own candidates: any false finding in a lesion-free case at level alpha."""
    print(
        f"| noise FWHM (voxels) | cases with p ≤ {ALPHA}, `contrast_log_volume` | same, scores of another smoothing |\n"
        "|---|---|---|"
    )
    maxima = {fwhm: _case_maxima(fwhm, CALIBRATION_CASES + TEST_CASES) for fwhm in (2.0, 3.0)}
    for fwhm, other in ((2.0, 3.0), (3.0, 2.0)):
        calibration, test = maxima[fwhm][:CALIBRATION_CASES], maxima[fwhm][CALIBRATION_CASES:]
        shifted = maxima[other][:CALIBRATION_CASES]
        print(f"| {fwhm:g} | {_share(_p(calibration, test))} | {_share(_p(shifted, test))} |", flush=True)


def _p(calibration: list[float], test: list[float]) -> list[float]:
    null = np.asarray(calibration)
    return [float((1 + np.count_nonzero(null >= s)) / (null.size + 1)) for s in test]


def _case_maxima(fwhm: float, cases: int) -> list[float]:
    """Largest `contrast_log_volume` among the candidates that `contrast` proposes in each lesion-free case."""
    rng = np.random.default_rng(int(fwhm * 100))
    segmenter, score = ContrastSegmenter(), score_named("contrast_log_volume")
    anchor: Mask = np.ones(SHAPE, dtype=bool)
    maxima = []
    for _ in range(cases):
        grey = np.rint(60.0 + 15.0 * _noise(rng, fwhm)).astype(np.int16)
        volume = Volume(array=grey, geometry=GEOMETRY, modality="CT", unit="HU")
        prompt = Prompt(text="", target="", site="", modality="CT", diameters_mm=(6.0, 30.0), mask=anchor)
        box = GEOMETRY.full_box
        probability = segmenter.segment(segmenter.encode(volume, box), [prompt])[0]
        found = find_candidates([ScaleProbability(box, 1.0, probability)], GEOMETRY)
        maxima.append(max((score(describe(r, volume, anchor), 0.0) for r in found.regions), default=-math.inf))
    return maxima


def _noise(rng: np.random.Generator, fwhm: float) -> FloatArray:
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), fwhm * FWHM_TO_SIGMA)
    unit: FloatArray = (field / field.std()).astype(np.float32)
    return unit


def _ball(rng: np.random.Generator) -> Mask:
    margin = int(BLOB_RADIUS_VOX) + 1
    centre = [int(rng.integers(margin, n - margin)) for n in SHAPE]
    grid = np.indices(SHAPE)
    squared = sum((grid[axis] - centre[axis]) ** 2 for axis in range(3))
    ball: Mask = np.asarray(squared <= BLOB_RADIUS_VOX**2)
    return ball


def _share(p_values: list[float]) -> str:
    share = float(np.mean(np.asarray(p_values) <= ALPHA))
    error = math.sqrt(max(share * (1 - share), ALPHA * (1 - ALPHA)) / len(p_values))
    return f"{share:.3f} ± {error:.3f} (n = {len(p_values)})"


def main() -> int:
    """Run all proofs."""
    print(machine_line())
    parts: tuple[Callable[[], None], ...] = (permutation_test, canary, conformal)
    for part in parts:
        started = time.perf_counter()
        print(f"\n### {part.__name__}\n\n{part.__doc__}\n", flush=True)
        part()
        print(f"\n({time.perf_counter() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
