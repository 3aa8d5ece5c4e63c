"""MMD² permutation test against hyppo and alibi-detect: `python -m studies.bench.mmd`.

One process, one machine, the same samples for all: m = n = 500 scalar values, B = 1000 permutations. alibi-detect needs
an older numpy, so it runs from a virtual environment of its own, made by package name in r2seg's cache at the first
run; where that fails (no network, no matching Python) its row says that it was skipped, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.files import cache_root
from r2seg_agent.reject.mmd import Method, MMDTest, mmd_permutation_test
from studies.measure import machine_line

SIZE, PERMUTATIONS, CANDIDATES, SEED = 500, 1000, 50, 0
ALIBI_PACKAGE = "alibi-detect[torch]==0.13.0"
ALIBI_SCRIPT = """
import json, sys, time
import numpy as np, torch
from importlib.metadata import version
from alibi_detect.cd import MMDDrift
data = np.load(sys.argv[1]); permutations = int(sys.argv[2])
torch.manual_seed(0); np.random.seed(0)
y, x = data["y"][:, None].astype(np.float32), data["x"][:, None].astype(np.float32)
MMDDrift(y[:50], backend="pytorch", n_permutations=2).predict(x[:50])
start = time.perf_counter()
found = MMDDrift(y, backend="pytorch", n_permutations=permutations).predict(x)["data"]
print(json.dumps({"seconds": time.perf_counter() - start, "p": float(found["p_val"]),
                  "version": version("alibi-detect"), "torch": torch.__version__}))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: `seconds` is the median over `runs` (None: skipped, `note` says why)."""

    what: str
    seconds: float | None
    best: float | None
    runs: int
    p: float | None
    note: str = ""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a Markdown table and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=PERMUTATIONS, help="permutations for hyppo; fewer are scaled up")
    parser.add_argument("--skip-hyppo", action="store_true", help="leave out hyppo, which takes minutes")
    parser.add_argument("--alibi-python", type=Path, help="Python of an environment that has alibi-detect")
    parser.add_argument("--alibi-venv", type=Path, help="where to make that environment; default: r2seg's cache")
    parser.add_argument("--skip-alibi", action="store_true", help="leave out alibi-detect")
    parser.add_argument("--json", type=Path, help="write the JSON here too")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(SEED)
    x, y = rng.normal(0.05, 1.0, SIZE), rng.normal(size=SIZE)
    many = [rng.normal(0.05, 1.0, SIZE) for _ in range(CANDIDATES)]
    case = [rng.normal(0.05, 1.0, int(m)) for m in rng.integers(5, 201, 60)]
    rows = [
        _ours("r2seg low-rank, 1 candidate", lambda: _test([x], y, "lowrank"), 15),
        _ours("r2seg exact, 1 candidate", lambda: _test([x], y, "exact"), 9),
        _ours(f"r2seg low-rank, {CANDIDATES} candidates", lambda: _test(many, y, "lowrank"), 7),
        _ours("r2seg as in a case: 60 candidates of 5 to 200 voxels, n = 200", lambda: _test(case, y[:200], "auto"), 5),
        _skipped("alibi-detect MMDDrift") if args.skip_alibi else _alibi(x, y, args.alibi_python, args.alibi_venv),
        _skipped("hyppo MMD") if args.skip_hyppo else _hyppo(x, y, args.reps),
    ]
    report = {
        "what": f"MMD² permutation test, m = n = {SIZE} scalars, B = {PERMUTATIONS}",
        "machine": machine_line(),
        "load": round(os.getloadavg()[0], 1),
        "rows": [asdict(row) for row in rows],
    }
    print(f"{report['what']}. {report['machine']}; load average {report['load']} at the end.\n")
    print(_table(rows))
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(f"\n```json\n{text}\n```")
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _test(xs: list[NDArray[np.float64]], y: NDArray[np.float64], method: Method) -> tuple[MMDTest, ...]:
    return mmd_permutation_test(xs, y, permutations=PERMUTATIONS, seed=SEED, method=method)


def _ours(what: str, run: Callable[[], tuple[MMDTest, ...]], runs: int) -> Row:
    first = run()  # warms up thread pools and caches
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    one = first[0] if len(first) == 1 else None
    note = f"MMD² = {one.mmd2:.9f}" if one else ""
    return Row(what, float(np.median(seconds)), min(seconds), runs, one.p if one else None, note)


def _skipped(what: str, why: str = "on request") -> Row:
    return Row(what, None, None, 0, None, f"skipped: {why}")


def _hyppo(x: NDArray[np.float64], y: NDArray[np.float64], reps: int) -> Row:
    try:
        from hyppo.ksample import MMD
    except ImportError as error:
        return _skipped("hyppo MMD", str(error))
    MMD().statistic(x[:50, None], y[:50, None])  # compile before the clock runs
    start = time.perf_counter()
    _, p = MMD().test(x[:, None], y[:, None], reps=reps, workers=1, auto=False, random_state=SEED)
    seconds = time.perf_counter() - start
    note = "" if reps == PERMUTATIONS else f"scaled up from {reps} permutations ({seconds:.1f} s)"
    seconds *= PERMUTATIONS / reps
    return Row(f"hyppo {version('hyppo')} MMD", seconds, seconds, 1, float(p), note)


def _alibi(x: NDArray[np.float64], y: NDArray[np.float64], python: Path | None, venv: Path | None) -> Row:
    name = "alibi-detect MMDDrift"
    try:
        found = python or _make_venv(venv or cache_root() / "bench-alibi")
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data.npz"
            np.savez(data, x=x, y=y)
            command = [str(found), "-W", "ignore", "-c", ALIBI_SCRIPT, str(data), str(PERMUTATIONS)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        return _skipped(name, (said or str(error)).strip().splitlines()[-1])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    seconds = float(told["seconds"])
    return Row(f"alibi-detect {told['version']} MMDDrift", seconds, seconds, 1, told["p"], f"torch {told['torch']}")


def _make_venv(venv: Path) -> Path:
    python = venv / "bin" / "python"
    have = [str(python), "-c", "import alibi_detect"]
    if not python.exists() or subprocess.run(have, capture_output=True, check=False).returncode != 0:
        print(f"making an environment for {ALIBI_PACKAGE} in {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True, text=True)
        # The torch that runs ours: a fair race, and pip would else bring gigabytes of CUDA.
        same_torch = f"torch=={version('torch').partition('+')[0]}"
        install = [str(python), "-m", "pip", "install", "--quiet", ALIBI_PACKAGE, same_torch]
        subprocess.run(install, check=True, capture_output=True, text=True)
    return python


def _table(rows: list[Row]) -> str:
    base = rows[0].seconds
    lines = ["| | seconds (median) | best | runs | times our low-rank | p | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if row.seconds is None or row.best is None or base is None:
            lines.append(f"| {row.what} | – | – | 0 | – | – | {row.note} |")
            continue
        p = "" if row.p is None else f"{row.p:.3f}"
        ratio = f"{row.seconds / base:,.1f}"
        lines.append(f"| {row.what} | {row.seconds:.4g} | {row.best:.4g} | {row.runs} | {ratio} | {p} | {row.note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
