"""MMD² against its definition and hyppo; the permutation test's level, power, ties and independence of its batch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from r2seg_agent.reject import mmd
from r2seg_agent.reject.bandwidth import median_bandwidth
from r2seg_agent.reject.mmd import mmd2_unbiased, mmd_permutation_test, subsets

values = st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: round(v, 6))
samples = st.integers(2, 40).flatmap(lambda m: arrays(np.float64, m, elements=values))


def mmd2_by_loops(x: np.ndarray, y: np.ndarray, gamma: float) -> float:
    def k(u: np.ndarray, v: np.ndarray) -> float:
        return math.exp(-float(((u - v) ** 2).sum()) / (2 * gamma**2))

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(u, v) for u in x for v in y) / (m * n)


@pytest.mark.parametrize("d", [1, 3])
def test_statistic_is_the_papers_sum_over_pairs(d: int) -> None:
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(9, d)), rng.normal(0.5, 2, size=(13, d))
    assert mmd2_unbiased(x, y, 1.3) == pytest.approx(mmd2_by_loops(x, y, 1.3), abs=1e-13)


def test_statistic_ranks_splits_as_hyppo_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """hyppo scales and shifts its MMD (it is computed as HSIC with the labels), so for m = n it is an affine function
    of ours over all splits of one pooled sample, and permutation p-values agree. Its kernel is exp(−d²/2γ²) too.
    """
    from hyppo.independence import dcorr
    from hyppo.ksample import MMD

    for name in ("_dcorr", "_dcov", "_center_distmat"):  # plain Python: compiling them takes 20 s
        monkeypatch.setattr(dcorr, name, getattr(dcorr, name).py_func)
    rng = np.random.default_rng(5)
    z = np.concatenate([rng.normal(size=(30, 2)), rng.normal(0.8, 1, size=(30, 2))])
    gamma = median_bandwidth(z)
    ours, theirs = [], []
    for u in (*next(subsets(30, 30, 1, 0)), *np.concatenate(list(subsets(30, 30, 12, 0)))[1:]):
        ours.append(mmd2_unbiased(z[u], z[~u], gamma))
        theirs.append(float(MMD(gamma=1 / (2 * gamma**2)).statistic(z[u], z[~u])))
    slope, offset = np.polyfit(ours, theirs, 1)
    assert slope > 0
    assert np.allclose(slope * np.array(ours) + offset, theirs, rtol=0, atol=1e-12)


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_exact_and_lowrank_paths_agree(x: np.ndarray, y: np.ndarray) -> None:
    z = np.concatenate([x, y])
    gamma = median_bandwidth(z)
    if gamma == 0 or np.ptp(z) > mmd.LARGEST_SPREAD * gamma:
        return
    (a,) = mmd_permutation_test([x], y, permutations=99, seed=3, method="exact")
    (b,) = mmd_permutation_test([x], y, permutations=99, seed=3, method="lowrank")
    assert abs(a.mmd2 - b.mmd2) <= min(1e-5, b.max_error + 1e-12)
    assert a.p == b.p
    assert a.mmd2 == pytest.approx(mmd2_unbiased(x, y, gamma), abs=1e-12)


@pytest.mark.parametrize("bandwidths", [0.5, 6.0, 12.0, 60.0, 290.0])
def test_series_stays_within_its_error_bound(bandwidths: float) -> None:
    gamma = 0.7
    period, c, error = mmd._series(bandwidths * gamma, gamma)
    d = np.linspace(0, bandwidths * gamma, 3001)
    # The series leaves out the constant term c_0: compare up to it.
    c0 = math.sqrt(2 * math.pi) * gamma / period
    series = c0 + (c * np.cos(2 * np.pi * np.arange(1, len(c) + 1) * d[:, None] / period)).sum(1)
    assert np.abs(series - np.exp(-(d**2) / (2 * gamma**2))).max() <= error + 1e-13
    assert error <= 1.1 * mmd.KERNEL_ERROR


def test_auto_takes_lowrank_for_scalars_and_exact_beyond() -> None:
    rng = np.random.default_rng(0)
    scalar, wide = rng.normal(size=200), np.append(rng.normal(size=199), 1e5)
    found = mmd_permutation_test([scalar, wide], rng.normal(size=200), permutations=9, seed=0)
    assert [t.method for t in found] == ["lowrank", "exact"]
    (flat,) = mmd_permutation_test([rng.normal(size=(20, 2))], rng.normal(size=(20, 2)), permutations=9, seed=0)
    assert flat.method == "exact"


@given(samples)
@settings(max_examples=150, deadline=None)
def test_median_bandwidth_is_the_median_pair_distance(z: np.ndarray) -> None:
    pairs = np.abs(z[:, None] - z[None])[np.triu_indices(len(z), 1)]
    expected = np.median(pairs) or (np.median(pairs[pairs > 0]) if pairs.any() else 0.0)
    assert median_bandwidth(z) == pytest.approx(float(expected), rel=1e-12)
    assert median_bandwidth(np.stack([z, np.zeros_like(z)], axis=1)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("kind", ["normal", "integers", "mostly equal", "outlier", "two values"])
@pytest.mark.parametrize("n", [400, 401])
def test_median_bandwidth_of_many_values(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    z = {
        "normal": rng.normal(size=n),
        "integers": rng.integers(-20, 20, n).astype(float),
        "mostly equal": np.where(rng.random(n) < 0.9, 7.0, rng.normal(size=n)),
        "outlier": np.append(rng.normal(size=n - 1), 1e12),
        "two values": np.repeat([0.0, 0.1], [n // 2, n - n // 2]),
    }[kind]
    pairs = np.abs(z[:, None] - z[None])[np.triu_indices(n, 1)]
    expected = np.median(pairs) or np.median(pairs[pairs > 0])
    assert median_bandwidth(z) == pytest.approx(float(expected), rel=1e-12)


def test_type_one_error_on_exchangeable_data() -> None:
    """p-values of 600 null pairs: no more of them below α than a binomial(600, α) allows (4 standard errors)."""
    rng = np.random.default_rng(11)
    ps = []
    for trial in range(12):
        xs = [rng.gamma(2.0, size=40) for _ in range(50)]
        ys = [rng.gamma(2.0, size=60) for _ in range(50)]
        ps += [t.p for t in mmd_permutation_test(xs, ys, permutations=199, seed=trial)]
    for alpha in (0.05, 0.1, 0.5):
        share = np.mean(np.array(ps) <= alpha)
        assert abs(share - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / len(ps))


def test_power_on_shifted_and_on_widened_data() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=200)
    shifted = [rng.normal(0.6, 1, 200) for _ in range(20)]
    widened = [rng.normal(0.0, 2, 200) for _ in range(20)]
    found = mmd_permutation_test(shifted + widened, y, permutations=199, seed=0)
    assert np.mean([t.p <= 0.05 for t in found]) > 0.9


def test_p_counts_equal_splits_as_reaching_the_observed_value() -> None:
    """Of {0, 0, 1, 1} the split {0, 0} | {1, 1} is the extreme one; two of six 2-subsets give it."""
    (found,) = mmd_permutation_test([np.zeros(2)], np.ones(2), permutations=5999, seed=1)
    assert found.p == pytest.approx(1 / 3, abs=0.03)
    blocks = np.concatenate(list(subsets(2, 2, 5999, 1)))
    extreme = sum(1 for row in blocks[1:] if row.tolist() in ([True, True, False, False], [False, False, True, True]))
    assert found.p == (1 + extreme) / 6000


@pytest.mark.parametrize("method", ["exact", "lowrank"])
def test_p_does_not_depend_on_the_batch(method: mmd.Method) -> None:
    rng = np.random.default_rng(8)
    y = rng.normal(size=90)
    xs = [rng.normal(0.2, 1 + i / 10, size=m) for i, m in enumerate([50, 7, 50, 31, 50, 2, 50])]
    together = mmd_permutation_test(xs, y, permutations=199, seed=4, method=method)
    for x, result in zip(xs, together, strict=True):
        (alone,) = mmd_permutation_test([x], y, permutations=199, seed=4, method=method)
        assert alone.p == result.p
        assert alone.mmd2 == pytest.approx(result.mmd2, abs=1e-13)


def test_p_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    xs, y = [rng.normal(0.1, 1, size=30) for _ in range(6)], rng.normal(size=30)
    whole = mmd_permutation_test(xs, y, permutations=1500, seed=4)
    monkeypatch.setattr(mmd, "CHUNK_ELEMENTS", 1)
    assert [t.p for t in mmd_permutation_test(xs, y, permutations=1500, seed=4)] == [t.p for t in whole]


def test_more_permutations_extend_fewer() -> None:
    few = np.concatenate(list(subsets(5, 9, 1024, 7)))
    many = np.concatenate(list(subsets(5, 9, 2000, 7)))
    assert np.array_equal(few, many[:1025])


def test_same_seed_same_bytes_and_another_seed_another_p() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(0.1, 1, 100), rng.normal(size=100)
    first = mmd_permutation_test([x], y, seed=5)
    assert mmd_permutation_test([x], y, seed=5) == first
    assert len({mmd_permutation_test([x], y, seed=s)[0].p for s in range(6)}) > 1


def test_subsets_are_uniform() -> None:
    """All ten 2-subsets of five come equally often (χ² with 9 degrees of freedom, 27.9 at 0.1 %)."""
    counts = Counter(row.tobytes() for block in list(subsets(2, 3, 20_000, 0))[1:] for row in block)
    assert len(counts) == 10
    assert sum((c - 2000) ** 2 / 2000 for c in counts.values()) < 27.9


def test_subsets_with_equal_keys_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of three values tie all the time; every row must still hold exactly m."""

    class Coarse(np.random.PCG64):
        def random_raw(self, size: int) -> np.ndarray:
            return super().random_raw(size) & np.uint64(0x0000000700000007)

    monkeypatch.setattr(np.random, "PCG64", Coarse)
    rows = np.concatenate(list(subsets(2, 3, 500, 0)))
    assert set(rows.sum(1).tolist()) == {2}


@pytest.mark.parametrize(
    ("x", "y", "method"),
    [
        (np.zeros(1), np.arange(5.0), "undefined"),
        (np.zeros(0), np.arange(5.0), "undefined"),
        (np.arange(5.0), np.zeros(1), "undefined"),
        (np.full(4, 3.5), np.full(6, 3.5), "exact"),
    ],
)
def test_samples_that_show_nothing_have_p_one(x: np.ndarray, y: np.ndarray, method: str) -> None:
    (found,) = mmd_permutation_test([x], y, seed=0)
    assert (found.mmd2, found.p, found.method) == (0.0, 1.0, method)


def test_mostly_equal_values_are_tested_all_the_same() -> None:
    """Saturated voxels: the median distance is 0, the bandwidth is the median of the positive distances."""
    x = np.append(np.ones(60), [0.5, 0.7, 0.2])
    y = np.append(np.zeros(10), np.ones(200))
    (found,) = mmd_permutation_test([x], y, seed=0)
    assert found.bandwidth > 0
    assert 0 < found.p <= 1


def test_no_candidates_no_results() -> None:
    assert mmd_permutation_test([], np.arange(5.0), seed=0) == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"device": "cuda:99"}, "no device `cuda:99`.*has cpu"),
        ({"device": "tpu please"}, "no device `tpu please`"),
        ({"permutations": 0}, "permutations >= 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"xs": [np.array([1.0, np.nan])]}, "NaN"),
        ({"xs": [np.array([1.0, np.inf])]}, "infinite"),
        ({"xs": [np.ones((4, 2))]}, "2 and 1 features"),
        ({"xs": [np.ones((4, 2, 2))]}, "shape"),
        ({"y": [np.ones(3), np.ones(3)]}, "1 candidate samples but 2"),
        ({"xs": [np.append(np.arange(9.0), 1e9)], "method": "lowrank"}, "bandwidths"),
        ({"xs": [np.eye(3)], "y": np.eye(3), "method": "lowrank"}, "scalar"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(change: dict, says: str) -> None:
    arguments = {"xs": [np.arange(4.0)], "y": np.arange(6.0), "seed": 0} | change
    with pytest.raises(ValueError, match=says):
        mmd_permutation_test(arguments.pop("xs"), arguments.pop("y"), **arguments)
    with pytest.raises(ValueError, match="two samples"):
        mmd2_unbiased(np.ones(1), np.ones(4), 1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_gives_the_cpus_p_values() -> None:
    rng = np.random.default_rng(1)
    xs, y = [rng.normal(0.1, 1, m) for m in (50, 50, 20)], rng.normal(size=80)
    for method in ("exact", "lowrank"):
        cpu = mmd_permutation_test(xs, y, seed=0, method=method)
        gpu = mmd_permutation_test(xs, y, seed=0, method=method, device="cuda")
        assert [t.p for t in gpu] == [t.p for t in cpu]


def test_module_needs_torch_and_numpy_alone() -> None:
    code = (
        "import sys\n"
        "for name in ('pydantic', 'scipy', 'SimpleITK', 'langchain', 'langgraph'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from r2seg_agent.reject.mmd import mmd_permutation_test\n"
        "print(mmd_permutation_test([np.arange(5.0)], np.arange(9.0), permutations=9, seed=0)[0].p)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) <= 1


def test_voxel_permutation_fails_on_correlated_noise() -> None:
    """A canary for method.md §4: blobs of lesion-free smooth noise are called different far above α = 0.05.

    This is why paper mode carries its warning; were it ever to pass as valid, the simulation would be broken.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    rejected = []
    for trial in range(25):
        white = rng.normal(size=(24, 24, 24))
        ps = {}
        for name, noise in (("white", white), ("smooth", gaussian_filter(white, 1.5))):
            blob = noise[8:14, 8:14, 8:14].ravel()
            scattered = rng.choice(noise.ravel(), 200, replace=False)
            ps[name] = mmd_permutation_test([blob[:200]], scattered, permutations=99, seed=trial)[0].p
        rejected.append((ps["white"] <= 0.05, ps["smooth"] <= 0.05))
    white_share, smooth_share = np.mean(rejected, axis=0)
    assert white_share <= 0.2
    assert smooth_share >= 0.6


def test_the_median_gap_of_two_values_whose_difference_rounds_down() -> None:
    """-1 + (0.900391 - -1) rounds below 0.900391: the largest gap must still be counted."""
    pooled = np.array([0.900391, -1.0, 0.900391, -1.0])
    assert median_bandwidth(pooled) == pytest.approx(1.900391)
