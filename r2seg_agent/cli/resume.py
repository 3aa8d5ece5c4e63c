"""`r2seg resume` and `r2seg fork`: continue a run, or begin another from one of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._run_command import given_options, run_options

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.api import AskUser, FindResult
    from r2seg_agent.runs.session import Session

Run = Annotated[str, typer.Argument(help="The run's id or how it begins; `r2seg trace list` shows all.", metavar="RUN")]


def resume_command(
    context: typer.Context,
    run: Run,
    image: options.MovedImage = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Continue a run that was killed, stopped or out of budget; no finished step is repeated.

    The result has the same bytes as that of a run without a stop. Example: r2seg resume 5a12
    """
    from r2seg_agent.cli._single import run_single

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.runs.api import run_resume

        changes = {name: value for name, value in given_options(context).items() if name != "workspace"}
        workspace = run_options(context).workspace
        return run_resume(run, workspace, progress, ask=ask, opened=opened, image=image, changes=changes)

    run_single(work, as_json=as_json, quiet=quiet)


def fork_command(
    context: typer.Context,
    run: Run,
    step: Annotated[
        int,
        typer.Option(
            "--step",
            min=1,
            help="Number of the trace event after which the new run begins.",
            metavar="N",
            rich_help_panel="Run",
        ),
    ],
    image: options.MovedImage = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Begin a new run from an earlier step of another, with a changed plan if one is given; the old run stays.

    Example: r2seg fork 5a12 --step 6 --plan edited.json
    """
    from r2seg_agent.cli._single import run_single

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.reason.plan_file import load_plan
        from r2seg_agent.runs.api import run_fork

        chosen = run_options(context)
        return run_fork(
            run,
            step,
            chosen.workspace,
            progress,
            plans=load_plan(chosen.plan).plans if chosen.plan is not None else (),
            opened=opened,
            image=image,
            changes={"store": chosen.store},
        )

    run_single(work, as_json=as_json, quiet=quiet)
