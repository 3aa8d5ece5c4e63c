"""Maximum mean discrepancy (MMD²) between two samples, and its permutation test, batched over candidates.

Needs torch and numpy alone. The unbiased statistic (Gretton et al. 2012, JMLR 13, eq. 3) with the Gaussian kernel
k(u, v) = exp(−‖u − v‖² / 2γ²), for x₁..x_m and y₁..y_n:

    MMD² = Σ_{i≠i'} k(x_i, x_i') / (m(m−1)) + Σ_{j≠j'} k(y_j, y_j') / (n(n−1)) − 2 Σ_{i,j} k(x_i, y_j) / (mn)

γ is the median of the N(N−1)/2 distances within the pooled sample, N = m + n. The permutation test splits the pooled
sample anew B times and gives p = (1 + #{b : MMD²_b ≥ MMD²}) / (B + 1).

Only sums over the permuted subset S matter. With u its 0/1 vector, A = uᵀKu and R = uᵀK1 give every term: the
cross sum is R − A, the sum over the complement 1ᵀK1 − 2R + A. So *exact* is one product of the (B+1, N) matrix of
all subsets with K, and *lowrank*, for scalar samples, one product with (N, 2r) features whose inner products are K.

The features: Poisson summation turns the Gaussian, repeated with period P, into a cosine series,

    Σ_j k(d + jP) = Σ_l c_l cos(2πld / P),    c_l = (√(2π) γ / P) · exp(−(2πlγ / P)² / 2) for l and −l alike,

and cos(a − b) = cos a cos b + sin a sin b. Cutting it at l = r and repeating at P = spread + tγ leave errors that both
fall like exp(−t²/2); r grows linearly with spread / γ. For a spread of 12 γ the 64 features of Gauss-Hermite nodes, the
usual choice, are off by 1e-4, this series by 2e-13 with 46. l = 0 adds one constant to the kernel, which cancels in
MMD², and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.reject.bandwidth import Sample, as_sample, median_bandwidth

Path = Literal["exact", "lowrank"]
Method = Literal["auto", "exact", "lowrank"]
_Float = NDArray[np.float64]

KERNEL_ERROR = 1e-12
"""Largest error of a kernel value that the low-rank path may have."""
TIE_TOLERANCE = 1e-9
"""A permuted MMD² this little below the observed one counts as equal to it, hence as ≥ (relative to k(u, u) = 1).

Equal splits of data with repeated values differ by rounding; counting them as smaller would make p too small.
"""
LARGEST_SPREAD = 300.0
"""The low-rank path serves pooled samples up to this many bandwidths wide (some 370 frequencies)."""
PERMUTATION_BLOCK = 1024
"""Permutations come in blocks of this many, each with a random stream of its own."""
CHUNK_ELEMENTS = 16_000_000
"""Largest number of float64 elements of one intermediate matrix (128 MB)."""


class MMDTest(NamedTuple):
    """One candidate's test. `max_error` bounds the error of `mmd2` against exact arithmetic on the kernel.

    `method` is "undefined" when a sample has fewer than two observations: then `mmd2` = 0 and `p` = 1, because such
    a sample shows nothing. A pooled sample of one repeated value has `bandwidth` 0, `mmd2` = 0 and `p` = 1.
    """

    mmd2: float
    p: float
    bandwidth: float
    method: Literal["exact", "lowrank", "undefined"]
    max_error: float


def mmd_permutation_test(
    xs: Sequence[Sample],
    y: Sample | Sequence[Sample],
    *,
    permutations: int = 999,
    seed: int,
    device: str = "cpu",
    method: Method = "auto",
) -> tuple[MMDTest, ...]:
    """Test every candidate sample of `xs` against `y` in one batched computation.

    `xs` are (m_k,) or (m_k, d), their sizes may differ; `y` is one (n,) or (n, d) array for all, or a list with one
    array per candidate. "auto" takes the low-rank path for scalar samples of moderate spread, else the exact one.

    Candidates of equal (m, n) share their permutations, which depend on `seed`, m and n alone: each p-value is
    valid by itself and does not change with the other candidates of the case, with chunking or with the device.

    Raises ValueError for non-finite values, unequal d, a negative seed, no permutation, an unknown device, or
    "lowrank" asked for samples it cannot serve.
    """
    if permutations < 1 or seed < 0:
        raise ValueError(f"need permutations >= 1 and seed >= 0, got {permutations} and {seed}")
    where = _device(device)
    ys = [y] * len(xs) if isinstance(y, np.ndarray) else list(y)
    if len(ys) != len(xs):
        raise ValueError(f"{len(xs)} candidate samples but {len(ys)} reference samples")
    results: list[MMDTest | None] = [None] * len(xs)
    groups: dict[tuple[int, int, int, Path], list[tuple[int, _Float, float]]] = {}
    for k, (raw_x, raw_y) in enumerate(zip(xs, ys, strict=True)):
        x, ref = as_sample(raw_x), as_sample(raw_y)
        if x.shape[1] != ref.shape[1]:
            raise ValueError(f"samples of {x.shape[1]} and {ref.shape[1]} features cannot be compared")
        m, n = len(x), len(ref)
        if min(m, n) < 2:
            results[k] = MMDTest(0.0, 1.0, 0.0, "undefined", 0.0)
            continue
        z = np.concatenate([x, ref])
        gamma = median_bandwidth(z)
        if gamma == 0.0:
            results[k] = MMDTest(0.0, 1.0, 0.0, "exact", 0.0)
            continue
        path = _choose(z, gamma, method)
        groups.setdefault((m, n, z.shape[1], path), []).append((k, z, gamma))
    for (m, n, _, path), members in groups.items():
        pooled = np.stack([z for _, z, _ in members])
        gammas = np.array([gamma for _, _, gamma in members])
        with _one_thread() if path == "lowrank" and where.type == "cpu" else nullcontext():
            tested = list(_test_group(pooled, gammas, path, m, n, permutations=permutations, seed=seed, device=where))
        for (k, _, gamma), (observed, exceed, error) in zip(members, tested, strict=True):
            results[k] = MMDTest(observed, (1 + exceed) / (permutations + 1), gamma, path, error)
    return tuple(result for result in results if result is not None)


def mmd2_unbiased(x: Sample, y: Sample, bandwidth: float) -> float:
    """The statistic alone; may be negative. `bandwidth` is γ > 0. Raises ValueError below two observations each."""
    a, b = as_sample(x), as_sample(y)
    m, n = len(a), len(b)
    if min(m, n) < 2 or bandwidth <= 0 or a.shape[1] != b.shape[1]:
        raise ValueError(f"need two samples of >= 2 observations and γ > 0, got {a.shape}, {b.shape}, γ = {bandwidth}")
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    xx, yy, xy = (_gaussian(u, v, bandwidth).sum().item() for u, v in ((ta, ta), (tb, tb), (ta, tb)))
    return float((xx - m) / (m * (m - 1)) + (yy - n) / (n * (n - 1)) - 2 * xy / (m * n))


def subsets(m: int, n: int, permutations: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Uniform random m-subsets of N = m + n as boolean (rows, N) blocks; the first row of all is {0..m−1} itself.

    Each block has its own stream, derived from (seed, m, n, block), so any way of consuming them gives the same rows.
    """
    size = m + n
    yield np.arange(size)[None] < m
    for block, start in enumerate(range(0, permutations, PERMUTATION_BLOCK)):
        rows = min(PERMUTATION_BLOCK, permutations - start)
        bits = np.random.PCG64(np.random.SeedSequence([seed, m, n, block]))
        chosen = np.empty((rows, size), dtype=np.bool_)
        todo = np.arange(rows)
        while todo.size:
            # The m smallest of N random keys are a uniform subset. Keys equal at the cut (once in some 4 million rows
            # for N = 1000) would break that: draw such a row again, which treats all positions alike.
            n_keys = todo.size * size
            keys = bits.random_raw((n_keys + 1) // 2).view(np.uint32)[:n_keys].reshape(todo.size, size)
            picked = keys <= np.partition(keys, m - 1, axis=1)[:, m - 1 : m]
            chosen[todo] = picked
            todo = todo[np.count_nonzero(picked, axis=1) != m]
        yield chosen


@dataclass(frozen=True)
class _Kernels:
    """Kernel matrices of K candidates (without a constant that cancels), as the sums that MMD² needs.

    `sums(u)` takes 0/1 rows (rows, N) and gives uᵀKu and uᵀK1, both (rows, K); `total` is 1ᵀK1 and `diagonal` the
    value of k(u, u), both (K,); `error` bounds the error of a kernel value.
    """

    sums: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    total: torch.Tensor
    diagonal: torch.Tensor
    error: _Float


def _test_group(
    pooled: _Float,
    gammas: _Float,
    path: Path,
    m: int,
    n: int,
    *,
    permutations: int,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[float, int, float]]:
    """`pooled` (K, N, d), sizes alike: per candidate the observed MMD², how many permutations reach it, the error."""
    size = m + n
    if path == "lowrank":
        build, width = _lowrank_kernels, 2 * _rank(float(np.max(np.ptp(pooled, axis=1)[:, 0] / gammas)))
    else:
        build, width = _exact_kernels, size
    step = max(1, CHUNK_ELEMENTS // (width * max(size, PERMUTATION_BLOCK)))
    for start in range(0, len(pooled), step):
        kernels = build(pooled[start : start + step], gammas[start : start + step], device)
        observed: torch.Tensor | None = None
        exceed = torch.zeros_like(kernels.total, dtype=torch.int64)
        for block in subsets(m, n, permutations, seed):
            inside, rows = kernels.sums(torch.from_numpy(block).to(device).double())
            own = kernels.diagonal
            values = (inside - m * own) / (m * (m - 1)) - 2 * (rows - inside) / (m * n)
            values += (kernels.total - 2 * rows + inside - n * own) / (n * (n - 1))
            if observed is None:
                observed = values[0]
            else:
                exceed += (values >= observed - TIE_TOLERANCE).sum(0)
        assert observed is not None
        yield from zip(observed.tolist(), exceed.tolist(), (4 * kernels.error).tolist(), strict=True)


def _exact_kernels(pooled: _Float, gammas: _Float, device: torch.device) -> _Kernels:
    data = [torch.from_numpy(z).to(device) for z in pooled]
    matrices = [_gaussian(t, t, float(gamma)) for t, gamma in zip(data, gammas, strict=True)]
    row_sums = torch.stack([k.sum(1) for k in matrices], dim=1)

    def sums(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside = torch.stack([(u @ k).mul_(u).sum(1) for k in matrices], dim=1)
        return inside, u @ row_sums

    total = row_sums.sum(0)
    return _Kernels(sums, total, torch.ones_like(total), np.zeros(len(pooled)))


def _lowrank_kernels(pooled: _Float, gammas: _Float, device: torch.device) -> _Kernels:
    z = pooled[..., 0]
    low, high = z.min(1), z.max(1)
    series = [_series(float(s), float(g)) for s, g in zip(high - low, gammas, strict=True)]
    rank = max(len(c) for _, c, _ in series)
    coefficients = torch.from_numpy(np.stack([np.pad(c, (0, rank - len(c))) for _, c, _ in series])).to(device)
    unit = torch.from_numpy((z - low[:, None]) / np.array([period for period, _, _ in series])[:, None]).to(device)
    frequencies = 2 * math.pi * torch.arange(1, rank + 1, dtype=torch.float64, device=device)
    phase = unit.T[:, :, None] * frequencies
    features = torch.cat([phase.cos(), phase.sin()], dim=2) * coefficients.sqrt().repeat(1, 2)
    count, size, width = len(z), z.shape[1], 2 * rank
    features = features.reshape(size, count * width)
    sum_all = features.sum(0).reshape(count, width)

    def sums(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = (u @ features).reshape(len(u), count, width)
        return embedded.square().sum(2), (embedded * sum_all).sum(2)

    errors = np.array([error for _, _, error in series])
    return _Kernels(sums, sum_all.square().sum(1), coefficients.sum(1), errors)


def _series(spread: float, gamma: float) -> tuple[float, _Float, float]:
    """Period, coefficients 2c_1..2c_r and error bound of the cosine series for distances up to `spread`."""
    # The repeated Gaussians reach into |d| ≤ spread by at most 2·exp(−t²/2) and far smaller terms: half of the error.
    t = math.sqrt(2 * math.log(5 / KERNEL_ERROR))
    period = spread + t * gamma
    step = 2 * math.pi * gamma / period
    order = np.arange(1, math.ceil(1.5 * t / step) + 2)
    c = 2 * math.sqrt(2 * math.pi) * gamma / period * np.exp(-((step * order) ** 2) / 2)
    tail = c[::-1].cumsum()[::-1]
    r = int(np.argmax(tail <= KERNEL_ERROR / 2))
    return period, c[:r], float(tail[r]) + 2.5 * math.exp(-t * t / 2)


def _rank(bandwidths: float) -> int:
    """Frequencies needed for a pooled sample that is this many bandwidths wide."""
    return len(_series(bandwidths, 1.0)[1])


def _choose(z: _Float, gamma: float, method: Method) -> Path:
    if method == "exact" or (z.shape[1] > 1 and method == "auto"):
        return "exact"
    if z.shape[1] > 1:
        raise ValueError(f"the low-rank path serves scalar samples, got {z.shape[1]} features")
    # One feature pair per multiple of 2πγ/period; beyond `LARGEST_SPREAD` do not even build the series.
    bandwidths = float(np.ptp(z)) / gamma
    if bandwidths <= LARGEST_SPREAD and (method == "lowrank" or 4 * _rank(bandwidths) <= len(z)):
        return "lowrank"
    if method == "lowrank":
        raise ValueError(
            f"the samples spread over {bandwidths:.0f} bandwidths, the low-rank path serves {LARGEST_SPREAD}"
        )
    return "exact"


def _gaussian(a: torch.Tensor, b: torch.Tensor, gamma: float) -> torch.Tensor:
    """(m, d), (n, d) → (m, n) kernel values. Distances by differences: the expanded square loses digits."""
    if a.shape[1] == 1:
        scaled = (a - b.T).div_(gamma)
    else:
        scaled = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").div_(gamma)
    return scaled.square_().mul_(-0.5).exp_()


_THREADS = Lock()


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread inside: the low-rank products are too small to share (on a busy machine the threads' waiting
    for each other took 9 times as long as the work), and the last bits no longer depend on the number of cores.
    """
    with _THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise ValueError(f"no device `{name}` for the MMD test; this machine has {', '.join(available)}")
    return torch.device(wanted)
