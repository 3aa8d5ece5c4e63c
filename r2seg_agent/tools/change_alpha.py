"""`change_alpha`: judge by another level; everything that was searched is judged again from what is stored."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.reject.alpha import ALPHA_RANGE, is_alpha, within
from r2seg_agent.reject.calibration import Calibration, cases_needed
from r2seg_agent.reject.settings import RejectSettings, describe_mode
from r2seg_agent.report.format import plural
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)

NO_LEVEL = (
    "This run has no level alpha: its candidates are ranked by a score and cut where a reference set had so many false "
    "findings an image. Start again with --false-findings 0.5 or 3 for a shorter or longer list, with --reject paper, "
    "or with a calibration, which gives valid p-values."
)


class ChangeAlphaResult(ToolResult):
    """The level before and now, what it guarantees, and which targets are judged again."""

    before: float
    alpha: float
    valid: bool
    guarantee: str
    judged_again: tuple[int, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        valid = "" if self.valid else " (a threshold, no error rate in this mode)"
        again = plural(len(self.judged_again), "target")
        return f"from {self.before:g} to {self.alpha:g}{valid}; {again} judged again"


@search_tool(
    "change_alpha",
    ToolCard(
        asked_by='"use alpha …", "be stricter"',
        set_by_user="alpha",
    ),
)
def change_alpha(alpha: float, runtime: Runtime) -> Command[str]:
    """Judge every target again by another level `alpha`, above 0 and below 1; smaller is stricter."""
    search, context = search_of(runtime), context_of(runtime)
    if not is_alpha(alpha):
        raise ToolUseError(f"alpha must be {ALPHA_RANGE}, for example 0.05 or 0.01; it was {alpha:g}")
    before = context.reject_for(search)
    if before.mode == "reference":
        result = ChangeAlphaResult(
            before=before.alpha,
            alpha=before.alpha,
            valid=False,
            guarantee=describe_mode(before, context.calibration).guarantee,
            judged_again=(),
        )
        return answer(runtime, search, result, "change_alpha", say=NO_LEVEL)
    settings = before.model_copy(update={"alpha": alpha})
    mode = describe_mode(settings, context.calibration)
    again = () if alpha == before.alpha else tuple(n for n, t in enumerate(search.targets, start=1) if t.rounds)
    for number in again:
        search = search.reset_target(number - 1)
    if again:
        search = search.model_copy(update={"focus": None})
    search = search.model_copy(update={"alpha": alpha})
    result = ChangeAlphaResult(
        before=before.alpha, alpha=alpha, valid=mode.valid, guarantee=mode.guarantee, judged_again=again
    )
    if alpha == before.alpha:
        return answer(runtime, search, result, "change_alpha", say=f"Alpha is {alpha:g} already; nothing changes.")
    say = f"Alpha is now {alpha:g} (it was {before.alpha:g}). {_meaning(settings, context.calibration)}"
    if again:
        say += f" I judge {plural(len(again), 'target')} again from what is stored."
    return answer(runtime, search, result, "change_alpha", say=say)


def _meaning(settings: RejectSettings, calibration: Calibration | None) -> str:
    """What the level means in this mode, and what a calibration can give."""
    if settings.mode == "paper" or calibration is None:
        return (
            f"A candidate is kept when its q (not FDR-valid) is at most {settings.alpha:g}; in paper mode this is a "
            "threshold, not an error rate."
        )
    text = describe_mode(settings, calibration).guarantee
    n = calibration.n_cases
    if not within(calibration.smallest_p, settings.alpha):
        needed = cases_needed(settings.alpha, calibration.unfinished(1))
        text += f" Nothing can be kept at this level: it needs {needed} lesion-free cases, the calibration has {n}."
    return text
