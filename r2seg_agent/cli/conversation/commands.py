"""Slash commands: their names, what they take, and how a line is read as one."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from r2seg_agent.errors import InputError
from r2seg_agent.trace.redact import COMMAND_NAMES

PLANES = ("axial", "coronal", "sagittal")


class About(NamedTuple):
    """How a command is used and what it does."""

    usage: str
    text: str
    most_arguments: int = 0


COMMANDS: Mapping[str, About] = MappingProxyType(
    {
        "plan": About("/plan", "the plan of every target: organs, margins, window, why there"),
        "show": About(
            "/show [N|rN] [PLANE]", "the slice through finding N, or rejected candidate rN; PLANE: axial, …", 2
        ),
        "findings": About("/findings", "the table of findings"),
        "rejected": About("/rejected", "what was rejected and why, nearest to being kept first"),
        "wider": About("/wider", "look wider for what was not found"),
        "alpha": About("/alpha [LEVEL]", "the level of the rejection test; with a number, judge again by it", 1),
        "undo": About("/undo", "take back the last request"),
        "fork": About("/fork [TURN]", "continue in a new session, as it is now or as it was before TURN", 1),
        "continue": About("/continue", "continue a request that was stopped"),
        "export": About(
            "/export [FOLDER|FILE.html]", "write report, masks and pictures; or the whole trace as a page", 1
        ),
        "help": About("/help", "this list"),
        "quit": About("/quit", "leave; the session is kept"),
    }
)
assert sorted(COMMANDS) == sorted(COMMAND_NAMES)
_ALIASES: Mapping[str, str] = MappingProxyType({"exit": "quit", "q": "quit", "?": "help", "resume": "continue"})


class Command(NamedTuple):
    """A command as it was typed: its full name and its arguments."""

    name: str
    arguments: tuple[str, ...]


def read_command(line: str) -> Command | None:
    """The command that `line` is; None where it is something else to say.

    A beginning that fits one command is enough. Raises `InputError` that names the commands where none or several fit.
    """
    if not line.startswith("/"):
        return None
    try:
        parts = shlex.split(line[1:]) or [""]
    except ValueError as error:
        raise InputError(f"the command cannot be read: {error}", 'Put names with spaces in "double quotes".') from error
    head, arguments = parts[0].casefold(), parts[1:]
    head = _ALIASES.get(head, head)
    fits = [head] if head in COMMANDS else [name for name in COMMANDS if head and name.startswith(head)]
    if len(fits) != 1:
        near = fits or difflib.get_close_matches(head, COMMANDS, n=2)
        meant = f"; did you mean {' or '.join('/' + name for name in near)}?" if near else ""
        raise InputError(f"there is no command `/{head}`{meant}", f"Commands: {', '.join('/' + n for n in COMMANDS)}.")
    about = COMMANDS[fits[0]]
    if len(arguments) > about.most_arguments:
        raise InputError(f"too much after `/{fits[0]}`: {' '.join(arguments)}", f"Usage: {about.usage}")
    return Command(fits[0], tuple(arguments))
