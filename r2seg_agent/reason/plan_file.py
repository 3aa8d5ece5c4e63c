"""Plans as files: what `--plan plan.json` reads and what a planner writes for editing."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.plan import AnatomyPlan, PlanSet

MAX_PLAN_BYTES = 1_000_000
"""A plan file is a few kilobytes; a larger one is something else."""
_ADVICE = "`r2seg plan` or the `plan.json` of an earlier run shows the format."


def load_plan(path: str | Path) -> PlanSet:
    """Plans from a JSON file: one plan, a list of plans, or a whole plan set.

    Organs may be written in any known way ("left kidney"); they come back under their canonical names. Raises
    `InputError` that names the field and what is allowed: no file, no JSON, a bad value, an unknown organ or target.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_PLAN_BYTES:
            raise InputError(f"The plan file {file.name} is larger than {MAX_PLAN_BYTES} bytes: no plan.", _ADVICE)
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise InputError(f"The plan file {file.name} is not UTF-8 text.", _ADVICE) from err
    except OSError as err:
        raise InputError(f"The plan file {file.name} cannot be read: {err.strerror}.", "Check the path.") from err
    try:
        data: object = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as err:
        where = f" (line {err.lineno}, column {err.colno}: {err.msg})" if isinstance(err, json.JSONDecodeError) else ""
        raise InputError(f"The plan file {file.name} is not JSON{where}.", _ADVICE) from err
    return parse_plan(data)


def parse_plan(data: object) -> PlanSet:
    """`load_plan` for JSON that is already parsed."""
    if isinstance(data, dict) and "plans" not in data:
        data = [data]
    if isinstance(data, list):
        data = {"request": "", "plans": data}
    try:
        planset = PlanSet.model_validate_json(json.dumps(data))
    except ValidationError as err:
        raise InputError(_readable(err), _ADVICE) from err
    if not planset.plans:
        raise InputError("The plan file holds no plan.", "Give one plan object, a list of plans, or a plan set.")
    plans = tuple(_checked(p, f"plans[{n}]") for n, p in enumerate(planset.plans))
    return planset.model_copy(update={"plans": plans})


def dump_plan(planset: PlanSet, path: str | Path) -> None:
    """Write a plan set as indented JSON that `load_plan` reads back unchanged. Raises `InputError` when it cannot."""
    file = Path(path)
    try:
        file.write_text(planset.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as err:
        raise InputError(f"The plan file {file.name} cannot be written: {err.strerror}.", "Check the folder.") from err


def _checked(plan: AnatomyPlan, where: str) -> AnatomyPlan:
    if plan.target not in concepts.concepts():
        near = ", ".join(f"`{c.id}`" for c in concepts.nearest_concepts(plan.target))
        raise InputError(f"{where}.target: `{plan.target}` is no concept.", f"Nearest concepts: {near}.")
    if plan.window is not None and plan.window[0] >= plan.window[1]:
        raise InputError(f"{where}.window: {list(plan.window)} must be [low, high] with low < high.", _ADVICE)
    low, high = plan.expected_volume_ml
    if not 0 <= low < high:
        raise InputError(
            f"{where}.expected_volume_ml: {[low, high]} must be [low, high] with 0 <= low < high.", _ADVICE
        )
    return plan.model_copy(
        update={
            "anchors": _organs(plan.anchors, f"{where}.anchors"),
            "neighbours": _organs(plan.neighbours, f"{where}.neighbours"),
            "mimics": _organs(plan.mimics, f"{where}.mimics", sides=False),
            "not_inside": _not_inside(plan, where),
        }
    )


def _not_inside(plan: AnatomyPlan, where: str) -> tuple[str, ...]:
    found = _organs(plan.not_inside, f"{where}.not_inside", sides=False)
    own = (*_organs(plan.anchors, f"{where}.anchors"), concepts.concept(plan.target).organ)
    held = {around for name in own for around in anatomy.containing(name)} | {"body"}
    if wrong := [name for name in found if name in held]:
        raise InputError(
            f"{where}.not_inside: the target itself lies in `{wrong[0]}`, so that everything would be rejected.",
            "Name organs beside its own, or parts of it.",
        )
    return found


def _organs(names: tuple[str, ...], where: str, *, sides: bool = True) -> tuple[str, ...]:
    """Canonical names; with `sides`, a group becomes its two sides."""
    found: list[str] = []
    for n, name in enumerate(names):
        canonical = name if name in anatomy.organs() else anatomy.canonical_organ(name)
        if canonical is None:
            near = ", ".join(f"`{o}`" for o in anatomy.nearest_organs(name, 5))
            raise InputError(f"{where}[{n}]: `{name}` is no organ of the organ table.", f"Nearest organs: {near}.")
        found += [o for o in (anatomy.expand(canonical) if sides else (canonical,)) if o not in found]
    return tuple(found)


def _readable(err: ValidationError) -> str:
    """The first problems of a plan, one a line: field, what is allowed, what was given."""
    lines: list[str] = []
    for problem in err.errors()[:5]:
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"]).lstrip(".")
        if problem["type"] == "missing":
            lines.append(f"{where or 'plan'}: this field is missing.")
        elif problem["type"] == "extra_forbidden":
            legal = ", ".join(AnatomyPlan.model_fields)
            lines.append(f"{where}: no such field; a plan has {legal}.")
        else:
            lines.append(f"{where or 'plan'}: {problem['msg']}, got {problem['input']!r:.80}.")
    return "The plan is not valid:\n" + "\n".join(lines)
