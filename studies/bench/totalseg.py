"""Our TotalSegmentator path against the library's own call: `python -m studies.bench.totalseg`.

Both segment the same phantom with the same (tiny) weights in fresh processes, first call and second call, and must
give the same labels. Memory is that of the whole process tree, since the library starts helper processes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.phantom import Acquisition, Phantom, make_phantom

TINY_WEIGHTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "tiny_totalseg"
SEED, SPACING_MM = 77, (3.0, 1.5, 1.5)
ORGANS = ("liver", "pancreas")
POLL_S = 0.05
TELEMETRY_OFF = {"totalseg_id": "bench", "send_usage_stats": False, "prediction_counter": 0}
Side = Literal["ours", "stock"]


class Run(Frozen):
    """One process: seconds of its first call (with the imports that the call makes) and of its second one."""

    first_s: float
    second_s: float
    labels_sha256: str
    peak_gb: float | None = None


class Comparison(Frozen):
    """Both sides in one run on one machine."""

    ours: Run
    stock: Run

    @property
    def same_labels(self) -> bool:
        """True when both gave the same label for every voxel."""
        return self.ours.labels_sha256 == self.stock.labels_sha256


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the JSON; exit status 1 when the labels differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=TINY_WEIGHTS)
    parser.add_argument("--side", choices=["ours", "stock"], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.side:
        print(measure_here(given.side, given.weights).model_dump_json())
        return 0
    compared = compare(given.weights)
    print(table(compared))
    print(f"\n```json\n{compared.model_dump_json(indent=1)}\n```")
    return 0 if compared.same_labels else 1


def compare(weights: Path) -> Comparison:
    """Measure both sides, each in a process of its own."""
    return Comparison(ours=_measure_apart("ours", weights), stock=_measure_apart("stock", weights))


def table(compared: Comparison) -> str:
    """Markdown; the ratio is the library's time or memory over ours."""
    rows = ["| TotalSegmentator, 6 mm, tiny weights | first call s | second call s | peak GB |", "|---|---|---|---|"]
    for name, run in (("stock `totalsegmentator()`", compared.stock), ("r2seg", compared.ours)):
        memory = "n/a" if run.peak_gb is None else f"{run.peak_gb:.2f}"
        rows.append(f"| {name} | {run.first_s:.2f} | {run.second_s:.2f} | {memory} |")
    first = compared.stock.first_s / compared.ours.first_s
    second = compared.stock.second_s / compared.ours.second_s
    memory = "n/a"
    if compared.stock.peak_gb is not None and compared.ours.peak_gb:
        memory = f"{compared.stock.peak_gb / compared.ours.peak_gb:.1f}×"
    rows.append(f"| ratio (at least 2× wanted) | {first:.1f}× | {second:.1f}× | {memory} |")
    rows.append(f"\nSame labels: {'yes, every voxel' if compared.same_labels else 'NO'}.")
    return "\n".join(rows)


def measure_here(side: Side, weights: Path) -> Run:
    """Both calls of one side, in this process."""
    phantom = make_phantom(SEED, spacing_mm=SPACING_MM, acquisition=Acquisition(finest_mm=SPACING_MM))
    call = _ours(phantom, weights) if side == "ours" else _stock(phantom, weights)
    seconds, labels = [], b""
    for _ in range(2):
        started = time.perf_counter()
        labels = call()
        seconds.append(time.perf_counter() - started)
    return Run(first_s=seconds[0], second_s=seconds[1], labels_sha256=hashlib.sha256(labels).hexdigest())


def _ours(phantom: Phantom, weights: Path) -> Callable[[], bytes]:
    from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource

    source = TotalSegmentatorSource("fastest", "cpu", weights)

    def call() -> bytes:
        return source.locate(phantom.volume, ORGANS).labels.tobytes()

    return call


def _stock(phantom: Phantom, weights: Path) -> Callable[[], bytes]:
    """The library as its documentation calls it, statistics off, in a home folder of its own."""
    import numpy as np

    from r2seg_agent.reason.anchors.totalseg.image import to_nifti

    image = to_nifti(phantom.volume)

    def call() -> bytes:
        from totalsegmentator.python_api import totalsegmentator

        found = totalsegmentator(image, None, fastest=True, device="cpu", quiet=True)
        labels: bytes = np.asanyarray(found.dataobj).astype(np.uint8).transpose(2, 1, 0).tobytes()
        return labels

    return call


def _measure_apart(side: Side, weights: Path) -> Run:
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "config.json").write_text(json.dumps({**TELEMETRY_OFF, "statistics_disclaimer_shown": True}))
        environment = {**os.environ, "TOTALSEG_HOME_DIR": home, "TOTALSEG_WEIGHTS_PATH": str(weights)}
        process = subprocess.Popen(
            [sys.executable, "-m", "studies.bench.totalseg", "--side", side, "--weights", str(weights)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _session_bytes(process.pid))
            time.sleep(POLL_S)
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the {side} side failed:\n{output}\n{errors}")
    run = Run.model_validate_json(output.strip().splitlines()[-1])
    return run.model_copy(update={"peak_gb": peak / 1e9 if peak else None})


def _session_bytes(leader: int) -> int:
    """Proportional memory (shared pages counted once) of all processes of one session; 0 where /proc has none."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) != leader:
                continue
            lines = (entry / "smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, ValueError):  # the process has just ended
            continue
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
