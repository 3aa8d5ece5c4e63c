"""What the tools are doing: one line a tool, alive while it works."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from r2seg_agent.cli._text import printable

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console
    from rich.progress import Progress, TaskID

LONGEST = 72
"""Characters of a tool call in its line."""
MOST_ITEMS = 4
"""Longer lists are left out."""
_LEFT_OUT = ("kind",)
_BARE = ("targets", "organs", "include", "candidate", "plane")
STDERR = 2
"""The file descriptor."""
WAITING = "…"
"""The line between two tools: a language model may be choosing."""


class ToolLine:
    """Draws the tool under way with a spinner, its counts and its time, and leaves one dim line when it is done.

    Where nobody looks on (`notes` is no terminal), one plain line a tool goes to `notes` instead.
    """

    def __init__(self, console: Console, notes: Console) -> None:
        self._console, self._notes = console, notes
        self._alive = console.is_terminal and not console.is_dumb_terminal
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._name, self._began, self._remark = "", 0.0, ""

    def open(self) -> None:
        """Begin to draw."""
        self._remark = ""
        if not self._alive or self._bars is not None:
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[counts]}", style="dim", markup=False),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True)
        self._task = self._bars.add_task(self._name or WAITING, total=None, counts="")
        self._bars.start()

    def close(self) -> None:
        """Take the line away: before a picture, a question, the prompt."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None

    def start(self, tool: str, args: Mapping[str, JsonValue], taken_by: str) -> None:
        """A tool begins."""
        self._name, self._began = describe_call(tool, args), time.monotonic()
        if taken_by not in ("planner", "referee"):
            self._name += f" ({taken_by})"
        if not self._alive:
            self._note(f"· {self._name}")
        self._draw(self._name, "")

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """A `Progress`: how far the tool under way has come."""
        counts = f"{done}/{total}" if total > 1 else ""
        self._draw(
            self._name or stage,
            printable(" ".join(part for part in (stage if self._name else "", counts, note) if part)),
        )

    def finish(self, tool: str, error: str, line: str = "") -> None:
        """The tool is done with the result `line`, or refused its arguments (`error`).

        Its start was not seen where a resumed run begins in it.
        """
        from rich.text import Text

        took = f"  {time.monotonic() - self._began:.1f} s" if self._name else ""
        name, self._name = self._name or describe_call(tool, {}), ""
        if not self._alive:
            if error:
                self._note(f"  refused: {error}")
        elif error:
            self._console.print(Text(f"  ✗ {name}: refused", style="dim"))  # why: the answer says so
        else:
            result = f"  {line}" if line else ""
            done = Text(f"  ✓ {name}{took}{result}", style="dim")
            self._console.print(done, no_wrap=True, overflow="ellipsis")
        self._draw(WAITING, "")

    def remark(self, text: str) -> None:
        """Something to know at once; may be called from a signal handler, so that it writes to no Python stream."""
        self._remark = text
        if self._bars is None:
            os.write(STDERR, f"{text}\n".encode())
        else:
            self._draw(self._name or WAITING, text)

    def farewell(self, text: str) -> None:
        """The last words of a process that ends now, with the cursor shown again; for signal handlers too."""
        show = "\r\n\x1b[?25h" if self._alive else ""
        os.write(STDERR, f"{show}{text}\n".encode())

    def _draw(self, description: str, counts: str) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, description=description, counts=self._remark or counts)

    def _note(self, text: str) -> None:
        from rich.text import Text

        self._notes.print(Text(text), soft_wrap=True)


def describe_call(tool: str, args: Mapping[str, JsonValue]) -> str:
    """A tool call in words: "locate organs, target 1"; arguments that say nothing are left out."""
    parts = [tool.replace("_", " ")]
    for name, value in args.items():
        too_long = isinstance(value, list) and not 0 < len(value) <= MOST_ITEMS
        if name in _LEFT_OUT or value in (0, None, "") or too_long:
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        parts.append(shown if name in _BARE else f"{name} {shown}")
    text = " ".join(printable(", ".join(parts)).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
