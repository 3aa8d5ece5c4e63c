"""The loop of a conversation: read a line, say it or carry it out, show what happens."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.cli._picture import Pictures, choose_pictures
from r2seg_agent.cli._stop import stop_on_interrupt
from r2seg_agent.cli.conversation.commands import read_command
from r2seg_agent.cli.conversation.input import AfterRequest, Leave, Lines, chat_lines
from r2seg_agent.cli.conversation.view import ChatView
from r2seg_agent.cli.conversation.words import Vocabulary
from r2seg_agent.errors import BudgetError, InputError, R2SegError
from r2seg_agent.outcomes import EXIT_STATUS
from r2seg_agent.reason.language.choices import chosen

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.session import Session
    from r2seg_agent.runs.session_events import SessionEvent


UNFINISHED = "/continue continues the request, /fork {turn} returns to the state before it."


def hold_chat(
    open_session: Callable[[Progress], Session], workspace: Path, pictures: Pictures, request: str | None = None
) -> int:
    """Open a session and talk until the person leaves; then write its report. `request` is their first line.

    A terminal gets the prompt; elsewhere lines come from stdin, answers go to stdout, progress goes to stderr, and the
    first error ends it. The exit status: that of what a script was refused or leaves open, else 0.
    """
    from rich.console import Console

    console, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    view = ChatView(console, notes, choose_pictures(pictures, console, os.environ))
    session = _open(open_session, view)
    chat = Chat(session, view, interactive=interactive)
    try:
        lines = chat_lines(workspace, chat.vocabulary)
        view.banner(session)
        if interactive:
            view.line("/help lists commands; Ctrl-D leaves.", "dim")
        chat.run(lines if request is None else AfterRequest(request, lines))
        chat.leave()
        return 0 if interactive else chat.exit_status
    except BaseException as error:
        if chat.in_turn:  # a wrong command breaks nothing
            chat.session.fail(error)
            if isinstance(error, BudgetError):
                notes.print(f"r2seg chat --resume {chat.session.id} continues it.", style="dim")
        raise
    finally:
        chat.session.close()


def _open(open_session: Callable[[Progress], Session], view: ChatView) -> Session:
    # Imports make a hundred thousand objects and no garbage: looking for it would cost a tenth of the start-up.
    collecting = gc.isenabled()
    gc.disable()
    view.tools.open()
    try:
        session = open_session(view.tools.progress)
    finally:
        view.tools.close()
        if collecting:
            gc.enable()
    if session.kind != "chat":
        name = session.id
        session.close()
        raise InputError(
            f"`{name}` is a single run, not a conversation",
            f"`r2seg resume {name}` continues it; r2seg chat IMAGE starts a conversation.",
        )
    return session


class Chat:
    """One person, one terminal, one session at a time."""

    def __init__(self, session: Session, view: ChatView, *, interactive: bool) -> None:
        """`interactive`: errors are shown and the conversation continues; a script ends at the first one."""
        self.session, self.view, self.interactive = session, view, interactive
        self.in_turn = False
        self.refused = False
        """Whether a request was refused: its plan, or what it asked of a tool."""
        self._begin()

    def run(self, lines: Lines) -> None:
        """Talk until the person leaves. Raises the error that ends a script."""
        from r2seg_agent.cli.conversation.sentences import toolbar_text

        if self.session.search.turns:
            self.view.past(self.session)
            self._show_news()
        self._safely(self.go_on)
        waiting = self.session.question
        if waiting is not None:
            self.view.question(waiting)
        while True:
            try:
                line = lines.read(toolbar=toolbar_text(self.session), question=self.session.question is not None)
                if line:
                    self._safely(self._take, line)
            except Leave:
                return

    def say(self, text: str, *, by_rules: bool = False) -> None:
        """One message of the person, or the answer to an open question; `by_rules`: a command's sentence."""
        waiting = self.session.question
        if waiting is not None:
            choice = chosen(text, waiting.choices)
            text = text if choice is None else choice.line
        elif self.session.unfinished:
            raise InputError("the last request is not finished")
        self._follow(self.session.say(text, by_rules=by_rules))

    def go_on(self) -> bool:
        """Finish what was begun; False where nothing was."""
        if not self.session.unfinished and self.session.search.outcome != "budget_exhausted":
            return False
        self.view.line("Continuing the last request.", "dim")
        self._follow(self.session.resume())
        return True

    def enter(self, session: Session) -> None:
        """Leave this session for another."""
        self.session.close()
        self.session = session
        self._begin()

    def leave(self) -> None:
        """Write what was found, and say how to come back."""
        from r2seg_agent.cli.conversation.export import export

        if self.session.search.targets and not self.session.unfinished and self.session.question is None:
            export(self.session, None, self.view)
        if self.session.search.turns:
            self.view.line(f"r2seg chat --resume {self.session.id} continues it.", "dim")

    @property
    def exit_status(self) -> int:
        """Of a script that has ended: as `r2seg find` for what was refused or stands open, else 0."""
        if self.refused:
            return InputError.exit_status
        if self.session.question is not None:
            return EXIT_STATUS["needs_user"]
        open_ = self.session.search.outcome == "budget_exhausted"
        return EXIT_STATUS["budget_exhausted"] if open_ else 0

    def vocabulary(self) -> Vocabulary:
        """What can be named now."""
        search = self.session.search
        findings = tuple(finding.number for finding in self.session.findings())
        return Vocabulary(findings, tuple(turn.index for turn in search.turns))

    def _begin(self) -> None:
        """What is known at the start need not be shown again."""
        self._shown: Mapping[int, object] = {}
        self._warned = set(self.session.report().warnings)
        self._anchors_named = self.session.prepared.source.info.stand_in

    def _take(self, line: str) -> None:
        from r2seg_agent.cli.conversation.actions import carry_out

        command = read_command(line)
        if command is None:
            self.say(line)
        else:
            carry_out(command, self)

    def _follow(self, events: Iterable[SessionEvent]) -> None:
        from r2seg_agent.runs.session_events import TurnEnded

        self.in_turn = True  # and stays so where the turn breaks off
        stop = self.session.context.stop
        stop.clear()
        try:
            with stop_on_interrupt(self.view.tools.remark) as stopping:
                stopping.stop, stopping.leave = stop, self._leave
                last = self.view.follow(events)
        finally:
            stop.clear()
        self.in_turn = False
        self._show_news()
        if isinstance(last, TurnEnded) and last.outcome == "budget_exhausted":
            self.view.line("/continue continues it.", "dim")
        self.refused = self.refused or bool(self.view.refused)

    def _leave(self) -> None:
        self.view.tools.farewell(f"Left. r2seg chat --resume {self.session.id} continues it.")
        self.session.fail(KeyboardInterrupt())

    def _show_news(self) -> None:
        """Findings that differ from those shown last, and warnings that were not given yet."""
        from r2seg_agent.cli.conversation.actions import print_findings

        report = self.session.report()
        for warning in report.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                if warning.kind == "stand_in_anchors" and self._anchors_named:
                    continue
                self.view.line(f"! {warning.text}", "yellow")
        shown = {
            f.number: (report.targets_of(f.number), f.measurements, f.candidate.p, f.candidate.q)
            for f in report.findings
        }
        new = {number for number, facts in shown.items() if self._shown.get(number) != facts}
        if shown and (new or len(shown) != len(self._shown)):
            print_findings(self, report, new or shown)
        self._shown = shown

    def _safely(self, step: Callable[..., object], *given: str) -> None:
        try:
            step(*given)
        except R2SegError as error:
            if not self.interactive:
                raise
            self.view.line(error.message, "yellow")
            self._hint("" if isinstance(error, BudgetError) else error.hint)
        except Leave:
            raise
        except Exception as error:
            if not self.interactive or os.environ.get("R2SEG_DEBUG"):
                raise
            self.view.line(f"unexpected {type(error).__name__}: {error}", "red")
            self._hint("This is a bug; the session is kept.")

    def _hint(self, hint: str) -> None:
        """What to do next, after an error."""
        if self.session.unfinished:
            hint = f"{hint} {UNFINISHED.format(turn=len(self.session.search.turns))}".strip()
        if hint:
            self.view.line(f"  → {hint}", "dim")
