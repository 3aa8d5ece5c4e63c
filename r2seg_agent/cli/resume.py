"""`r2seg resume` and `r2seg fork`: go on with a run, or begin another from one of its steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.api import AskUser, FindResult
    from r2seg_agent.runs.session import Session

Run = Annotated[str, typer.Argument(help="The run's id or how it begins; `r2seg trace list` shows all.", metavar="RUN")]
Image = Annotated[str | None, typer.Option("--image", "-i", help="The scan, where it has moved since.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")]


def resume_command(
    run: Run,
    image: Image = None,
    workspace: options.Workspace = Path(".r2seg"),
    store: options.Store = None,
    seconds: options.Seconds = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=0, help="Another token budget.")] = None,
    planner: Annotated[str | None, typer.Option("--planner", "-p", help="Another planner, if the old is gone.")] = None,
    base_url: options.BaseUrl = None,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on with a run that was killed, stopped or out of budget; no finished step is repeated.

    The result has the same bytes as if nothing had happened. Example: r2seg resume 5a12
    """
    from r2seg_agent.cli._single import run_single

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.runs.api import run_resume

        changes = {"store": store, "seconds": seconds, "tokens": tokens, "planner": planner, "base_url": base_url}
        return run_resume(run, workspace, progress, ask=ask, opened=opened, image=image, changes=changes)

    run_single(work, as_json=as_json, quiet=quiet)


def fork_command(
    run: Run,
    step: Annotated[int, typer.Option("--step", min=1, help="Trace event after which the new run goes its own way.")],
    plan: options.PlanFile = None,
    image: Image = None,
    workspace: options.Workspace = Path(".r2seg"),
    store: options.Store = None,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Begin a new run from an earlier step of another, with a changed plan if one is given; the old run stays.

    Example: r2seg fork 5a12 --step 6 --plan edited.json
    """
    from r2seg_agent.cli._single import run_single

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.reason.plan_file import load_plan
        from r2seg_agent.runs.api import run_fork

        plans = load_plan(plan).plans if plan is not None else ()
        return run_fork(
            run, step, workspace, progress, plans=plans, opened=opened, image=image, changes={"store": store}
        )

    run_single(work, as_json=as_json, quiet=quiet)
