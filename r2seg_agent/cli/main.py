"""The `r2seg` command: one file per verb, heavy imports only once a verb runs."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Annotated

import typer

from r2seg_agent.cli import ablate, batch, calibrate, chat, data, doctor, find, models, phantom, resume, trace, weights
from r2seg_agent.cli import eval as evaluation
from r2seg_agent.cli._run_command import GroupedCommand, RunCommand
from r2seg_agent.version import __version__

app = typer.Typer(
    name="r2seg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find lesions in medical scans: a planner reasons where to look, a frozen model segments there, "
        "a statistical test rejects what is normal tissue.\n\n"
        "Research software, not a medical device."
    ),
    epilog=(
        "Exit status: 0 answered (with or without a finding), 2 bad usage or input, 3 missing model, weights or "
        "package, 4 stopped by a budget or the user, 5 failed (trace kept)."
    ),
)
app.command("find", cls=RunCommand, rich_help_panel="Search")(find.find_command)
app.command("chat", cls=RunCommand, rich_help_panel="Search")(chat.chat_command)
app.command("resume", cls=RunCommand, rich_help_panel="Runs")(resume.resume_command)
app.command("fork", cls=RunCommand, rich_help_panel="Runs")(resume.fork_command)
app.command("batch", cls=RunCommand, rich_help_panel="Data sets")(batch.batch_command)
app.command("calibrate", cls=RunCommand, rich_help_panel="Data sets")(calibrate.calibrate_command)
app.command("eval", cls=GroupedCommand, rich_help_panel="Data sets")(evaluation.eval_command)
app.command("ablate", cls=RunCommand, rich_help_panel="Data sets")(ablate.ablate_command)
app.command("phantom", cls=GroupedCommand, rich_help_panel="Data sets")(phantom.phantom_command)
app.command("doctor", rich_help_panel="Set-up")(doctor.doctor_command)
app.add_typer(trace.app, name="trace", rich_help_panel="Runs")
app.add_typer(data.app, name="data", rich_help_panel="Set-up")
app.add_typer(models.app, name="models", rich_help_panel="Set-up")
app.add_typer(weights.app, name="weights", rich_help_panel="Set-up")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"r2seg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Root of all verbs."""


def main() -> None:
    """Entry point: errors become one readable message and an exit status, never a traceback."""
    from r2seg_agent.errors import R2SegError, RunFailedError
    from r2seg_agent.graphs.planners.telemetry import telemetry_off
    from r2seg_agent.names import utf8_path

    telemetry_off()
    try:
        sys.argv[1:] = [utf8_path(word) for word in sys.argv[1:]]
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except R2SegError as error:
        _print_error(error.message, error.hint)
        sys.exit(error.exit_status)
    except Exception as error:
        if os.environ.get("R2SEG_DEBUG"):
            raise
        _print_error(
            f"unexpected {type(error).__name__}: {error}",
            "This is a bug. R2SEG_DEBUG=1 shows where; the run's trace.jsonl holds every step until then.",
        )
        sys.exit(RunFailedError.exit_status)
    except KeyboardInterrupt:
        _print_error("stopped", "`r2seg trace list` shows the run; `r2seg resume ID` continues it after its last step.")
        sys.exit(4)


def _print_error(message: str, hint: str) -> None:
    """One message on stderr: wrapped for the reader of a terminal, in whole lines for a file or a pipe."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    lines = [*_wrapped(message, "r2seg: ", "  ", width), *_wrapped(hint, "  → ", "    ", width)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        indent = others if found else first
        found += textwrap.wrap(
            line,
            width,
            initial_indent=indent,
            subsequent_indent=others,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
            replace_whitespace=False,
        )
    return found
