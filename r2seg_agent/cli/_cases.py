"""Progress over the cases of a data set: rate, time left, and every failure as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2seg_agent.batch.row import CaseRow
    from r2seg_agent.batch.run import OnRow


@contextmanager
def batch_progress(total: int, *, enabled: bool) -> Iterator[OnRow | None]:
    """A bar on a terminal, a line a case elsewhere; None where it is not wanted."""
    if not enabled:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("cases"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("cases", total=total, rate="")
        new = 0

        def on_row(row: CaseRow, done: int, total: int) -> None:
            nonlocal new
            new += 1
            rate = rate_words(new, time.monotonic() - started, total - done)
            bars.update(task, completed=done, total=total, rate=rate)
            if row.status != "done" or not console.is_terminal:
                what = row.error or f"{row.outcome}, {row.findings} findings, {row.seconds:.1f} s"
                line = f"case {row.number} ({done} of {total}): {row.status}: {what}"
                console.print(line if console.is_terminal else f"{line} ({rate})")

        yield on_row


def rate_words(new: int, seconds: float, left: int) -> str:
    """ "12.5 a minute, 3 min left": by the cases of this call alone, whatever was done before it."""
    per_minute = 60 * new / max(seconds, 1e-9)
    rate = f"{per_minute:.1f} a minute" if per_minute < 600 else f"{per_minute / 60:.0f} a second"
    remaining = left * seconds / new
    if left == 0:
        return rate
    if remaining < 90:
        return f"{rate}, {remaining:.0f} s left"
    return f"{rate}, {remaining / 60:.0f} min left" if remaining < 5400 else f"{rate}, {remaining / 3600:.1f} h left"
