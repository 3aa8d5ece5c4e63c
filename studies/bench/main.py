"""`make bench`: speed and memory of all that the project states figures for, as performance.md's tables.

Every figure is taken in this run on this machine; peers run in the same run, so that ratios mean something on noisy
machines. `--only` names the parts to run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from r2seg_agent.data.fetch import fetch
from studies.cases import CASES
from studies.demo import find_arguments
from studies.measure import machine_line, run_measured

STARTUP_RUNS = 7
BIG_SHAPE = (800, 512, 512)
BIG_FACTOR = 4
"""The big scan is a phantom of a quarter of the size, each voxel repeated: memory does not care, and it is quick."""


def startup() -> None:
    """Median wall time of the commands that must feel immediate."""
    print("| command | median s of 7 | bound |\n|---|---|---|")
    for name, command, bound in (
        ("`import r2seg_agent`", ["-c", "import r2seg_agent"], 0.2),
        ("`r2seg --help`", ["-m", "r2seg_agent", "--help"], 0.4),
    ):
        times = [run_measured([sys.executable, *command]).seconds for _ in range(STARTUP_RUNS)]
        print(f"| {name} | {statistics.median(times):.2f} | {bound} |")


def find_lung2() -> None:
    """`r2seg find` with `contrast` on a real 512×512×61 scan, cold cache: a new workspace each time."""
    print("| command | s | peak GB | bound |\n|---|---|---|---|")
    case = next(case for case in CASES if case.dataset == "lung2")
    scan = fetch("lung2")
    with tempfile.TemporaryDirectory() as folder:
        done = run_measured(
            [sys.executable, "-m", "r2seg_agent", *find_arguments(case, scan, Path(folder), "contrast"), "--quiet"]
        )
    _require(done.status == 0, done.output)
    print(f"| `find` lung2 (512×512×61) | {done.seconds:.1f} | {done.peak_gb:.2f} | 20 s, 2 GB |")


def find_big() -> None:
    """`r2seg find` on a synthetic 512×512×800 scan: peak memory against the scan's size in float32."""
    from r2seg_agent.imaging.geometry import Geometry
    from r2seg_agent.imaging.itk import write_itk
    from r2seg_agent.phantom import Acquisition, LesionSpec, make_phantom

    z, y, x = (n // BIG_FACTOR for n in BIG_SHAPE)
    spacing_mm = (2.2, 2.4, 3.2)
    phantom = make_phantom(
        3,
        shape=(z, y, x),
        spacing_mm=spacing_mm,
        acquisition=Acquisition(finest_mm=spacing_mm),
        lesions=(LesionSpec("lung_lower_lobe_left", volume_ml=3.0, contrast=850.0),),
    )
    array = phantom.volume.array
    for axis in range(3):
        array = np.repeat(array, BIG_FACTOR, axis=axis)
    spacing = tuple(s / BIG_FACTOR for s in phantom.volume.geometry.spacing_mm)
    geometry = Geometry(shape=BIG_SHAPE, spacing_mm=(spacing[0], spacing[1], spacing[2]))
    size_gb = float(np.prod(BIG_SHAPE)) * 4 / 1e9
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.nii"
        write_itk(path, array, geometry)
        del array
        command = [sys.executable, "-m", "r2seg_agent", "find", "find the lung nodule", "--image", str(path)]
        command += ["--anchors", "hounsfield", "--workspace", folder, "--synthetic", "--quiet"]
        done = run_measured(command)
    _require(done.status == 0, done.output)
    print("| command | s | peak GB | float32 size GB | ratio | bound |\n|---|---|---|---|---|---|")
    ratio = done.peak_gb / size_gb
    print(f"| `find` 512×512×800 | {done.seconds:.1f} | {done.peak_gb:.2f} | {size_gb:.2f} | {ratio:.2f} | 3 |")


def mmd() -> None:
    """MMD² permutation tests against hyppo and alibi-detect."""
    _run_module("studies.bench.mmd")


def totalsegmentator() -> None:
    """Our TotalSegmentator path against the stock call, with the tiny test weights."""
    _run_module("studies.bench.totalseg")


def reject() -> None:
    """FDR correction and calibration look-up against SciPy, NumPy and statsmodels."""
    _run_module("studies.bench.reject")


def froc() -> None:
    """FROC curves, lesion labels, lesion matching and bootstrap intervals against their peers."""
    _run_module("studies.bench.froc")


def batch() -> None:
    """Data sets on this machine: rate by workers, memory over time, what the driver adds."""
    _run_module("studies.bench.batch")


PARTS: Mapping[str, Callable[[], None]] = {
    "startup": startup,
    "find": find_lung2,
    "big": find_big,
    "totalsegmentator": totalsegmentator,
    "mmd": mmd,
    "reject": reject,
    "froc": froc,
    "batch": batch,
}


def main() -> int:
    """Run the wanted parts in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    for name in parser.parse_args().only:
        print(f"\n### {name}\n\n{machine_line()}\n", flush=True)
        PARTS[name]()
        sys.stdout.flush()
    return 0


def _run_module(name: str) -> None:
    subprocess.run([sys.executable, "-m", name], check=True)


def _require(ok: bool, output: str) -> None:
    if not ok:
        raise SystemExit(f"the measured command failed:\n{output}")


if __name__ == "__main__":
    sys.exit(main())
