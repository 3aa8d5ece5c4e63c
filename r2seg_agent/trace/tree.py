"""`show`: a run as a tree that one can read, and one step with everything that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from r2seg_agent.errors import RunFailedError
from r2seg_agent.method.models import SearchRound
from r2seg_agent.report.decisions import full_reason
from r2seg_agent.report.format import format_ml, format_score, plural
from r2seg_agent.report.numbers import level_headings, levels_of
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.sentences import points, sentence, who
from r2seg_agent.trace.story import Step, Turn, turns_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

_STYLES = {"user_message": "bold", "answer": "bold green", "question": "bold yellow", "budget": "yellow"}
_WORDS = {
    "user_message": "asked",
    "user_answer": "answered",
    "model_call": "planner",
    "run_started": "started",
    "run_finished": "ended",
}


def run_tree(run: TracedRun) -> Tree:
    """What was asked, planned, tried, rejected and why, step by step with timings."""
    from rich.text import Text
    from rich.tree import Tree

    turns = turns_of(run.events)
    tree = Tree(_headline(run))
    if run.old:
        tree.add(
            Text(
                f"trace of version {run.version}, written by an earlier r2seg: shown as it is",
                style="yellow",
            )
        )
    for turn in turns:
        branch = tree if turn.index == 0 else tree.add(Text(f"turn {turn.index}: {clean(turn.text)}", style="bold"))
        for step in turn.steps:
            if step.head.kind == "user_message":
                continue
            node = branch.add(step_line(step))
            for point in points(step):
                node.add(Text(clean(point), style="dim"))
    if not run.old and run.finished is None:
        tree.add(Text(f"not finished: continue with r2seg resume {run.id}", style="yellow"))
    return tree


def step_line(step: Step) -> Text:
    """One line: number, what, who and why, how long, the result."""
    from rich.text import Text

    kind = step.head.kind
    name = step.head.step if step.is_tool or kind in ("referee", "budget") else _WORDS.get(kind, kind.replace("_", " "))
    style = "red" if step.error else _STYLES.get(kind, "cyan" if step.is_tool else "")
    quiet = kind == "referee" and not step.is_tool
    line = Text.assemble(
        (f"{step.number:>3} ", "dim"), (name, style or "magenta"), "  ", (clean(sentence(step)), "dim" if quiet else "")
    )
    if step.seconds >= 0.0005:
        line.append(f"  {format_seconds(step.seconds)}", style="dim")
    if who(step):
        line.append(f"  [{clean(who(step))}]", style="dim italic")
    return line


def step_view(run: TracedRun, step: Step) -> Group:
    """Everything of one step: its line, its points, every event as JSON, its pictures by file name."""
    from rich.console import Group
    from rich.json import JSON
    from rich.text import Text

    parts: list[Text | JSON | Table] = [step_line(step)]
    parts += [Text(f"      {clean(point)}", style="dim") for point in points(step)]
    round_ = round_of(run, step)
    if round_ is not None:
        parts.append(candidates_table(round_))
    for event in step.events:
        parts.append(Text(f"\n{event.seq} {event.kind} {event.step}  at {format_seconds(event.seconds)}", style="bold"))
        parts.append(JSON(json.dumps(event.data, ensure_ascii=False)))
    parts += [Text(f"picture: {path}", style="green") for path in pictures_of(run, step)]
    return Group(*parts)


def round_of(run: TracedRun, step: Step) -> SearchRound | None:
    """The search round that a step stored; None where it stored none, or it is missing or damaged."""
    sha256 = step.artifacts.get("round")
    if sha256 is None:
        return None
    try:
        return SearchRound.model_validate_json(run.store.json(ArtifactRef(sha256=sha256, kind="json")))
    except (RunFailedError, ValidationError):
        return None


def candidates_table(round_: SearchRound) -> Table:
    """Every candidate of a round with its numbers and the reason."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("candidate", no_wrap=True)
    for heading in ("volume", "score", *level_headings(round_.mode)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for candidate in round_.candidates:
        table.add_row(
            candidate.id,
            format_ml(candidate.features.volume_mm3 / 1000.0),
            format_score(candidate.score),
            *(number.text for number in levels_of(candidate, round_.mode)),
            f"{candidate.decision}: {full_reason(candidate, round_)}",
            style="bold green" if candidate.decision == "survived" else "",
        )
    return table


def pictures_of(run: TracedRun, step: Step) -> tuple[Path, ...]:
    """The picture files of a step: slices it drew, or the run's overlay where it wrote the results."""
    found = [run.store.path(sha256, ".png") for role, sha256 in step.artifacts.items() if role == "picture"]
    if step.head.kind == "run_finished" and "overlay.png" in (run.finished.files if run.finished else ()):
        found.append(run.folder.path / "overlay.png")
    return tuple(path for path in found if path.is_file())


def clean(text: str) -> str:
    """`text` without control characters: words of a user or a model must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def format_seconds(seconds: float) -> str:
    """ "340 ms", "4.2 s", "3 min 05 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _headline(run: TracedRun) -> Text:
    from rich.text import Text

    finished = run.finished if not run.old else None
    outcome = (
        finished.outcome.replace("_", " ") if finished else (run.record.status if run.record else "earlier version")
    )
    turns: list[Turn] = turns_of(run.events)
    steps = sum(step.is_tool for turn in turns for step in turn.steps)
    seconds = run.events[-1].seconds if run.events else 0.0
    kind = run.record.kind if run.record else "find"
    return Text.assemble(
        (f"run {run.id}", "bold"), f"  {kind}  ", (outcome, "bold green" if finished else "bold yellow"),
        (f"  {plural(steps, 'tool call')}, {format_seconds(seconds)}", "dim"),
    )  # fmt: skip
