"""`change_alpha`: judge by another level; everything that was searched is judged again from what is stored."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.reject.alpha import ALPHA_RANGE, is_alpha, within
from r2seg_agent.reject.calibration import Calibration, cases_needed
from r2seg_agent.reject.settings import RejectSettings, describe_mode, threshold_of
from r2seg_agent.report.format import plural
from r2seg_agent.report.levels import later_level
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
from r2seg_agent.tools.lookup import e_value_of

NO_LEVEL = (
    "This run has no level alpha: its candidates are ranked by a score and cut where a reference set had so many false "
    "findings an image. Start again with --false-findings 0.5 or 3 for a shorter or longer list, with --reject paper, "
    "or with a calibration, which gives valid p-values."
)


class ChangeAlphaResult(ToolResult):
    """The level before and now, what it guarantees, and which targets are judged again.

    `first_alpha` is the level of the promise; `after_p`: p-values had been seen when this level was chosen. `e_value`
    is that of the search so far, where a calibration judges: a level of 1 / `e_value` or more may be chosen after.
    """

    before: float
    alpha: float
    first_alpha: float
    after_p: bool
    e_value: float | None = None
    valid: bool
    guarantee: str
    judged_again: tuple[int, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        valid = "" if self.valid else " (a threshold, no error rate in this mode)"
        late = f" after p-values were seen; the promise speaks of {self.first_alpha:g}" if self.after_p else ""
        again = plural(len(self.judged_again), "target")
        return f"from {self.before:g} to {self.alpha:g}{valid}{late if self.valid else ''}; {again} judged again"


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
    ranked, same = before.mode == "reference", alpha == before.alpha
    again = () if ranked or same else tuple(n for n, t in enumerate(search.targets, start=1) if t.rounds)
    e_value = e_value_of(context, search)
    for number in again:
        search = search.reset_target(number - 1)
    if again:
        search = search.model_copy(update={"focus": None})
    if not (ranked or same):
        search = search.with_level(alpha)
    settings = context.reject_for(search)
    mode = describe_mode(settings, context.calibration)
    result = ChangeAlphaResult(
        before=before.alpha,
        alpha=settings.alpha,
        first_alpha=context.first_alpha(search),
        after_p=search.p_seen,
        e_value=e_value,
        valid=mode.valid,
        guarantee=mode.guarantee,
        judged_again=again,
    )
    if ranked:
        return answer(runtime, search, result, "change_alpha", say=NO_LEVEL)
    if same:
        return answer(runtime, search, result, "change_alpha", say=f"Alpha is {alpha:g} already; nothing changes.")
    say = f"Alpha is now {alpha:g} (it was {before.alpha:g}). {_meaning(settings, context.calibration)}"
    if mode.valid and settings.first_alpha is not None and e_value is not None:
        say += f" {later_level(e_value)}"
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
    if not within(calibration.smallest_p, threshold_of(settings, calibration)):
        needed = cases_needed(settings.alpha, calibration.unfinished(1))
        text += (
            f" Nothing can be kept at this level: it needs {needed} lesion-free cases, the calibration has "
            f"{calibration.n_cases}."
        )
    return text
