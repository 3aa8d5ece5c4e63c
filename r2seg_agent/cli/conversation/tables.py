"""Tables of a conversation: plans, rejected candidates, commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from r2seg_agent.cli._text import printable
from r2seg_agent.cli.conversation.commands import COMMANDS
from r2seg_agent.report.decisions import reason
from r2seg_agent.report.format import format_ml, format_score, format_window, plural
from r2seg_agent.report.numbers import level_headings, levels_of
from r2seg_agent.report.place import organ_name

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from r2seg_agent.method.models import Candidate
    from r2seg_agent.reject.settings import Mode
    from r2seg_agent.tools.state import SearchState

MAX_ROWS = 12
"""Rejected candidates listed; the report has all."""
HELP = (
    'Everything else goes to the planner: "find the lung nodule", "how big is it?", "where exactly?", "why did you '
    'reject the second one?", "include the duodenum", "what did you do so far?".',
    "Ctrl-C once finishes the step under way, twice leaves at once; Ctrl-D leaves. Either way the session is kept.",
)
"""What stands below the table of commands."""


def plan_table(search: SearchState) -> Table:
    """One column of facts a target."""
    several = len(search.targets) > 1
    table = _table("Plan", header=several)
    table.add_column("", style="dim", no_wrap=True)
    for number in range(1, len(search.targets) + 1):
        table.add_column(f"target {number}" if several else "", ratio=1)
    plans = [target.plan for target in search.targets]
    unit = search.image.unit
    rows: dict[str, list[str]] = {
        "looking for": [plan.target_name for plan in plans],
        "organs": [_words(plan.anchors) for plan in plans],
        "neighbours": [_words(plan.neighbours) for plan in plans],
        "not inside": [_words(plan.not_inside) for plan in plans],
        "margin": [f"{plan.padding_mm:g} mm, scales {', '.join(f'{s:g}' for s in plan.scales)}" for plan in plans],
        "prompt": [plan.prompt for plan in plans],
        "window": [format_window(plan.window, unit) for plan in plans],
        "why there": [plan.rationale for plan in plans],
        "stands at": [
            f"round {target.round_index}, {target.outcome or target.stage}".replace("_", " ")
            for target in search.targets
        ],
    }
    for name, cells in rows.items():
        if any(cells):
            table.add_row(*_texts(name, *cells))
    return table


def rejected_rows(candidates: Sequence[Candidate], mode: Mode) -> Table:
    """One row a candidate, in the order in which the person counts them: "the second one" is row 2."""
    table = _table("Rejected")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("candidate", no_wrap=True)
    for heading in ("volume", "score", *level_headings(mode)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", ratio=1, min_width=20)
    for number, candidate in enumerate(candidates[:MAX_ROWS], start=1):
        table.add_row(
            *_texts(
                str(number),
                candidate.id,
                format_ml(candidate.features.volume_mm3 / 1000.0),
                format_score(candidate.score),
                *(number.text for number in levels_of(candidate, mode)),
                reason(candidate),
            )
        )
    if len(candidates) > MAX_ROWS:
        table.caption = f"{plural(len(candidates) - MAX_ROWS, 'more candidate')} in the report (/export)"
    return table


def help_table() -> Table:
    """All commands."""
    table = _table("Commands", header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    for about in COMMANDS.values():
        table.add_row(*_texts(about.usage, about.text))
    return table


def _words(names: Sequence[str]) -> str:
    return ", ".join(organ_name(name) for name in names)


def _table(title: str, *, header: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=header,
    )


def _texts(*cells: str) -> list[Text]:
    from rich.text import Text

    return [Text(printable(cell)) for cell in cells]
