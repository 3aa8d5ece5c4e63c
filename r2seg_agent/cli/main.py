"""The `r2seg` command: one file per verb, heavy imports only once a verb runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from r2seg_agent.cli import ablate, batch, calibrate, chat, data, doctor, find, phantom, resume, trace, weights
from r2seg_agent.cli import eval as evaluation
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
app.command("find")(find.find_command)
app.command("chat")(chat.chat_command)
app.command("resume")(resume.resume_command)
app.command("fork")(resume.fork_command)
app.command("batch")(batch.batch_command)
app.command("calibrate")(calibrate.calibrate_command)
app.command("eval")(evaluation.eval_command)
app.command("ablate")(ablate.ablate_command)
app.command("phantom")(phantom.phantom_command)
app.command("doctor")(doctor.doctor_command)
app.add_typer(trace.app, name="trace")
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


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

    telemetry_off()
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except R2SegError as error:
        sys.stderr.write(f"r2seg: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  → {error.hint}\n")
        sys.exit(error.exit_status)
    except Exception as error:
        if os.environ.get("R2SEG_DEBUG"):
            raise
        sys.stderr.write(f"r2seg: unexpected {type(error).__name__}: {error}\n")
        sys.stderr.write("  → This is a bug. R2SEG_DEBUG=1 shows where; the run's trace.jsonl says how far it came.\n")
        sys.exit(RunFailedError.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write(
            "r2seg: stopped at once; `r2seg trace list` shows the run, `r2seg resume ID` goes on after its last step.\n"
        )
        sys.exit(4)
