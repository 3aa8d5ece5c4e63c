"""`r2seg doctor`: what this machine has, and for each missing part the command that gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Look at these only, as `--segmenter` takes them: nnunet:PATH, bundle:PATH, totalseg:TASK."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List segmenters, anchor sources, weights, devices and optional parts; say how to get what is missing."""
    from r2seg_agent.doctor import examine

    parts = examine(models or ())
    if as_json:
        import json

        typer.echo(json.dumps([part.model_dump(mode="json") for part in parts], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table("", "part", "kind", "what it is", "to get it", box=None, header_style="bold")
    for part in parts:
        mark = Text("✓", style="green") if part.ready else Text("–", style="yellow")
        table.add_row(mark, part.name, part.kind, part.detail, Text(part.fix, style="dim"))
    console.print(table)
    console.print(Text(f"Workspace: {Path('.r2seg')}  ·  Research software, not a medical device.", style="dim"))
