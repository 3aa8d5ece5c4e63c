"""`r2seg chat`: a conversation over one scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._picture import Pictures
from r2seg_agent.cli._run_command import given_options, options_of_verb, run_options

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.session import Session


def chat_command(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCAN [REQUEST]",
            help=f"The scan ({options.SCAN_FORMATS}), and a first request if you like, in either order. With --resume: "
            "where the scan has moved.",
            show_default=False,
        ),
    ] = None,
    image: options.Image = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Continue this session: its id, or the beginning of its id.",
            metavar="ID",
            rich_help_panel=options.SCAN_PANEL,
        ),
    ] = None,
    pictures: Annotated[
        Pictures,
        typer.Option(
            "--pictures",
            help="How slices are shown: by the terminal's own graphics (`kitty`, `iterm`, `sixel`), as `blocks`, or by "
            "`name`; `auto`: the best that the terminal can show.",
            metavar="NAME",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = Pictures.auto,
) -> None:
    """Talk about a scan: find lesions, ask how big and where, why something was rejected, look wider, undo.

    In a script, lines come from stdin: printf 'find the lung nodule\\nhow big is it?\\n' | r2seg chat scan.nrrd
    """
    from r2seg_agent.cli._scan import scan_and_request, scan_of
    from r2seg_agent.cli.conversation.loop import hold_chat

    given = scan_and_request("chat", words or (), image)
    chosen = run_options(context)
    if resume is not None:
        changes = _changes(context)

        def resumed(progress: Progress) -> Session:
            from r2seg_agent.runs.api import reopen

            return reopen(
                resume, chosen.workspace, progress, image=given.scan, changes={**changes, "interactive": True}
            )

        raise typer.Exit(hold_chat(resumed, chosen.workspace, pictures, given.request))
    scan = scan_of("chat", given)

    def started(progress: Progress) -> Session:
        from r2seg_agent.runs.api import open_chat

        return open_chat(scan, chosen, progress)

    raise typer.Exit(hold_chat(started, chosen.workspace, pictures, given.request))


def _changes(context: typer.Context) -> dict[str, object]:
    """The given options that a resumed session may change. Raises `InputError` for one that a session keeps."""
    from r2seg_agent.errors import InputError

    taken, given = options_of_verb("chat"), given_options(context)
    fixed = [taken[name].flag for name in given if not (taken[name].cli.changeable or taken[name].cli.place)]
    if fixed:
        raise InputError(
            f"a session keeps the options that it was started with: {', '.join(fixed)} cannot be given with --resume",
            "Leave it out, or start a new session without --resume.",
        )
    return {name: value for name, value in given.items() if taken[name].cli.changeable}
