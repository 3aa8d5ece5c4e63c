"""The arithmetic of docs/evidence/scale.md: what a batch writes, what its tables cost, how many lesion-free cases
flagging needs, what failures cost. `python -m studies.scale --help` says which part needs what."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2seg_agent.batch.engines import engine_named
from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.batch.run_case import failed_row
from r2seg_agent.batch.table import case_q_values, write_table
from r2seg_agent.datasets.case import Case
from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.calibration import smallest_p
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.runs.options import RunOptions
from studies.measure import machine_line

PREVALENCES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
FOLDS = (1, 2, 5, 20)
ALPHA = 0.05


class Kept(NamedTuple):
    """Files of one kind in a batch's folder, per case: their number and bytes."""

    files: float
    bytes: float


def kept_per_case(folder: Path) -> dict[str, Kept]:
    """What the batch in `folder` holds per case that is done: artifacts, and each file of a run by its name."""
    cases = sum(row.status == "done" for row in read_rows(folder / "journal.jsonl"))
    count: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path in (path for path in folder.rglob("*") if path.is_file()):
        part = path.relative_to(folder).parts
        in_run = len(part) > 2 and part[0] == "runs" and not part[1].startswith("batch")
        kind = "artifacts/" if part[0] == "artifacts" else path.name if in_run else "tables, journal"
        count[kind][0] += 1
        count[kind][1] += path.stat().st_size
    return {kind: Kept(files / cases, size / cases) for kind, (files, size) in sorted(count.items())}


def folders_per_case(folder: Path) -> float:
    """Folders below `folder` per case that is done: inodes as well."""
    cases = sum(row.status == "done" for row in read_rows(folder / "journal.jsonl"))
    return sum(path.is_dir() for path in folder.rglob("*")) / cases


def lesion_free_cases_needed(prevalence: float, alpha: float = ALPHA, power: float = 1.0) -> int:
    """Smallest n at which BH over very many scans can flag any, by p-values of at least 1/(n + 1).

    With a share `prevalence`·`power` of scans above all n cases, and one in n + 1 of the others by chance, BH rejects
    the smallest p-values when 1/(n + 1) ≤ α (π w + (1 − π)/(n + 1)), so n + 1 ≥ (1 − α (1 − π)) / (α π w).
    """
    return max(1, math.ceil((1 - alpha * (1 - prevalence)) / (alpha * prevalence * power) - 1 - 1e-9))


class Spread(NamedTuple):
    """Of many calibrations: the mean and 95th percentile of the share of flagged scans that are free of lesions, the
    share of lesion-bearing scans flagged, and how often nothing was flagged."""

    mean: float
    high: float
    found: float
    none: float


def spread(
    n: int, prevalence: float, rng: np.random.Generator, *, scans: int = 20_000, repeats: int = 200, power: float = 1.0
) -> Spread:
    """BH at α over `scans` scans by the case maximum of `n` lesion-free cases, `repeats` times with a new calibration.

    Scores of lesion-free scans are uniform; of the others a share `power` lies above them all and the rest among them:
    the most favourable data that there is, so that only the calibration's own chance is left.
    """
    bearing = round(scans * prevalence)
    clear = round(bearing * power)
    false, found, none = [], [], 0
    for _ in range(repeats):
        null = np.sort(rng.random(n))
        scores = rng.random(scans)
        scores[:clear] = 2.0
        p = (1 + n - np.searchsorted(null, scores, side="left")) / (n + 1)
        flagged = np.asarray([within(value, ALPHA) for value in benjamini_hochberg(p).tolist()])
        total = int(flagged.sum())
        none += total == 0
        false.append(int(flagged[bearing:].sum()) / max(total, 1))
        found.append(int(flagged[:bearing].sum()) / bearing)
    return Spread(float(np.mean(false)), float(np.quantile(false, 0.95)), float(np.mean(found)), none / repeats)


class Losses(NamedTuple):
    """What failures cost: hours on the wall, cases begun twice, cases that end as `crashed`, nodes lost on the way."""

    hours: float
    again: float
    crashed: float
    nodes_lost: float


def losses(scans: int, seconds: float, workers: int, per_node: int, crash: float, node_hours: float) -> Losses:
    """Expected losses of a run of `scans` cases of `seconds` each on `workers` workers, `per_node` on a node.

    `crash` is the chance that a case kills its worker for a passing reason, `node_hours` the mean time between losses
    of one node. A case is tried twice, so a fraction (chance of loss)² is left for the next call.
    """
    hours = scans * seconds / workers / 3600
    lost = crash + seconds / 3600 / node_hours
    return Losses(hours, scans * lost, scans * lost**2, workers / per_node * hours / node_hours)


def synthetic_rows(count: int, rng: np.random.Generator) -> Iterator[CaseRow]:
    """Rows like those of a search with a calibration."""
    for number in range(1, count + 1):
        yield CaseRow(
            number=number,
            key=f"{number:016x}",
            image=f"/data/scans/patient-{number:06d}/ct.nii.gz",
            patient=f"patient-{number:06d}",
            request="find a lung nodule",
            status="done",
            outcome="no_lesion_survived",
            run_id=f"{number:012x}",
            candidates=12,
            p=float(rng.integers(1, 2002)) / 2001,
            planner="offline",
            segmenter="lite-medsam",
            seconds=30.0,
            peak_mb=1500.0,
            node="node-017/0123abcd",
        )


def nothing(job: Job) -> CaseRow:
    """A worker's job that takes no time: what is left is the driver and the engine."""
    return failed_row(job, "failed", "", 0.0).model_copy(update={"status": "done"})


def _print_kept(folder: Path, scans: int) -> None:
    kept = kept_per_case(folder)
    print(f"| {folder.name}: a case writes | files | kB | {scans:,} scans, GB |\n|---|---|---|---|")
    for kind, (files, size) in sorted(kept.items(), key=lambda item: -item[1].bytes):
        print(f"| {kind} | {files:.1f} | {size / 1e3:.1f} | {size * scans / 1e9:.1f} |")
    files, size = (sum(values) for values in zip(*kept.values(), strict=True))
    print(f"| all | {files:.1f} | {size / 1e3:.1f} | {size * scans / 1e9:.1f} |")
    inodes = files + folders_per_case(folder)
    print(f"\n{inodes:.1f} inodes a case with its folders: {inodes * scans / 1e6:.2f} million.\n")


def _print_tables(scans: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="r2seg-scale-"))
    try:
        rows = list(synthetic_rows(scans, np.random.default_rng(0)))
        started = time.process_time()
        lines = "".join(row.model_dump_json() + "\n" for row in rows)
        (folder / "journal.jsonl").write_text(lines)
        begin = time.process_time()
        read = list(read_rows(folder / "journal.jsonl"))
        resumed = time.process_time()
        q = case_q_values(read)
        flagged = time.process_time()
        write_table(folder, read, q)
        written = time.process_time()
        print(f"| {scans:,} rows | CPU s | MB |\n|---|---|---|")
        print(f"| journal written (without waiting for the disk) | {begin - started:.1f} | {len(lines) / 1e6:.1f} |")
        print(f"| journal read, as a resume does | {resumed - begin:.1f} | |")
        print(f"| BH over all p-values | {flagged - resumed:.2f} | |")
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f}" for path in sorted(folder.glob("results*")))
        print(f"| tables written | {written - flagged:.1f} | {sizes} |\n")
        journal = Journal(folder / "synced.jsonl")
        started = time.perf_counter()
        for row in rows[:200]:
            journal.add(row)
        print(f"A row on this disk, waited for: {(time.perf_counter() - started) / 200 * 1e3:.2f} ms.\n")
    finally:
        shutil.rmtree(folder)


def _print_driver(cases: int, engine: str, workers: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="r2seg-scale-"))
    jobs = make_jobs(
        tuple(Case(image=f"{n}.nii", patient=str(n), request="nothing") for n in range(cases)), None, RunOptions()
    )
    marks: list[float] = []
    try:
        cpu = time.process_time()
        run_batch(
            jobs,
            folder,
            engine=engine_named("ray" if engine == "ray" else "local"),
            workers=workers,
            on_row=lambda *_: marks.append(time.perf_counter()),
            work=nothing,
        )
        cpu = time.process_time() - cpu
    finally:
        shutil.rmtree(folder)
    each = (marks[-1] - marks[0]) / (len(marks) - 1) * 1e3
    print("| engine | cases | workers | ms a case, wall | driver's CPU ms a case |\n|---|---|---|---|---|")
    print(f"| {engine} | {cases} | {workers} | {each:.2f} | {cpu / cases * 1e3:.2f} |\n")


def _print_calibration(scans: int) -> None:
    print(
        "| lesion-bearing scans | n ≥, all of them clear | n ≥, 80 % clear | smallest p at that n |\n|---|---|---|---|"
    )
    for share in PREVALENCES:
        every, most = (lesion_free_cases_needed(share, power=power) for power in (1.0, 0.8))
        print(f"| {share:.0%} | {every} | {most} | {smallest_p(most):.2g} |")
    print(
        f"\n| {scans:,} scans | n | free of lesions among the flagged: mean | 95th percentile | found | none flagged |"
    )
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for share in (0.2, 0.05):
        for fold in FOLDS:
            n = fold * lesion_free_cases_needed(share)
            one = spread(n, share, rng, scans=scans)
            told = f"{one.mean:.3f} | {one.high:.3f} | {one.found:.2f} | {one.none:.0%}"
            print(f"| {share:.0%} bearing, {fold} × | {n} | {told} |")
    print()


def _print_losses(scans: int, seconds: Sequence[float], workers: int, per_node: int) -> None:
    print(
        f"| {scans:,} scans, {workers} workers, {per_node} a node | s a case | hours | again | crashed | nodes lost |"
    )
    print("|---|---|---|---|---|---|")
    for name, crash, node_hours in (("quiet", 1e-5, 5000.0), ("usual", 1e-4, 1000.0), ("spot machines", 1e-3, 24.0)):
        for each in seconds:
            one = losses(scans, each, workers, per_node, crash, node_hours)
            told = f"{one.hours:.1f} | {one.again:.0f} | {one.crashed:.2f} | {one.nodes_lost:.1f}"
            print(f"| {name}: {crash:g} a case, a node lasts {node_hours:g} h | {each:g} | {told} |")
    print()


def main(arguments: list[str] | None = None) -> int:
    """Print the parts that were asked for; without any, those that are only arithmetic."""
    parser = argparse.ArgumentParser(prog="python -m studies.scale", description=__doc__)
    parser.add_argument("--scans", type=int, default=100_000, help="scans of the data set")
    parser.add_argument("--runs", type=Path, action="append", default=[], help="folder of a batch to weigh (again)")
    parser.add_argument("--tables", action="store_true", help="write and read journal and tables of that many rows")
    parser.add_argument("--driver", type=int, default=0, metavar="CASES", help="run so many cases that do nothing")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="for --driver")
    parser.add_argument("--workers", type=int, default=64, help="workers (for --driver: 2 are enough)")
    parser.add_argument("--per-node", type=int, default=8, help="workers on one node")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0], help="seconds a case")
    given = parser.parse_args(arguments)
    for folder in given.runs:
        _print_kept(folder, given.scans)
    if given.tables:
        print(machine_line(), "\n")
        _print_tables(given.scans)
    if given.driver:
        print(machine_line(), "\n")
        _print_driver(given.driver, given.engine, min(given.workers, 2))
    if not (given.runs or given.tables or given.driver):
        _print_calibration(min(given.scans, 20_000))
        _print_losses(given.scans, given.seconds, given.workers, given.per_node)
    return 0


if __name__ == "__main__":
    sys.exit(main())
