"""CUDA: slices per second by batch and precision, share of the matmul rate, memory, and masks against float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.segment.biomedparse.runner import Precision, Runner
from studies.bench.segmenters.flops import biomedparse_parts, cuda_matmul_rate
from studies.bench.segmenters.made_up import PROMPTS, SIZE, made_up_biomedparse, made_up_slices

BATCHES = (1, 2, 4, 8, 16)
SECONDS = 3.0
LEAST_IOU = 0.995
IOU_SLICES = 4
IOU_PROMPTS = 4


class Mode(NamedTuple):
    """How the encoder runs."""

    precision: Precision
    compiled: bool

    def __str__(self) -> str:
        return self.precision + (", compiled" if self.compiled else "")


MODES = (
    Mode("float32", False),
    Mode("tensorfloat32", False),
    Mode("bfloat16", False),
    Mode("float16", False),
    Mode("tensorfloat32", True),
    Mode("bfloat16", True),
    Mode("float16", True),
)


def tables(slices_per_batch: tuple[int, ...] = BATCHES, size: int = SIZE) -> Iterator[str]:
    """All lines; the encoder alone, and with one prompt decoded per slice."""
    cuda = torch.device("cuda")
    parts = biomedparse_parts(size)
    encode = sum(part.gflop for part in parts if part.name.startswith("encode")) / 1e3
    bf16, fp32 = cuda_matmul_rate(torch.bfloat16), cuda_matmul_rate(torch.float32)
    yield f"{torch.cuda.get_device_name()}: measured matmul rate {bf16:.0f} TFLOP/s bf16, {fp32:.1f} float32;"
    yield f"one slice is {encode:.2f} TFLOP to encode."
    yield ""
    yield "| mode | slices at once | encode slices/s | share of bf16 rate | with one prompt slices/s | peak GB |"
    yield "|---|---|---|---|---|---|"
    model = made_up_biomedparse().to("cuda")
    images = made_up_slices(max(slices_per_batch), size)
    exact: list[NDArray[np.bool_]] = []
    agreements: list[str] = []
    for mode in MODES:
        # Compiled modes come last: compiling is in place.
        runner = Runner(model, cuda, mode.precision, compiled=mode.compiled, slices_at_once=max(slices_per_batch))
        for batch in slices_per_batch:
            yield _row(runner, mode, images[:batch], encode, bf16)
        masks = list(_masks(runner, images[:IOU_SLICES]))
        exact = exact or masks
        agreements.append(_agreement(mode, exact, masks))
        torch.cuda.empty_cache()
    yield ""
    yield (
        f"Masks against float32, {IOU_SLICES} slices × {IOU_PROMPTS} prompts. With made-up weights masks are "
        "speckles, all border: the hardest case."
    )
    yield ""
    yield f"| mode | mean IoU | least IoU | mean at least {LEAST_IOU} |"
    yield "|---|---|---|---|"
    yield from agreements


def _row(runner: Runner, mode: Mode, images: NDArray[np.uint8], tflop: float, rate: float) -> str:
    batch = len(images)
    greys = list(images)
    text = runner.embed(PROMPTS[0])
    torch.cuda.reset_peak_memory_stats()
    encode = _per_second(batch, lambda: runner.encode(greys))
    both = _per_second(batch, lambda: [runner.logits(features, [text]) for features in runner.encode(greys)])
    peak = torch.cuda.max_memory_allocated() / 1e9
    # What did not fit was halved.
    fitted = f"{batch}" if runner.slices_at_once >= batch else f"{batch}, as {runner.slices_at_once}"
    return f"| {mode} | {fitted} | {encode:.1f} | {encode * tflop / rate:.0%} | {both:.1f} | {peak:.1f} |"


def _per_second(count: int, work: Callable[[], object]) -> float:
    """`count` per run of `work`, over about `SECONDS`, after two runs that do not count."""
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        work()
        torch.cuda.synchronize()
        runs += 1
    return count * runs / (time.perf_counter() - started)


def _masks(runner: Runner, images: NDArray[np.uint8]) -> Iterator[NDArray[np.bool_]]:
    texts = [runner.embed(prompt) for prompt in PROMPTS[:IOU_PROMPTS]]
    for features in runner.encode(list(images)):
        yield (runner.logits(features, texts) > 0).cpu().numpy()


def _agreement(mode: Mode, exact: list[NDArray[np.bool_]], masks: list[NDArray[np.bool_]]) -> str:
    ious = [
        float((a & b).sum() / max(1, (a | b).sum()))
        for item, other in zip(exact, masks, strict=True)
        for a, b in zip(item, other, strict=True)
    ]
    verdict = "yes" if np.mean(ious) >= LEAST_IOU else "**no**"
    return f"| {mode} | {np.mean(ious):.4f} | {min(ious):.4f} | {verdict} |"
