"""Where a conversation's lines come from: a prompt with history and completion, or plain lines of a script."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from r2seg_agent.cli.conversation.words import Vocabulary, complete

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

HISTORY_FILE = "chat_history"
"""In the workspace, readable by its owner alone: what was typed may name a patient."""
PROMPT, ANSWER_PROMPT = "› ", "answer › "


class Leave(Exception):  # noqa: N818  not an error: Ctrl-D, the end of a script, Ctrl-C twice
    """The person is done."""


class Lines(Protocol):
    """A source of the person's lines."""

    def read(self, *, toolbar: str, question: bool) -> str:
        """The next line; `question` when it answers one. Raises `Leave` at the end."""
        ...


class ScriptLines:
    """Lines from a pipe or a file, echoed so that the output reads like a conversation."""

    def __init__(self) -> None:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # a stray byte is no reason to end

    def read(self, *, toolbar: str, question: bool) -> str:
        """See `Lines`."""
        line = sys.stdin.readline()
        if not line:
            raise Leave
        sys.stdout.write(f"{ANSWER_PROMPT if question else PROMPT}{line.rstrip()}\n")
        sys.stdout.flush()
        return line.strip()


class PromptLines:
    """A prompt with history, completion and a bottom toolbar."""

    def __init__(self, workspace: Path, words: Callable[[], Vocabulary]) -> None:
        """`words` is asked for the words to complete whenever they are needed."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        path = workspace / HISTORY_FILE
        history = FileHistory(path) if _make_private(path) else InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            history=history,
            auto_suggest=AutoSuggestFromHistory(),
            completer=_completer(words),
            complete_while_typing=False,
        )

    def read(self, *, toolbar: str, question: bool) -> str:
        """See `Lines`. Ctrl-C drops the line; on an empty line it asks, and leaves when pressed again."""
        warned = False
        while True:
            shown = "Ctrl-C again leaves; the session is kept" if warned else toolbar
            try:
                return self._session.prompt(
                    ANSWER_PROMPT if question else PROMPT, bottom_toolbar=f" {shown} ", enable_suspend=True
                ).strip()
            except EOFError:
                raise Leave from None
            except KeyboardInterrupt:
                if warned:
                    raise Leave from None
                warned = not self._session.default_buffer.text.strip()


class AfterRequest:
    """The request of the command line, echoed as the first line, then the lines of another source."""

    def __init__(self, request: str, lines: Lines) -> None:
        self._request, self._lines = request, lines

    def read(self, *, toolbar: str, question: bool) -> str:
        """See `Lines`."""
        first, self._request = " ".join(self._request.split()), ""
        if not first:
            return self._lines.read(toolbar=toolbar, question=question)
        sys.stdout.write(f"{ANSWER_PROMPT if question else PROMPT}{first}\n")
        sys.stdout.flush()
        return first


def chat_lines(workspace: Path, words: Callable[[], Vocabulary]) -> Lines:
    """The prompt in a terminal, plain lines elsewhere."""
    return PromptLines(workspace, words) if sys.stdin.isatty() and sys.stdout.isatty() else ScriptLines()


def _completer(words: Callable[[], Vocabulary]) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class ChatCompleter(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            for text, start in complete(document.text_before_cursor, words()):
                yield Completion(text, start_position=start)

    return ChatCompleter()


def _make_private(path: Path) -> bool:
    """Make the history file with mode 0600, or tighten it; False where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError:
        return False
    return True
