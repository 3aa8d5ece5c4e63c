"""`r2seg models`: released lesion models by name: list, read about, fetch, remove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli._run_command import GroupedCommand

if TYPE_CHECKING:
    from r2seg_agent.segment.catalogue.entries import Entry
    from r2seg_agent.segment.weights import WeightsInfo

app = typer.Typer(
    no_args_is_help=True, help="Released models: list them, fetch them for `--segmenter NAME`, remove them."
)

Name = Annotated[str, typer.Argument(help="A name from `r2seg models list`.", metavar="NAME")]
BUILT_IN = "built in; `r2seg weights` gets its weights"


@app.command("list", cls=GroupedCommand)
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models: what each finds, its size and licence, and whether it is here."""
    from r2seg_agent.segment.catalogue.entries import catalogue
    from r2seg_agent.segment.catalogue.store import state_of
    from r2seg_agent.segment.weights import list_weights, weights_path

    if as_json:
        import json

        rows: dict[str, object] = {
            entry.name: entry.model_dump(mode="json") | {"state": state_of(entry) if entry.fetched else "not fetched"}
            for entry in catalogue().entries
        }
        for info in list_weights():
            state = "absent" if weights_path(info.name) is None else "ready"
            rows[info.name] = info.model_dump(mode="json") | {"kind": "built in", "state": state}
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("what it finds")
    for column in ("size", "licence", "here"):
        table.add_column(column, no_wrap=True)
    for info in list_weights():
        here = "no" if weights_path(info.name) is None else "yes"
        finds, size = info.about.split(", ")[1], info.size.removeprefix("about ")
        table.add_row(info.name, finds, size, _short_licence(info.licence), here)
    marks = {"ready": "yes", "incomplete": "in part", "absent": "no"}
    for entry in catalogue().entries:
        here = marks[state_of(entry)] if entry.fetched else "–"
        table.add_row(entry.name, entry.about, entry.size, _short_licence(entry.licence), here)
    console = Console(highlight=False)
    console.print(table)
    console.print("–: not run by r2seg itself. `r2seg models info NAME` tells more about each.", style="dim")


@app.command("info", cls=GroupedCommand)
def info_command(name: Name) -> None:
    """Say what a model finds, its licence, where it comes from, how to use it and what is unproven."""
    from r2seg_agent.segment.weights import WEIGHTS

    if name in WEIGHTS:
        _print_built_in(WEIGHTS[name])
        return
    from r2seg_agent.segment.catalogue.entries import entry_named

    _print_entry(entry_named(name))


@app.command("fetch", cls=GroupedCommand)
def fetch_command(
    name: Name,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="A folder with the files, or the address of a mirror.", metavar="FOLDER|URL"),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="Accept this licence, by its name. A terminal asks.", metavar="LICENCE"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the folders.")] = False,
) -> None:
    """Fetch a model into the cache, check it, and say how to use it.

    What was cut off is continued. What is in the cache needs no network.
    """
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.errors import BudgetError
    from r2seg_agent.segment.catalogue.fetch import fetch_model, fetchable

    _check_not_built_in(name, "fetch")
    entry = fetchable(name)
    accepted = accept or []
    if not quiet:
        terms = f"\n{entry.terms}" if entry.terms else ""
        typer.echo(f"{name}: {entry.about}\n{entry.size}, licence {entry.licence}, from {entry.page}{terms}", err=True)
    if entry.must_accept and not accepted:
        accepted = _ask_licence(entry)
    try:
        with terminal_progress(enabled=not quiet) as progress:
            done = fetch_model(name, origin=origin, accepted=accepted, progress=progress)
    except KeyboardInterrupt as error:
        raise BudgetError(
            f"the download of `{name}` is stopped; what has arrived is kept",
            f"`r2seg models fetch {name}` continues from there, `r2seg models remove {name}` deletes it.",
        ) from error
    for folder in done.folders:
        typer.echo(str(folder))
    if not quiet:
        typer.echo(
            f"{'Fetched and checked' if done.new else 'Already here, unchanged'}. Use it: {_use(entry)}", err=True
        )
        typer.echo(f"Unproven: {entry.unproven}", err=True)


@app.command("remove", cls=GroupedCommand)
def remove_command(
    name: Name,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget its pinned hashes too: the next fetch may bring other bytes.")
    ] = False,
) -> None:
    """Delete a fetched model and unfinished downloads of it, and say how much space that frees."""
    from r2seg_agent.segment.catalogue.entries import entry_named
    from r2seg_agent.segment.catalogue.store import remove_entry

    _check_not_built_in(name, "remove")
    done = remove_entry(entry_named(name), forget=forget)
    typer.echo(f"{name}: {done.freed_bytes / 1e6:.1f} MB are free again")
    for kept in done.kept:
        typer.echo(f"stays: {kept}")


def _short_licence(licence: str) -> str:
    """Without the remarks behind its name."""
    return licence.partition(" (")[0]


def _check_not_built_in(name: str, verb: str) -> None:
    from r2seg_agent.errors import InputError
    from r2seg_agent.segment.weights import WEIGHTS, how_to_get, weights_path

    if name not in WEIGHTS:
        return
    path = weights_path(name)
    hint = how_to_get(WEIGHTS[name]) if verb == "fetch" else f"Delete the file: {path or 'it is not here'}."
    raise InputError(f"`{name}` is part of r2seg; `r2seg weights` manages its weights", hint)


def _ask_licence(entry: Entry) -> list[str]:
    """The licence that the person at the terminal types; none where nobody can be asked."""
    from r2seg_agent.cli._ask import can_ask

    if not can_ask():
        return []
    sys.stderr.write(f"Type {entry.licence} to accept this licence, Enter to leave it: ")
    sys.stderr.flush()
    line = sys.stdin.readline().strip()
    return [line] if line else []


def _use(entry: Entry) -> str:
    """The option that takes the model."""
    if entry.is_segmenter:
        return f"--segmenter {entry.name}"
    quality = "" if entry.quality == "full" else f":{entry.quality}"
    return f"--anchors totalsegmentator{quality}" if entry.kind == "anchors" else "a plug-in package (none yet)"


def _print_entry(entry: Entry) -> None:
    from r2seg_agent.segment.catalogue.store import state_of
    from r2seg_agent.segment.catalogue.units import units

    rows = [
        ("what it is", entry.about),
        ("targets", ", ".join(entry.targets) or "organs"),
        ("images", ", ".join(entry.modalities)),
        ("licence", f"{entry.licence}. {entry.terms}" if entry.terms else entry.licence),
        ("size", entry.size),
        ("page", entry.page),
        ("needs", f"`{entry.module}`: {entry.install}" if entry.module else "nothing more"),
        ("use", _use(entry)),
        ("unproven", entry.unproven),
    ]
    if entry.fetched:
        found = units(entry)
        files = [f"{file.source}{_hash_of(file.sha256, file.sha1, file.md5)}" for unit in found for file in unit.files]
        rows[5:5] = [("from", entry.address), ("files", "\n".join(files)), ("here", state_of(entry))]
        rows.append(("folders", "\n".join(str(unit.folder) for unit in found)))
    _print_rows(entry.name, rows)


def _hash_of(sha256: str | None, sha1: str | None, md5: str | None) -> str:
    """What the file is compared with at its first download; later ones with the pinned sha256 too."""
    published = (("sha256", sha256), ("sha1", sha1), ("md5", md5))
    return next((f"  {kind} {value[:12]}…" for kind, value in published if value), "  hash pinned on first use")


def _print_built_in(info: WeightsInfo) -> None:
    from r2seg_agent.segment.weights import how_to_get, weights_path

    path = weights_path(info.name)
    rows = [("what it is", info.about), ("licence", info.licence), ("size", info.size), ("kind", BUILT_IN)]
    rows += [("use", f"--segmenter {info.name}"), ("here", str(path) if path else f"no. {how_to_get(info)}")]
    _print_rows(info.name, rows)


def _print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", box=None, show_header=False, title=title, title_justify="left", title_style="bold")
    for label, value in rows:
        table.add_row(Text(label, style="dim"), Text(value, overflow="fold"))
    Console(highlight=False).print(table)
