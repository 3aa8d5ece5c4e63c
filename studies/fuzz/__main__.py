"""`python -m studies.fuzz`: damaged inputs through every entrance; a Markdown table of what came of them.

Exit status 1 where anything but an error of r2seg's own came, an input took longer than `HANG_S`, something was written
outside the work folder, or a process grew by more than `--grown-mb`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HANG_S = 10.0
"""An input that takes more CPU seconds hangs."""
ASLEEP_S = 120.0
"""So does one that takes so many seconds by the clock: it waits for something."""


def main() -> int:
    """Run the targets, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all")
    parser.add_argument("--seconds", type=float, default=1500.0, help="time limit in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--grown-mb", type=float, default=1000.0, help="what a process may grow by")
    parser.add_argument("--only", default="", help="targets whose names hold this")
    parser.add_argument("--keep", type=Path, help="folder for work and failures; kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r2seg-fuzz-") as scratch:
        return _run(args, args.keep or Path(scratch))


def _run(args: argparse.Namespace, folder: Path) -> int:
    from studies.fuzz.targets import TARGETS

    os.environ.update(
        {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home"), "MPLCONFIGDIR": str(folder / "home"),
         "TOTALSEG_HOME_DIR": str(folder / "home"), "OMP_NUM_THREADS": "1", "R2SEG_SETTINGS": str(folder / "none.toml")}
    )  # fmt: skip
    (folder / "home").mkdir(parents=True, exist_ok=True)
    for write in {target.prepare for target in TARGETS}:
        write(folder / write.__name__)  # once, here: a forked process finds modules and whole files ready
    started, until = time.time(), time.time() + args.seconds
    waiting = [target for target in TARGETS if args.only in target.name]
    total = sum(target.share for target in waiting)
    order = [target.name for target in waiting]
    running: dict[str, _Worker] = {}
    rows: dict[str, dict[str, Any]] = {}
    wanted = {target.name: max(1, round(args.inputs * target.share / total)) for target in waiting}
    each_s = args.seconds * args.workers / len(waiting)
    while order or running:
        while order and len(running) < args.workers:
            name = order.pop(0)
            running[name] = _Worker(name, folder / "runs" / _plain(name), args.seed, wanted[name], each_s, until)
        for name, worker in list(running.items()):
            if worker.done():
                rows[name] = worker.row
                del running[name]
        time.sleep(0.1)
    return _report([rows[target.name] for target in waiting], time.time() - started, args.grown_mb, folder)


def _plain(name: str) -> str:
    """A folder's name for a target."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


class _Worker:
    """One target's process, watched from outside: one that hangs or dies is started again with the next seed."""

    def __init__(self, name: str, folder: Path, seed: int, wanted: int, seconds: float, until: float) -> None:
        self.name, self.folder, self.seed, self.wanted, self.seconds = name, folder, seed, wanted, seconds
        self.until = until
        self.row: dict[str, Any] = {"target": name, "hangs": 0, "deaths": 0}
        folder.mkdir(parents=True, exist_ok=True)
        self._earlier: list[dict[str, Any]] = []
        self._start()

    def _start(self) -> None:
        from studies.fuzz.work import work

        for name in ("current.json", "counts.json"):
            (self.folder / name).unlink(missing_ok=True)
        self._began = time.time()
        done = sum(counts["inputs"] for counts in self._earlier)
        end = min(self.until, self._began + self.seconds)
        self._process = multiprocessing.get_context("fork").Process(
            target=work, args=(self.name, self.folder, self.seed * 1000, self.wanted - done, end)
        )
        self._process.start()

    def done(self) -> bool:
        """True once all its inputs were given, or its time is over."""
        if self._process.is_alive():
            began, cpu_s, inputs = self._began, 0.0, "before the first"
            with suppress(FileNotFoundError):
                began, cpu_s, inputs = json.loads((self.folder / "current.json").read_text())
            if time.time() - began <= ASLEEP_S and self._cpu_s() - cpu_s <= HANG_S:
                return False
            self._process.kill()
            self._process.join()
            return self._again("hangs", inputs)
        self._process.join()
        if self._process.exitcode != 0:
            current = self.folder / "current.json"
            inputs = json.loads(current.read_text())[2] if current.exists() else "at the start"
            return self._again("deaths", inputs)
        self._earlier.append(self._counts())
        self._sum()
        return True

    def _cpu_s(self) -> float:
        """CPU seconds of the process so far, where the system tells them (Linux), else 0."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _again(self, what: str, inputs: str) -> bool:
        self.row[what] += 1
        row = {"target": self.name, "where": what, "input": inputs, "words": f"exit code {self._process.exitcode}"}
        with (self.folder / "found.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._earlier.append(self._counts())
        self.seed += 1
        if self.row[what] >= 3 or time.time() >= self.until:
            self._sum()
            return True
        self._start()
        return False

    def _counts(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "counts.json").read_text())
        except (OSError, ValueError):
            found = {
                "inputs": 0,
                "refused": 0,
                "accepted": 0,
                "failed": 0,
                "slowest_s": 0.0,
                "base_mb": 0,
                "peak_mb": 0,
            }
        return found

    def _sum(self) -> None:
        for key in ("inputs", "refused", "accepted", "failed"):
            self.row[key] = sum(counts[key] for counts in self._earlier)
        self.row["slowest_s"] = max(counts["slowest_s"] for counts in self._earlier)
        self.row["peak_mb"] = max(counts.get("peak_mb", 0.0) for counts in self._earlier)
        self.row["grown_mb"] = max(counts.get("peak_mb", 0.0) - counts["base_mb"] for counts in self._earlier)


def _report(rows: list[dict[str, Any]], seconds: float, grown_mb: float, folder: Path) -> int:
    print("| entrance | inputs | refused | accepted | failures | hangs | deaths | slowest | peak | grown by |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['target']} | {row['inputs']} | {row['refused']} | {row['accepted']} | {row['failed']} "
            f"| {row['hangs']} | {row['deaths']} | {row['slowest_s']:.1f} s | {row['peak_mb']:.0f} MB "
            f"| {row['grown_mb']:.0f} MB |"
        )
    bad = sum(row["failed"] + row["hangs"] + row["deaths"] for row in rows)
    fat = [row["target"] for row in rows if row["grown_mb"] > grown_mb]
    print(f"\n{sum(row['inputs'] for row in rows)} inputs in {seconds:.0f} s, {bad} failures.")
    shown: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("runs/*/found.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            shown.setdefault(f"{found['target']}: {found['where']}", found)
    for where, found in shown.items():
        print(f"\n{where}\ninput: {found['input'][:1500]}\n{found['words'][-1500:]}", file=sys.stderr)
    for name in fat:
        print(f"{name}: grew by more than {grown_mb:g} MB", file=sys.stderr)
    return int(bool(bad or fat or shown))


if __name__ == "__main__":
    sys.exit(main())
