"""When the steps of a turn ran, as inline SVG: one row a step, its bar where it ran."""

from __future__ import annotations

import math

from r2seg_agent.trace.html.text import esc
from r2seg_agent.trace.story import Step
from r2seg_agent.trace.tree import format_seconds

WIDTH, LABEL, RIGHT, ROW, HEAD = 1000, 190, 80, 24, 26
"""Of the drawing, its label column, the room for times, a row, the axis, in SVG units."""
LEAST_BAR = 2.0


def timeline(steps: list[Step]) -> str:
    """The drawing; empty for steps that took no time worth drawing."""
    drawn = [step for step in steps if step.is_tool or step.head.kind == "model_call"]
    if not drawn:
        return ""
    start, stop = min(step.began for step in drawn), max(step.ended for step in drawn)
    span = max(stop - start, 1e-3)
    scale = (WIDTH - LABEL - RIGHT) / span
    height = HEAD + ROW * len(drawn) + 6
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="When the steps ran">',
        *_axis(span, scale, height),
    ]
    for row, step in enumerate(drawn):
        parts += _bar(step, row, start, scale)
    return "".join([*parts, "</svg>"])


def ticks(span: float, most: int = 8) -> list[float]:
    """Round times from 0 to `span`, at most `most` steps of 1, 2 or 5 times a power of ten."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))
    return [i * step for i in range(int(span / step + 1e-9) + 1)]


def _axis(span: float, scale: float, height: int) -> list[str]:
    parts = []
    for second in ticks(span):
        x = LABEL + second * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 6}" y2="{height}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEAD - 11}" text-anchor="middle">{_tick(second)}</text>')
    return parts


def _bar(step: Step, row: int, start: float, scale: float) -> list[str]:
    y = HEAD + ROW * row
    x = LABEL + (step.began - start) * scale
    width = max(step.seconds * scale, LEAST_BAR)
    kind = "refused" if step.error else "planner" if step.head.kind == "model_call" else "tool"
    name = "planner" if step.head.kind == "model_call" else step.head.step
    middle = y + ROW / 2 + 4
    return [
        f'<text class="label" x="{LABEL - 10}" y="{middle:.1f}" text-anchor="end">{esc(name)}</text>',
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="{ROW - 10}" rx="3"/>',
        f'<text class="time" x="{x + width + 6:.1f}" y="{middle:.1f}">{format_seconds(step.seconds)}</text>',
    ]


def _tick(second: float) -> str:
    return "0" if second == 0 else format_seconds(second) if second < 1 else f"{second:g} s"
