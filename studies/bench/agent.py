"""`make bench-agent`: what the agent adds around its tools, and how soon it speaks. Tables of performance.md.

A step's overhead is the time between the end of one tool and the start of the next, or the start and the end of a turn:
referee, planner, checkpoint, trace, events. The floor is a bare LangGraph graph of three empty nodes with the same
checkpointer, in the same run. First token: from the start of the process to the first words of the answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import Acquisition, LesionSpec, Scanner, make_phantom
from studies.measure import machine_line

MESSAGES = (
    "find a liver lesion",
    "how big is it?",
    "where exactly?",
    "why did you reject the second one?",
    "what about the spleen?",
    "use alpha 0.01",
    "undo that",
    "what did you do so far?",
)
FLOOR_TURNS = 20
FIRST_TOKEN_RUNS = 7


class Overhead(NamedTuple):
    """One step: seconds of wall time and of processor time outside the tools."""

    wall: float
    cpu: float


def step_overheads(folder: Path) -> list[Overhead]:
    """Play `MESSAGES` with the offline planner on a small phantom and measure what lies between the tools."""
    from langchain_core.tools import StructuredTool

    from r2seg_agent.runs.api import open_chat
    from r2seg_agent.runs.options import RunOptions
    from r2seg_agent.tools import ALL_TOOLS

    spacing_mm = (4.0, 4.0, 4.0)
    acquisition = Acquisition(scanner=Scanner(noise_sd=14.0), phase="native", finest_mm=spacing_mm)
    lesion = LesionSpec("liver", 12.0, -70.0)
    phantom = make_phantom(17, spacing_mm=spacing_mm, acquisition=acquisition, lesions=(lesion,))
    write_itk(folder / "ct.nrrd", np.asarray(phantom.volume.array), phantom.volume.geometry)
    write_label_map(folder / "organs.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    options = RunOptions(
        anchors=str(folder / "organs.nii.gz"),
        segmenter="contrast",
        modality="CT",
        workspace=folder / "workspace",
        synthetic=True,
    )
    clock = _Clock()
    for tool in ALL_TOOLS:
        assert isinstance(tool, StructuredTool)
        assert tool.func is not None
        tool.func = clock.around(tool.func)
    with open_chat(str(folder / "ct.nrrd"), options) as session:
        for message in MESSAGES:
            clock.restart()
            for _ in session.say(message):
                pass
            clock.lap()
    return clock.found


class _Clock:
    """Measures what lies outside the wrapped functions."""

    def __init__(self) -> None:
        self.found: list[Overhead] = []
        self.restart()

    def restart(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        self.found.append(Overhead(time.perf_counter() - self._wall, time.process_time() - self._cpu))

    def around(self, function: Any) -> Any:
        """`function`, with what comes before it measured."""
        import functools

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.lap()
            try:
                return function(*args, **kwargs)
            finally:
                self.restart()

        return timed


class _State(TypedDict):
    count: int


def floor(folder: Path) -> list[Overhead]:
    """Turns through three empty nodes of a bare graph, each checkpointed as ours are."""
    import sqlite3

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    def step(state: _State) -> _State:
        return {"count": state["count"] + 1}

    graph = StateGraph(_State)
    for name in ("referee", "planner", "tools"):
        graph.add_node(name, step)
    graph.add_edge(START, "referee")
    graph.add_edge("referee", "planner")
    graph.add_edge("planner", "tools")
    graph.add_edge("tools", END)
    connection = sqlite3.connect(folder / "floor.sqlite", check_same_thread=False)
    compiled = graph.compile(checkpointer=SqliteSaver(connection))
    found = []
    for _ in range(FLOOR_TURNS):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in compiled.stream({"count": 0}, {"configurable": {"thread_id": "1"}}, durability="sync"):
            pass
        found.append(Overhead(time.perf_counter() - wall, time.process_time() - cpu))
    connection.close()
    return found


def first_token(image: Path, workspace: Path) -> tuple[float, float]:
    """Seconds from the start of `r2seg chat` to the first words of its answer: wall, and processor time."""
    command = [sys.executable, "-m", "r2seg_agent", "chat", str(image), "--anchors", "hounsfield"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workspace", str(workspace)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("find the lung nodule\n")
    process.stdin.close()
    asked = False
    for line in process.stdout:
        if asked:
            break
        asked = line.startswith("› find")
    wall = time.perf_counter() - started
    ticks = Path(f"/proc/{process.pid}/stat")
    cpu = sum(map(int, ticks.read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    process.kill()
    process.wait()
    return wall, cpu


def main() -> int:
    """Measure and print the tables."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    print(f"{machine_line()}\n")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        steps, bare = step_overheads(folder), floor(folder)
        lung = fetch("lung1").image
        starts = [first_token(lung, folder / f"chat-{run}") for run in range(FIRST_TOKEN_RUNS)]
    print("| time added around the tools, ms a step | median | 90th percentile | processor time, median | bound |")
    print("|---|---|---|---|---|")
    print(f"| r2seg, {len(steps)} steps of {len(MESSAGES)} turns | {_milliseconds(steps)} | 20 |")
    print(f"| bare LangGraph, three empty nodes | {_milliseconds(bare)} | – |")
    print("\n| from the start of `r2seg chat` to | median s of 7 | least | processor time, median | bound |")
    print("|---|---|---|---|---|")
    walls, cpus = [wall for wall, _ in starts], [cpu for _, cpu in starts]
    print(
        f"| the first words of an offline answer (lung1) | {statistics.median(walls):.2f} | {min(walls):.2f} | "
        f"{statistics.median(cpus):.2f} | 1.5 |"
    )
    return 0


def _milliseconds(steps: Sequence[Overhead]) -> str:
    walls = sorted(1000 * step.wall for step in steps)
    high = walls[min(len(walls) - 1, round(0.9 * len(walls)))]
    cpu = statistics.median(1000 * step.cpu for step in steps)
    return f"{statistics.median(walls):.1f} | {high:.1f} | {cpu:.1f}"


if __name__ == "__main__":
    sys.exit(main())
