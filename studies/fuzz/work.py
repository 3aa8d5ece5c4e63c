"""What one process of the fuzzer does: inputs of one target, one after the other, each in an empty folder."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from r2seg_agent.errors import R2SegError
from r2seg_agent.version import __version__
from studies.fuzz.targets import TARGETS, Target
from studies.fuzz.watch import Watch

BATCH = 500
"""Inputs of one run of hypothesis, which keeps what it has tried in memory."""


def work(name: str, folder: Path, first_seed: int, wanted: int, until: float) -> None:
    """Give target `name` its inputs until there were `wanted` or the time `until` (of `time.time`) is reached.

    Everything is written below `folder`: `current.json`, the input under way; `found.jsonl`, failures; `counts.json`.
    """
    target = next(target for target in TARGETS if target.name == name)
    seeds, scratch = folder.parents[1] / target.prepare.__name__, folder / "work"
    before = _listing(seeds)
    watch = Watch(folder)
    counts = {"inputs": 0, "refused": 0, "accepted": 0, "failed": 0, "slowest_s": 0.0, "base_mb": _peak_mb()}
    turn = 0
    while counts["inputs"] < wanted and time.time() < until:
        _some(
            target, first_seed + turn, int(min(BATCH, wanted - counts["inputs"])), seeds, scratch, watch, counts, until
        )
        turn += 1
        counts["peak_mb"] = _peak_mb()
        (folder / "counts.json").write_text(json.dumps(counts))
    if _listing(seeds) != before:
        _note(folder, target, None, "changed", "the whole files beside the work folder were changed")


def _some(
    target: Target, number: int, n: int, seeds: Path, scratch: Path, watch: Watch, counts: dict[str, Any], until: float
) -> None:
    folder = scratch.parent

    @seed(number)
    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(target.inputs)
    def one(inputs: Any) -> None:
        if time.time() > until:
            return
        (folder / "next.json").write_text(json.dumps([time.time(), time.process_time(), repr(inputs)[:4000]]))
        os.replace(folder / "next.json", folder / "current.json")  # the watcher never reads half of it
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        started = time.perf_counter()
        with _quiet(), _watched(watch):
            error = _error_of(target, inputs, seeds, scratch)
        counts["inputs"] += 1
        counts["slowest_s"] = max(counts["slowest_s"], round(time.perf_counter() - started, 2))
        if error is None:
            counts["accepted"] += 1
        elif isinstance(error, R2SegError):
            counts["refused"] += 1
        else:
            counts["failed"] += 1
            _note(folder, target, inputs, _where(error), "".join(traceback.format_exception(error))[-3000:])
        for seen in watch.seen:
            counts["failed"] += 1
            _note(folder, target, inputs, f"outside: {seen.split()[0]}", seen)
        watch.seen.clear()

    random.seed(number)
    one()


def _error_of(target: Target, inputs: Any, seeds: Path, scratch: Path) -> BaseException | None:
    try:
        target.run(inputs, seeds, scratch)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pyo3's panics are no Exception
        return error
    return None


def _note(folder: Path, target: Target, inputs: Any, where: str, words: str) -> None:
    row = {"target": target.name, "where": where, "input": repr(inputs)[:4000], "words": words, "r2seg": __version__}
    with (folder / "found.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _where(error: BaseException) -> str:
    """The error's kind and the last line of ours that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "r2seg_agent" in frame.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


@contextmanager
def _watched(watch: Watch) -> Iterator[None]:
    watch.on = True
    try:
        yield
    finally:
        watch.on = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Readers in C print to the file descriptors."""
    kept = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (null, *kept):
            os.close(descriptor)
