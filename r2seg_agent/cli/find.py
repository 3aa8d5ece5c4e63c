"""`r2seg find`: one request on one scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._run_command import run_options

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.api import AskUser, FindResult
    from r2seg_agent.runs.session import Session


def find_command(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCAN REQUEST",
            help=f"The scan ({options.SCAN_FORMATS}) and what to find, in words, in either order. With --image the "
            "request alone.",
            show_default=False,
        ),
    ] = None,
    image: options.Image = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find lesions: plan, locate organs, segment around them, reject what is normal tissue, report with evidence.

    Example: r2seg find scan.nrrd "find the lung nodule" --anchors hounsfield
    """
    from r2seg_agent.cli._scan import request_of, scan_and_request, scan_of
    from r2seg_agent.cli._single import run_single

    given = scan_and_request("find", words or (), image)
    scan, request = scan_of("find", given), request_of("find", given)

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.runs.api import run_find

        return run_find(request, scan, run_options(context), progress, ask=ask, opened=opened)

    run_single(work, as_json=as_json, quiet=quiet)
