"""What the slash commands do. They are the person's own control of the session: no model is asked whether to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from r2seg_agent.cli.conversation.commands import COMMANDS, PLANES, Command
from r2seg_agent.cli.conversation.input import Leave
from r2seg_agent.errors import InputError

if TYPE_CHECKING:
    from r2seg_agent.cli.conversation.view import ChatView
    from r2seg_agent.report.models import Report
    from r2seg_agent.runs.session import Session

FINDINGS_SHOWN = 12
"""Findings in the terminal's table; the report has all."""


class OpenChat(Protocol):
    """What a command works on: the session that is open, its view, and the turns of the conversation."""

    session: Session
    view: ChatView

    def say(self, text: str, *, by_rules: bool = False) -> None:
        """One message of the person; `by_rules`: the sentence of a command."""
        ...

    def go_on(self) -> bool:
        """Finish an unfinished request; False where there is none."""
        ...

    def enter(self, session: Session) -> None:
        """Leave this session for another."""
        ...


def carry_out(command: Command, chat: OpenChat) -> None:
    """Do what was asked. Raises `InputError` for arguments that are not there, `Leave` for /quit."""
    _ACTIONS[command.name](chat, command.arguments)


def print_findings(chat: OpenChat, report: Report, new: Collection[int] | None = None) -> None:
    """The table of all findings, as the report has it; or the first of the `new` ones."""
    from r2seg_agent.report.table import findings_table

    limit = None if new is None else FINDINGS_SHOWN
    chat.view.console.print(findings_table(report, limit, new, rest="with /findings"))


def _plan(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.cli.conversation.tables import plan_table

    search = chat.session.search
    if not search.targets:
        chat.view.line('There is no plan yet: say what to find, for example "find the lung nodule".')
        return
    chat.view.console.print(plan_table(search))


def _show(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.tools._runtime import ToolUseError
    from r2seg_agent.tools.show_slices import draw

    session, search = chat.session, chat.session.search
    numbers = [finding.number for finding in session.findings()]
    plane, finding, rejected = PLANES[0], 0, 0
    for word in arguments:
        text = word.casefold().lstrip("#")
        planes = [name for name in PLANES if name.startswith(text)]
        if planes:
            plane = planes[0]
        elif text.removeprefix("r").isdecimal():
            finding, rejected = (0, int(text[1:])) if text.startswith("r") else (int(text), 0)
        else:
            raise InputError(f"`{word}` is neither a number nor a plane", f"Usage: {COMMANDS['show'].usage}")
    if numbers and not (finding or rejected):
        finding = search.focus if search.focus in numbers else numbers[0]
    try:
        drawn = draw(session.context, search, finding=finding, rejected=rejected, plane=plane)
    except ToolUseError as error:
        raise InputError(str(error), "`/findings` and `/rejected` list what can be shown.") from error
    chat.view.picture(session.context.store.path(drawn.ref.sha256, ".png"), drawn.result.caption)


def _findings(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    report = chat.session.report()
    if report.findings:
        print_findings(chat, report)
    else:
        chat.view.line("There are no findings." if chat.session.search.targets else "Nothing was searched yet.")


def _rejected(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.cli.conversation.tables import rejected_rows

    candidates = chat.session.rejected()
    if candidates:
        chat.view.console.print(rejected_rows(candidates, chat.session.prepared.reject.mode))
    else:
        chat.view.line("Nothing was rejected." if chat.session.search.targets else "Nothing was searched yet.")


def _wider(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    chat.say("look wider", by_rules=True)


def _alpha(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.cli.conversation.sentences import alpha_of
    from r2seg_agent.reject.alpha import ALPHA_RANGE, is_alpha

    if not arguments:
        chat.view.line(f"The level of the rejection test is {alpha_of(chat.session):g}.")
        return
    try:
        level = float(arguments[0])
    except ValueError:
        level = 0.0
    if not is_alpha(level):
        raise InputError(f"the level must be {ALPHA_RANGE}, got `{arguments[0]}`", "For example: /alpha 0.01")
    chat.say(f"use alpha {level:g}", by_rules=True)


def _undo(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    chat.say("undo that", by_rules=True)


def _fork(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    turn = None
    if arguments:
        if not arguments[0].isdecimal():
            raise InputError(f"`{arguments[0]}` is not the number of a turn", "For example: /fork 2")
        turn = int(arguments[0])
    old = chat.session
    chat.enter(old.fork(turn, progress=chat.view.tools.progress))
    before = f", as it was before turn {turn}" if turn is not None else ""
    chat.view.line(f"Now in session {chat.session.id}, forked from {old.id}{before}; {old.id} stays as it was.")


def _continue(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    if not chat.go_on():
        chat.view.line("Nothing is waiting to be finished.")


def _export(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.cli.conversation.export import export

    export(chat.session, Path(arguments[0]).expanduser() if arguments else None, chat.view)


def _help(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    from r2seg_agent.cli.conversation.tables import HELP, help_table

    chat.view.console.print(help_table())
    for line in HELP:
        chat.view.line(line, "dim")


def _quit(chat: OpenChat, arguments: tuple[str, ...]) -> None:
    raise Leave


_ACTIONS: Mapping[str, Callable[[OpenChat, tuple[str, ...]], None]] = MappingProxyType(
    {
        "plan": _plan,
        "show": _show,
        "findings": _findings,
        "rejected": _rejected,
        "wider": _wider,
        "alpha": _alpha,
        "undo": _undo,
        "fork": _fork,
        "continue": _continue,
        "export": _export,
        "help": _help,
        "quit": _quit,
    }
)
assert set(_ACTIONS) == set(COMMANDS)
