"""`r2seg trace`: what runs did: list, show, diff, verify, replay, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="What runs did: list, show, compare, verify, replay and export their traces."
)

Run = Annotated[str, typer.Argument(help="A run's id or its beginning; `r2seg trace list` shows them.", metavar="RUN")]
Workspace = Annotated[Path, typer.Option("--workspace", "-w", help="Folder for cached steps and runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WORKSPACE = Path(".r2seg")


@app.command("list")
def list_command(workspace: Workspace = WORKSPACE, as_json: AsJson = False) -> None:
    """List the runs of a workspace, newest first: request, outcome, duration."""
    from r2seg_agent.cli._trace_print import print_runs

    print_runs(workspace, as_json=as_json)


@app.command("show")
def show_command(
    run: Run,
    workspace: Workspace = WORKSPACE,
    step: Annotated[
        int | None, typer.Option("--step", "-n", min=1, help="Everything of one step, with its pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run as a tree: what was asked, planned, tried, rejected and why, with timings."""
    from r2seg_agent.cli._trace_print import print_run

    print_run(workspace, run, step=step, as_json=as_json)


@app.command("diff")
def diff_command(first: Run, second: Run, workspace: Workspace = WORKSPACE, as_json: AsJson = False) -> None:
    """Compare two runs: settings, plans, decisions, the first differing event, files."""
    from r2seg_agent.cli._trace_print import print_diff

    print_diff(workspace, first, second, as_json=as_json)


@app.command("verify")
def verify_command(run: Run, workspace: Workspace = WORKSPACE, as_json: AsJson = False) -> None:
    """Check hashes of artifacts and files, and derive p- and q-values again. Exit status 5 when something differs."""
    from r2seg_agent.cli._trace_print import print_checks

    raise typer.Exit(0 if print_checks(workspace, run, as_json=as_json) else 5)


@app.command("replay")
def replay_command(
    run: Run,
    image: Annotated[str | None, typer.Option("--image", "-i", help="The run's scan, where it has moved.")] = None,
    workspace: Workspace = WORKSPACE,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Run it again without a model call, in a fresh workspace. Exit status 5 unless every byte is the same."""
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.cli._trace_print import print_replay
    from r2seg_agent.runs.replay import replay_run
    from r2seg_agent.trace.run import open_run

    with terminal_progress(enabled=not quiet and not as_json) as progress:
        found = replay_run(open_run(workspace, run), image, progress)
    raise typer.Exit(0 if print_replay(found, as_json=as_json) else 5)


@app.command("export")
def export_command(
    run: Run,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one self-contained page here.", metavar="FILE")
    ] = None,
    otel: Annotated[
        Path | None, typer.Option("--otel", help="Write OpenInference spans (OTLP JSON) here.", metavar="FILE")
    ] = None,
    otel_endpoint: Annotated[
        str | None, typer.Option("--otel-endpoint", help="Send them to this OTLP server.", metavar="URL")
    ] = None,
    workspace: Workspace = WORKSPACE,
) -> None:
    """Export a run: a page for people, spans for Phoenix and MLflow. Nothing is sent unless you say where."""
    from r2seg_agent.cli._trace_print import export_run

    export_run(workspace, run, html=html, otel=otel, endpoint=otel_endpoint)
