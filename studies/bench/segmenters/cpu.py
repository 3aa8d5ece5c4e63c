"""CPU: seconds of processor time and peak memory, each case in a fresh process."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from studies.bench.segmenters.flops import (
    Part,
    biomedparse_parts,
    cpu_matmul_rate,
    lite_medsam_parts,
)
from studies.bench.segmenters.made_up import PROMPTS, SIZE, made_up_slices
from studies.measure import run_measured

MODULE = "studies.bench.segmenters"
N_PROMPTS = (1, 5, 20)
LITE_MEDSAM_RUNS = 3


class Case(NamedTuple):
    """What a child measured: CPU seconds; `rate` in GFLOP per CPU second, taken just before and after."""

    encode: float
    decode: float
    rate: float
    peak_gb: float = 0.0
    cold_s: float = 0.0


def biomedparse_table(weights: Path, precision: str) -> Iterator[str]:
    """Lines of the tables of one precision."""
    cases = {n: _child("biomedparse", str(weights), str(n), precision) for n in N_PROMPTS}
    yield "| prompts | encode CPU-s | decode CPU-s | each further prompt CPU-s | cold start to masks s | peak GB |"
    yield "|---|---|---|---|---|---|"
    one = cases[1]
    for n, case in cases.items():
        further = f"{(case.decode - one.decode) / (n - 1):.2f}" if n > 1 else "–"
        yield f"| {n} | {case.encode:.1f} | {case.decode:.2f} | {further} | {case.cold_s:.1f} | {case.peak_gb:.2f} |"
    parts = biomedparse_parts(SIZE)
    encode = sum(part.gflop for part in parts if part.name.startswith("encode"))
    best = min(cases.values(), key=lambda case: case.encode / case.rate)
    yield ""
    yield from parts_table(parts, best.rate)
    yield ""
    yield (
        f"The whole encoder needs {encode:.0f} GFLOP by the direct algorithms: {encode / best.rate:.1f} CPU-s at the "
        f"measured float32 rate of {best.rate:.0f} GFLOP per CPU second. It took {best.encode:.1f} CPU-s, "
        f"{encode / best.encode / best.rate:.0%} of that rate."
    )


def lite_medsam_table() -> Iterator[str]:
    """Lines of the table of LiteMedSAM."""
    case = _child("lite-medsam")
    parts = lite_medsam_parts()
    yield "| | CPU-s | share of the matmul rate |"
    yield "|---|---|---|"
    for part, seconds in zip(parts, (case.encode, case.decode), strict=True):
        yield f"| {part.name} | {seconds:.2f} | {part.gflop / seconds / case.rate:.0%} |"
    yield ""
    yield f"Peak memory {case.peak_gb:.2f} GB."
    yield ""
    yield from parts_table(parts, case.rate)


def parts_table(parts: list[Part], rate: float) -> Iterator[str]:
    """GFLOP per part, and the seconds that the measured matmul rate would need for them."""
    yield "| part | GFLOP | CPU-s at the matmul rate |"
    yield "|---|---|---|"
    for part in parts:
        yield f"| {part.name} | {part.gflop:.1f} | {part.gflop / rate:.2f} |"


def _child(*arguments: str) -> Case:
    # Threads that wait for others must not count as work where the machine has other things to do.
    done = run_measured(
        [sys.executable, "-m", MODULE, "--child", *arguments], environment={"OMP_WAIT_POLICY": "passive"}
    )
    if done.status != 0:
        raise SystemExit(f"the measured process failed:\n{done.output}")
    case = Case(**json.loads(done.output.strip().splitlines()[-1]))
    return case._replace(peak_gb=done.peak_gb)


def child(kind: str, *arguments: str) -> None:
    """Measure one case in this process and print it as JSON."""
    case = _biomedparse(Path(arguments[0]), int(arguments[1]), arguments[2]) if arguments else _lite_medsam()
    assert kind in ("biomedparse", "lite-medsam")
    print(json.dumps(case._asdict()))


def _biomedparse(weights: Path, n_prompts: int, precision: str) -> Case:
    from r2seg_agent.segment.biomedparse.runner import Runner
    from r2seg_agent.segment.biomedparse.weights import load

    assert precision in ("float32", "bfloat16")
    runner = Runner(load(weights).model, torch.device("cpu"), "bfloat16" if precision == "bfloat16" else "float32")
    started = time.process_time()
    features = runner.encode(list(made_up_slices(1)))[0]
    encoded = time.process_time()
    logits = runner.logits(features, [runner.embed(prompt) for prompt in PROMPTS[:n_prompts]])
    decoded = time.process_time()
    assert logits.isfinite().all()
    cold_s = time.time() - _process_start()
    return Case(encoded - started, decoded - encoded, cpu_matmul_rate(), cold_s=cold_s)


def _lite_medsam() -> Case:
    from r2seg_agent.segment.lite_medsam.model import LiteMedSam

    torch.manual_seed(0)
    model = LiteMedSam().fold()
    size = model.config.image_size
    image, box = torch.rand(1, 3, size, size), torch.tensor([[60.0, 60.0, 120.0, 140.0]])
    encode, decode = [], []
    for _ in range(LITE_MEDSAM_RUNS):
        started = time.process_time()
        embedding = model.encode(image)
        encoded = time.process_time()
        model.decode(embedding, box)
        encode.append(encoded - started)
        decode.append(time.process_time() - encoded)
    return Case(min(encode), min(decode), cpu_matmul_rate())


def _process_start() -> float:
    """When this process began, in seconds since the epoch: the interpreter and its imports count."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        # Elsewhere: processor time is the nearest that the standard library tells.
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.time() - usage.ru_utime - usage.ru_stime
    import os

    ticks = int(stat.read_text().rsplit(")", 1)[1].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return float(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
