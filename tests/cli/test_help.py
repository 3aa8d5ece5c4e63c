"""`--help` of every verb that takes run options, and that none of them declares a run option a second time."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from typing import get_args

import pytest
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

from r2seg_agent.cli import _run_command, ablate, batch, calibrate, chat, find, main, resume
from r2seg_agent.runs.declaration import Panel, Verb
from r2seg_agent.runs.options import OPTIONS

VERBS: tuple[Verb, ...] = get_args(Verb)
FUNCTIONS = {
    "find": find.find_command,
    "chat": chat.chat_command,
    "batch": batch.batch_command,
    "calibrate": calibrate.calibrate_command,
    "ablate": ablate.ablate_command,
    "resume": resume.resume_command,
    "fork": resume.fork_command,
}
OTHER_MEANING = {"batch": {"out"}, "calibrate": {"out"}, "ablate": {"out", "calibration"}}
"""Parameters of a verb that share the name of a run option and mean another thing: a batch's folder, not a run's."""


def parameters(verb: str) -> dict[str, object]:
    command = get_command(main.app).commands[verb]  # type: ignore[attr-defined]  # a group
    return {parameter.name: parameter for parameter in command.get_params(Context(command))}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_the_declared_options_and_declares_none_itself(verb: Verb) -> None:
    declared = {name for name, option in OPTIONS.items() if verb in option.cli.verbs}
    own = set(inspect.signature(FUNCTIONS[verb]).parameters)
    assert own & set(OPTIONS) == OTHER_MEANING.get(verb, set())
    assert not own & declared
    found = parameters(verb)
    assert declared <= set(found)
    for name in declared:
        assert OPTIONS[name].flag in found[name].opts  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns_and_stands_under_the_known_headings_in_their_order(verb: Verb) -> None:
    text = CliRunner().invoke(main.app, [verb, "--help"], env={"COLUMNS": "80"}).output
    assert max(map(len, text.splitlines())) <= 80
    headings = [line.strip("╭─╮ ") for line in text.splitlines() if line.startswith("╭")]
    assert headings[0] == "Arguments" or verb == "calibrate"
    panels = [heading for heading in headings if heading != "Arguments"]
    assert panels == [panel for panel in _run_command.PANELS if panel in panels]
    assert "Options" not in headings, "every option stands under a heading that says what it is about"
    for name, option in OPTIONS.items():
        if verb in option.cli.verbs:
            assert option.flag in text, name


@pytest.mark.parametrize("verb", ["eval", "phantom"])
def test_help_of_verbs_that_run_no_search_is_grouped_too(verb: str) -> None:
    text = CliRunner().invoke(main.app, [verb, "--help"], env={"COLUMNS": "80"}).output
    assert max(map(len, text.splitlines())) <= 80
    headings = [line.strip("╭─╮ ") for line in text.splitlines() if line.startswith("╭")]
    assert "Options" not in headings
    assert [h for h in headings if h != "Arguments"] == [panel for panel in _run_command.PANELS if panel in headings]


def test_every_heading_of_an_option_has_its_place() -> None:
    assert set(get_args(Panel)) <= set(_run_command.PANELS)


def test_no_short_flag_is_used_twice_in_a_verb() -> None:
    for verb in VERBS:
        flags = [flag for parameter in parameters(verb).values() for flag in parameter.opts]  # type: ignore[attr-defined]
        assert len(flags) == len(set(flags)), verb


def test_an_option_that_is_on_by_default_can_be_switched_off() -> None:
    assert all(option.cli.negation for option in OPTIONS.values() if option.default is True and option.cli.verbs)


def test_help_of_r2seg_imports_no_contracts_and_no_arrays() -> None:
    """Run options are read when a verb needs them; pydantic and numpy cost more than the rest of the start."""
    script = (
        "import sys; from r2seg_agent.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'numpy', 'torch', 'langchain_core'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "find" in done.stdout


def test_an_error_is_wrapped_for_a_terminal_and_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    message, hint = "the scan " + "is not what it should be " * 8, "Look again.\nr2seg find SCAN"
    monkeypatch.setenv("COLUMNS", "80")
    shown = {}
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        main._print_error(message.strip(), hint)
        shown[stream.isatty()] = stream.getvalue()
    assert max(map(len, shown[True].splitlines())) <= 80
    assert shown[True].split() == shown[False].split()
    assert shown[False].splitlines() == [f"r2seg: {message.strip()}", "  → Look again.", "    r2seg find SCAN"]
