"""What `r2seg trace` prints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from r2seg_agent.cli._text import printable
from r2seg_agent.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from r2seg_agent.runs.replay import Replayed
    from r2seg_agent.trace.diff import Change, RunDiff


def print_runs(workspace: Path, *, as_json: bool) -> None:
    """`list`."""
    from rich.table import Table
    from rich.text import Text

    from r2seg_agent.store.runs import list_runs
    from r2seg_agent.trace.run import glance, old_runs
    from r2seg_agent.trace.tree import format_seconds

    runs, old = list_runs(workspace), old_runs(workspace)
    seen = {run.id: glance(workspace, run) for run in runs}
    if as_json:
        rows = [run.model_dump(mode="json") | {"request": seen[run.id][0], "seconds": seen[run.id][1]} for run in runs]
        _print_json({"runs": rows, "earlier_versions": list(old)})
        return
    console = _console()
    if not runs and not old:
        console.print(Text(f"No runs in {workspace}. `r2seg find` makes one; --workspace names another folder."))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    narrow = console.width < NARROW
    for heading in ("run", "when (UTC)", "kind"):
        table.add_column(heading, no_wrap=True)
    table.add_column("request", min_width=10, overflow="fold")
    table.add_column("outcome", no_wrap=True)
    table.add_column("found" if narrow else "findings", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for run in runs:
        outcome = run.outcome.replace("_", " ") if run.outcome and run.status == "finished" else run.status
        cells = (
            run.id,
            run.created[5 if narrow else 0 : 16].replace("T", " "),
            run.kind + (" (fork)" if run.parent else ""),
            printable(seen[run.id][0]),
            outcome,
            str(run.findings) if run.status == "finished" else "",
            format_seconds(seen[run.id][1]),
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if old:
        console.print(Text(f"Of an earlier r2seg (only `show` reads them): {', '.join(old)}", style="dim"))


def print_run(workspace: Path, name: str, *, step: int | None, as_json: bool) -> None:
    """`show`, of a run or of one of its steps."""
    from r2seg_agent.trace.run import open_run
    from r2seg_agent.trace.story import step_at, turns_of
    from r2seg_agent.trace.tree import pictures_of, run_tree, step_view

    run = open_run(workspace, name)
    events = run.events
    console = _console()
    if step is None:
        if as_json:
            _print_json({"run": run.id, "events": [event.model_dump(mode="json") for event in events]})
        else:
            console.print(run_tree(run))
        return
    found = step_at(turns_of(events), step)
    if found is None:
        raise InputError(f"run `{run.id}` has no step {step}", f"Steps are numbered 1 to {len(events)}.")
    if as_json:
        files = [str(path) for path in pictures_of(run, found)]
        _print_json({"events": [event.model_dump(mode="json") for event in found.events], "pictures": files})
        return
    console.print(step_view(run, found))
    for path in pictures_of(run, found):
        _show_picture(console, path)


def print_diff(workspace: Path, first: str, second: str, *, as_json: bool) -> None:
    """`diff`."""
    from rich.text import Text

    from r2seg_agent.trace.diff import diff_runs
    from r2seg_agent.trace.run import open_run

    runs = open_run(workspace, first), open_run(workspace, second)
    found = diff_runs(*runs)
    if as_json:
        sections = {key: [change._asdict() for change in getattr(found, key)] for key in _SECTIONS}
        events = [None if event is None else event.model_dump(mode="json") for event in found.events]
        _print_json({"same": found.same, **sections, "first_difference": found.position, "events": events})
        return
    console = _console()
    if found.same:
        console.print(Text(f"{runs[0].id} and {runs[1].id} are the same, times and names apart.", style="bold green"))
        return
    for key, title in _SECTIONS.items():
        _print_changes(console, title, getattr(found, key), runs[0].id, runs[1].id)
    _print_first_event(console, found, runs[0].id, runs[1].id)


def print_checks(workspace: Path, name: str, *, as_json: bool) -> bool:
    """`verify`; True where every check passed."""
    from rich.text import Text

    from r2seg_agent.trace.run import open_run
    from r2seg_agent.trace.verify import verify_run

    run = open_run(workspace, name)
    checks = verify_run(run)
    passed = all(check.passed for check in checks)
    if as_json:
        _print_json({"run": run.id, "passed": passed, "checks": [asdict(check) for check in checks]})
        return passed
    console = _console()
    for check in checks:
        mark = ("✓", "green") if check.passed else ("✗", "bold red")
        console.print(Text.assemble(mark, f" {check.name}", (f"  {check.count} checked", "dim")))
        for problem in check.problems:
            console.print(Text(f"    {problem}", style="red"))
    if not passed:
        console.print(Text(f"Run {run.id} is not what its trace says.", style="bold red"))
    elif run.finished is None:
        console.print(Text(f"Run {run.id} is not finished; what there is of it agrees.", style="bold yellow"))
    else:
        console.print(Text(f"Run {run.id} is what its trace says.", style="bold green"))
    return passed


def print_replay(found: Replayed, *, as_json: bool) -> bool:
    """`replay`; True where every event and file is the same."""
    from rich.text import Text

    if as_json:
        _print_json({"same": found.same, **asdict(found)})
        return found.same
    console = _console()
    for difference in found.differences:
        console.print(Text(f"✗ {printable(difference)}", style="red"))
    for note in found.notes:
        console.print(Text(f"! {printable(note)}", style="yellow"))
    if found.differences and found.files and not found.changed_files:
        console.print(Text(f"All {found.files} files are the same byte for byte.", style="dim"))
    if found.same:
        files = f", {found.files} files byte for byte" if found.files else " as far as the run went"
        text = f"The same: {found.events} events{files}, no model called."
        console.print(Text(text, style="bold green"))
    return found.same


def export_run(workspace: Path, name: str, *, html: Path | None, otel: Path | None, endpoint: str | None) -> None:
    """`export`: says what was written or sent where."""
    from r2seg_agent.trace.run import open_run

    if html is None and otel is None and endpoint is None:
        raise InputError("nothing to export", "Give --html FILE, --otel FILE or --otel-endpoint URL.")
    run = open_run(workspace, name)
    if html is not None:
        from r2seg_agent.trace.html import write_page

        write_page(run, html)
        typer.echo(f"{html}: {html.stat().st_size / 1e6:.1f} MB, opens offline in any browser")
    if otel is not None or endpoint is not None:
        from r2seg_agent.trace.otel import send_spans, write_spans

        if otel is not None:
            typer.echo(f"{otel}: {write_spans(run, otel)} spans")
        if endpoint is not None:
            typer.echo(f"{send_spans(run, endpoint)} spans sent")


_SECTIONS = {"settings": "Settings", "plans": "Plans", "decisions": "Decisions", "files": "Files"}
NARROW = 96
"""Columns below which `list` leaves out the year."""
MAX_CHANGES = 40
"""Rows of one section; `--json` has all."""


def _print_changes(console: Console, title: str, changes: tuple[Change, ...], first: str, second: str) -> None:
    from rich.table import Table
    from rich.text import Text

    if not changes:
        console.print(Text(f"{title}: the same", style="dim"))
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for heading in ("what", first, second):
        table.add_column(heading, overflow="fold")
    for change in changes[:MAX_CHANGES]:
        table.add_row(*(Text(printable(cell)) for cell in change))
    if len(changes) > MAX_CHANGES:
        table.caption = f"and {len(changes) - MAX_CHANGES} more (--json)"
    console.print(table)


def _print_first_event(console: Console, found: RunDiff, first: str, second: str) -> None:
    from rich.text import Text

    from r2seg_agent.trace.diff import changed_fields, describe

    if found.position is None:
        console.print(Text("Events: the same", style="dim"))
        return
    console.print(Text(f"First differing event: {found.position}", style="bold"))
    a, b = found.events
    for run, event in ((first, a), (second, b)):
        console.print(Text(f"  {run}: {printable(describe(event))}"))
    if a is not None and b is not None:
        for change in changed_fields(a, b)[:8]:
            console.print(Text(printable(f"    {change.name}: {change.first} | {change.second}"), style="dim"))


def _show_picture(console: Console, path: Path) -> None:
    from r2seg_agent.cli._picture import Pictures, choose_pictures, print_picture

    how = choose_pictures(Pictures.auto, console, os.environ)
    if how is not Pictures.name:
        print_picture(path, "", console, how)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _print_json(value: Mapping[str, object]) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
