"""`index.html`: the pictures of a batch on one page. No script, no network: it shows what lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path, PurePath

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.batch.summary import BatchSummary
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reject.alpha import within

MOST = 1000
"""Cases on the page, the most remarkable first; the table has all."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; background: #fff; color: #1a1a1a; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; margin-top: 1.5rem; }
figure { margin: 0; border: 1px solid #ccc; border-radius: 6px; overflow: hidden; }
figure.flagged { border: 2px solid #b3261e; }
img { width: 100%; display: block; background: #000; min-height: 8rem; }
figcaption { padding: .5rem .75rem; overflow-wrap: anywhere; }
.none { padding: 1.5rem .75rem; background: #f2f2f2; }
small { color: #555; }
"""


def gallery_html(folder: Path, summary: BatchSummary, rows: Sequence[CaseRow], q: Mapping[str, float]) -> str:
    """The page: flagged scans first, then those with findings, then the rest by number; failures last."""
    ranked = sorted(rows, key=lambda row: (_rank(row, summary.alpha, q), q.get(row.key, 1.0), row.number))
    cards = "\n".join(_card(folder, row, q.get(row.key), summary.alpha) for row in ranked[:MOST])
    more = f" The {MOST} most remarkable are shown." if len(ranked) > MOST else ""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary.outcomes.items())
    about = "".join(f"<br>{escape(line)}" for line in summary.about)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>r2seg batch</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{summary.cases} cases</h1>\n"
        f"<p>{escape(counts or 'no result')}.{more}{about}</p>\n<p>{escape(summary.guarantee)}</p>\n"
        f"<p><strong>{escape(DISCLAIMER)}</strong></p>\n<main>\n{cards}\n</main></body></html>\n"
    )


def _rank(row: CaseRow, alpha: float, q: Mapping[str, float]) -> int:
    if row.status != "done":
        return 3
    return 0 if within(q.get(row.key, 1.0), alpha) else 1 if row.findings else 2


def _card(folder: Path, row: CaseRow, q: float | None, alpha: float) -> str:
    name = escape(PurePath(row.image).name)
    if row.status != "done":
        what = f"{row.status.replace('_', ' ')}: {row.error}"
        return f'<figure><div class="none">no picture</div>{_caption(row, name, what)}</figure>'
    picture = f"runs/{row.run_id}/overlay.png"
    drawn = (folder / picture).is_file()
    shown = f'<img loading="lazy" src="{picture}" alt="{name}">' if drawn else '<div class="none">no picture</div>'
    what = str(row.outcome).replace("_", " ")
    if row.findings:
        what = f"{row.findings} finding{'s' * (row.findings != 1)}, largest {row.largest_ml:.2f} ml"
    what += f", q {q:.3g}" if q is not None else ""
    flagged = ' class="flagged"' if q is not None and within(q, alpha) else ""
    linked = f'<a href="runs/{row.run_id}/report.md">{shown}</a>'
    return f"<figure{flagged}>{linked}{_caption(row, name, what)}</figure>"


def _caption(row: CaseRow, name: str, what: str) -> str:
    request = escape(row.request)
    return f"<figcaption>{row.number}. {name}<br>{escape(what)}<br><small>{request}</small></figcaption>"
