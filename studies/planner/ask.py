"""Any planner, asked as the product asks it: the same prompt, the same offered tool, the same second chance.

A model is asked as the graph asks it at the start of a search, with `plan_search` offered. What it calls is held
against the user's words and planned by the concept table, as the tool does. After two replies without a valid call the
referee would let the offline rules take the step; the answer then carries their plans and `referee` is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from langchain_core.messages import AnyMessage

from r2seg_agent.errors import InputError
from r2seg_agent.graphs.graph import INVALID_CALLS_BEFORE_REFEREE
from r2seg_agent.graphs.messages import problem_messages
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.prompting import planner_messages, planner_prompt
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Unit
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.reason.language.grounding import not_said
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.tools.plan_search import plan_search
from r2seg_agent.tools.state import SearchState, Turn
from studies.planner.key import Case
from studies.planner.score import Answer


def asker(spec: str, base_url: str | None) -> Callable[[Case], Answer]:
    """The planner `spec` (`provider:model`, see `choose_planner`, whose errors this raises), ready to be asked."""
    planner = choose_planner(spec, base_url=base_url)
    return lambda case: answer_of(planner, case)


def answer_of(planner: Planner, case: Case) -> Answer:
    """The answer to one request. Raises `PlannerUnavailableError` when the planner's server cannot be reached."""
    started = time.perf_counter()
    grid = Geometry(shape=(48, 512, 512), spacing_mm=(5.0, 0.6, 0.6))
    unit: Unit = "HU" if case.modality == "CT" else "arbitrary"
    image = ImageInfo(name="scan", sha256="0" * 64, geometry=grid, modality=case.modality, unit=unit)
    search = SearchState(request=case.request, image=image, turns=(Turn(index=1, text=case.request),))
    prompt = planner_prompt()
    messages: list[AnyMessage] = []
    tokens = 0
    for calls in range(1, INVALID_CALLS_BEFORE_REFEREE + 1):
        reply = planner.ask(planner_messages(search, messages, [plan_search], prompt), [plan_search], optional=False)
        tokens += reply.tokens_in + reply.tokens_out
        problem = reply.problem
        if reply.call is not None:
            phrases = tuple(str(phrase) for phrase in reply.call["args"]["targets"])
            try:
                problem = _refused(case, phrases)
                planned = None if problem else _planned(case, phrases)
            except InputError as error:
                problem, planned = error.message, None
            if planned is not None:
                spent = {"seconds": time.perf_counter() - started, "calls": calls, "tokens": tokens}
                return planned.model_copy(update=spent | {"call_format": reply.call_format})
        messages += problem_messages(reply.text, problem, calls)
    spent = {"seconds": time.perf_counter() - started, "calls": INVALID_CALLS_BEFORE_REFEREE, "tokens": tokens}
    return _planned(case, (case.request,)).model_copy(update=spent | {"call_format": "none", "referee": True})


def _refused(case: Case, phrases: tuple[str, ...]) -> str:
    """What `plan_search` tells a model whose phrase is not what the user said; "" for the user's own words."""
    reasons = (not_said(phrase, case.request, case.modality) for phrase in phrases)
    return next((f"{reason}; hand on the user's own words: {case.request!r}" for reason in reasons if reason), "")


def _planned(case: Case, phrases: tuple[str, ...]) -> Answer:
    """As `plan_search` merges the plans of its phrases: the first question wins, a plan counts once."""
    planned = [plan_request(phrase, case.modality) for phrase in phrases]
    question = next((plan_set.clarification.question for plan_set in planned if plan_set.clarification), None)
    return Answer(
        plans=() if question else tuple(dict.fromkeys(plan for plan_set in planned for plan in plan_set.plans)),
        question=question,
        excluded=tuple(dict.fromkeys(name for plan_set in planned for name in plan_set.excluded)),
        phrases=phrases,
    )
