"""What `find`, `resume` and `fork` share: progress, questions, Ctrl-C, and how the answer is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.reason.plan import Choice
    from r2seg_agent.runs.api import AskUser, FindResult
    from r2seg_agent.runs.session import Session


class Work(Protocol):
    """A run to be carried out, given what the terminal offers."""

    def __call__(self, progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        """Carry it out."""
        ...


def run_single(work: Work, *, as_json: bool, quiet: bool) -> None:
    """Carry out `work`, print its answer, and exit with the status that its outcome means."""
    from r2seg_agent.cli._ask import ask, can_ask
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.cli._stop import stop_on_interrupt, to_stderr

    with (
        stop_on_interrupt() as stopping,
        terminal_progress(enabled=not quiet and not as_json) as progress,
    ):

        def ask_between_bars(question: str, choices: tuple[Choice, ...]) -> str | None:
            with progress.paused():
                return ask(question, choices)

        def opened(session: Session) -> None:
            def leave() -> None:
                to_stderr(f"left at once\n  → r2seg resume {session.id}")
                session.fail(KeyboardInterrupt())

            stopping.stop, stopping.leave = session.context.stop, leave

        result = work(progress, ask_between_bars if can_ask() and not as_json else None, opened)
    if as_json:
        typer.echo(result.report.model_dump_json(indent=2))
    else:
        from r2seg_agent.cli._answer import print_answer

        print_answer(result, quiet=quiet)
    raise typer.Exit(result.exit_status)
