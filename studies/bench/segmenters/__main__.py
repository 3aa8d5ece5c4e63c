"""Run the benchmarks that this machine can run, and print their tables as Markdown."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from studies.bench.segmenters import cpu, cuda
from studies.bench.segmenters.made_up import write_made_up_weights
from studies.measure import machine_line

PARTS = ("cuda", "biomedparse", "biomedparse-bfloat16", "lite-medsam")


def main() -> int:
    """Parse the arguments, measure, print; with `--out` into a file too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to run (default: all that can run here)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        cpu.child(*chosen.child)
        return 0
    if chosen.only and "cuda" in chosen.only and not torch.cuda.is_available():
        parser.error("`--only cuda` needs a GPU that torch can use, and there is none")
    wanted = chosen.only or [part for part in PARTS if part != "cuda" or torch.cuda.is_available()]
    lines: list[str] = []
    for line in _all(wanted):
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _all(wanted: list[str]) -> Iterator[str]:
    yield machine_line()
    if "cuda" in wanted:
        yield from ("", "### BiomedParse on a GPU, 1024² slices, made-up weights", "")
        yield from cuda.tables()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "biomedparse_v1.pt"
        for part, precision in (("biomedparse", "float32"), ("biomedparse-bfloat16", "bfloat16")):
            if part in wanted:
                if not weights.exists():
                    write_made_up_weights(weights)
                yield from ("", f"### BiomedParse on CPU, one 1024² slice, {precision} encoder, made-up weights", "")
                yield from cpu.biomedparse_table(weights, precision)
    if "lite-medsam" in wanted:
        yield from ("", "### LiteMedSAM on CPU, one slice", "")
        yield from cpu.lite_medsam_table()


if __name__ == "__main__":
    sys.exit(main())
