"""The arithmetic of each part of the networks, counted by torch from shapes alone (device `meta`), and matmul rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.lite_medsam.model import LiteMedSam

PROMPT = "tumor in liver CT"


class Part(NamedTuple):
    """A part of a network and its products, in GFLOP (a multiplication and an addition are two)."""

    name: str
    gflop: float


def biomedparse_parts(size: int) -> list[Part]:
    """Of the direct algorithms, for one image (size, size) and one prompt."""
    with torch.device("meta"):
        model = BiomedParse().eval().requires_grad_(False)
        image = torch.empty(1, 3, size, size)
    maps = model.backbone_maps(image)
    features = model.decoder_features(maps)[0]
    texts = [model.embed(PROMPT)]
    one, two = _gflop(lambda: model.decode(features, texts)), _gflop(lambda: model.decode(features, texts * 2))
    return [
        Part("encode: backbone", _gflop(lambda: model.backbone_maps(image))),
        Part("encode: pixel decoder", _gflop(lambda: model.decoder_features(maps))),
        Part("text tower, a prompt", _gflop(lambda: model.embed(PROMPT))),
        Part("decode: the first prompt", one),
        Part("decode: each further prompt", two - one),
    ]


def lite_medsam_parts() -> list[Part]:
    """For one image and one box."""
    with torch.device("meta"):
        model = LiteMedSam()
        size = model.config.image_size
        image, box = torch.empty(1, 3, size, size), torch.empty(1, 4)
    embedding = model.encode(image)
    return [
        Part("encode", _gflop(lambda: model.encode(image))),
        Part("decode: a box", _gflop(lambda: model.decode(embedding, box))),
    ]


def _gflop(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def cpu_matmul_rate(side: int = 2048, runs: int = 5) -> float:
    """GFLOP per CPU second of a float32 product of square matrices, the best of some runs."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    times = []
    for _ in range(runs + 1):
        started = time.process_time()
        torch.mm(a, b)
        times.append(time.process_time() - started)
    return 2 * side**3 / min(times) / 1e9


def cuda_matmul_rate(dtype: torch.dtype, side: int = 8192, runs: int = 20) -> float:
    """TFLOP/s of a product of square matrices on the GPU."""
    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        torch.mm(a, b)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(runs):
        torch.mm(a, b)
    torch.cuda.synchronize()
    return 2 * side**3 * runs / (time.perf_counter() - started) / 1e12
