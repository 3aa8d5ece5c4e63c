"""Progress of long steps in the terminal (stderr, so that stdout stays clean for results)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from r2seg_agent.progress import Progress, silent

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def terminal_progress(*, enabled: bool) -> Iterator[Progress]:
    """A `Progress` that draws one bar per stage while a terminal looks on, and one line per stage where none does."""
    if not enabled:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        seen: set[str] = set()

        def lines(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in seen:
                seen.add(stage)
                console.print(f"· {stage}" + (f": {note}" if note else ""), highlight=False)

        yield lines
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note=note)
            bars.update(tasks[stage], completed=done, total=total, note=note)

        yield draw
