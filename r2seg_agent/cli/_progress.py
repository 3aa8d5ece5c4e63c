"""Progress of long steps in the terminal (stderr, so that stdout stays clean for results)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class TerminalProgress:
    """A `Progress` for the terminal: bars, lines, or nothing."""

    def __init__(self, bars: Bars | None = None, *, lines: bool = False) -> None:
        self._bars, self._lines = bars, lines
        self._tasks: dict[str, TaskID] = {}
        self._seen: set[str] = set()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Draw one bar per stage while a terminal looks on, write one line per stage where none does."""
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
        elif self._lines and stage not in self._seen:
            from rich.console import Console

            self._seen.add(stage)
            Console(stderr=True).print(f"· {stage}" + (f": {note}" if note else ""), highlight=False)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        if self._bars is None:
            yield
            return
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


@contextmanager
def terminal_progress(*, enabled: bool) -> Iterator[TerminalProgress]:
    """A `Progress` on stderr, or one that is silent."""
    if not enabled:
        yield TerminalProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield TerminalProgress(lines=True)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield TerminalProgress(bars)
