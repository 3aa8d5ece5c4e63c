"""FDR correction and calibration look-up against their peers: `python -m studies.bench.reject`.

CPU time of this process (`time.process_time`), the median of several rounds, peers in the same round one after the
other, so that ratios mean something on a busy machine. Every peer's result is compared with ours before it is timed.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    case_maximum_p,
)
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.segment.contrast import ContrastSegmenter
from studies.measure import machine_line

ROUNDS = 7
FAMILIES = (5, 50, 1_000, 100_000)
"""Candidates of a case, of a crowded one, flagged scans of a data set, of a very large one."""
CASES = (200, 100_000)
LOOK_UPS = 50
NAIVE_LOOK_UPS = 5
BATCH_S = 0.02
"""A call too short to time is repeated until a round takes this long."""


class _Ecdf(Protocol):
    def __call__(self, x: float) -> float: ...


def corrections() -> None:
    """Benjamini-Hochberg: time per call, ours and scipy's."""
    print("| correction | p-values | ours µs | scipy µs | scipy / ours |\n|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for size in FAMILIES:
        p = rng.random(size) ** 2
        ours, peer = partial(benjamini_hochberg, p), partial(false_discovery_control, p, method="bh")
        assert np.allclose(ours(), peer(), rtol=1e-12)
        took = _timed({"ours": ours, "scipy": peer})
        a, b = took["ours"], took["scipy"]
        print(f"| BH | {size} | {a * 1e6:.1f} | {b * 1e6:.1f} | {b / a:.1f} |", flush=True)


def look_ups() -> None:
    """One conformal p-value from a calibration of n cases: ours and three ways to count, the same numbers."""
    print(
        "| cases | ours µs | count in Python µs | numpy.searchsorted µs | statsmodels ECDF µs | count / ours "
        "| searchsorted / ours | ECDF / ours |\n|---|---|---|---|---|---|---|---|"
    )
    for n in CASES:
        calibration = _calibration(n)
        maxima = np.sort(np.array([case.maximum for case in calibration.cases], dtype=np.float64))
        scores: list[float] = np.random.default_rng(1).normal(1.5, 1.0, LOOK_UPS).tolist()
        peers: dict[str, Callable[[float], float]] = {
            "ours": partial(case_maximum_p, calibration),
            "count": partial(_count, calibration),
            "searchsorted": partial(_searchsorted, maxima),
        }
        if (ecdf := _statsmodels(maxima)) is not None:
            peers["ecdf"] = partial(_by_ecdf, ecdf, n)
        for name, look_up in peers.items():
            assert [look_up(s) for s in scores[:5]] == [case_maximum_p(calibration, s) for s in scores[:5]], name
        few = {name: scores[: NAIVE_LOOK_UPS if name == "count" and n > 1000 else LOOK_UPS] for name in peers}
        took = _timed({name: partial(_each, look_up, few[name]) for name, look_up in peers.items()})
        us = {name: took[name] / len(few[name]) * 1e6 for name in peers}
        ratios = [f"{us[name] / us['ours']:.0f}" if name in us else "–" for name in ("count", "searchsorted", "ecdf")]
        shown = [f"{us[name]:.2f}" if name in us else "not here" for name in ("ours", "count", "searchsorted", "ecdf")]
        print(f"| {n} | {' | '.join(shown)} | {' | '.join(ratios)} |", flush=True)


def _each(look_up: Callable[[float], float], scores: list[float]) -> None:
    for score in scores:
        look_up(score)


def _count(calibration: Calibration, score: float) -> float:
    reached = sum(case.maximum is not None and case.maximum >= score for case in calibration.cases)
    return (1 + reached) / (len(calibration.cases) + 1)


def _searchsorted(maxima: NDArray[np.float64], score: float) -> float:
    return (1 + maxima.size - int(np.searchsorted(maxima, score))) / (maxima.size + 1)


def _by_ecdf(ecdf: _Ecdf, n: int, score: float) -> float:
    """1 − F counts what is greater; the scores come from a continuum, so that none is equal."""
    return (1 + round(n * (1.0 - float(ecdf(score))))) / (n + 1)


def files() -> None:
    """What a large calibration costs once: to build, write, read with its checks, and sort for the first look-up."""
    print("| cases | build s | write s | read and check s | first look-up ms | file MB |\n|---|---|---|---|---|---|")
    for n in CASES:
        started = time.process_time()
        calibration = _calibration(n)
        built = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "calibration.json"
            save_calibration(calibration, path)
            saved = time.process_time()
            loaded = load_calibration(path)
            read = time.process_time()
            case_maximum_p(loaded, 1.0)
            sorted_at = time.process_time()
            size = path.stat().st_size / 1e6
        print(
            f"| {n} | {built - started:.2f} | {saved - built:.2f} | {read - saved:.2f} | "
            f"{(sorted_at - read) * 1e3:.1f} | {size:.1f} |",
            flush=True,
        )


def _calibration(n: int) -> Calibration:
    identity = CalibrationIdentity(
        segmenter=ContrastSegmenter().info,
        anchor_source=AnchorSourceInfo(
            name="bench", version="1", kind="masks", stand_in=True, licence="", modalities=("CT",)
        ),
        anchors=("liver",),
        target="liver_tumor",
        modality="CT",
        score="scan_statistic",
    )
    scores: NDArray[np.float64] = np.random.default_rng(2).normal(0.0, 1.0, (n, 3))
    rows: list[list[float]] = scores.tolist()
    return build_calibration(
        identity, [CaseScores(case=f"c{i}", patient=f"p{i}", scores=tuple(row)) for i, row in enumerate(rows)]
    )


def _statsmodels(maxima: NDArray[np.float64]) -> _Ecdf | None:
    """Kept out of the type checker's sight: it has no types, and no part of the package needs it."""
    try:
        module = importlib.import_module("statsmodels.distributions.empirical_distribution")
    except ImportError:
        return None
    return cast(_Ecdf, module.ECDF(maxima))


def _timed(peers: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of one call of each, over rounds in which each takes its turn."""
    repeats: dict[str, int] = {}
    for name, call in peers.items():
        call()
        started = time.process_time()
        call()
        repeats[name] = max(1, int(BATCH_S / max(time.process_time() - started, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(ROUNDS):
        for name, call in peers.items():
            started = time.process_time()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.process_time() - started) / repeats[name])
    return {name: statistics.median(own) for name, own in seconds.items()}


def main() -> int:
    """Print all tables."""
    print(f"{machine_line()}. CPU time, median of {ROUNDS} rounds.")
    for part in (corrections, look_ups, files):
        print(f"\n{part.__doc__}\n")
        part()
    return 0


if __name__ == "__main__":
    sys.exit(main())
