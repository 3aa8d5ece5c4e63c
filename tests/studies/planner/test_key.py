"""The key of the planner evaluation: complete, legal, and split as it says."""

from __future__ import annotations

from collections import Counter

from r2seg_agent.reason import anatomy
from r2seg_agent.reason.concepts import concepts
from studies.planner.key import assign_halves, load

CASES = load()


def test_the_halves_are_those_of_the_seed():
    assert [case.half for case in CASES] == assign_halves([case.category for case in CASES])


def test_every_category_is_in_both_halves():
    sizes = Counter((case.category, case.half) for case in CASES)
    for category in {case.category for case in CASES}:
        assert 0 <= sizes[category, "held_out"] - sizes[category, "tuned"] <= 1


def test_every_concept_is_asked_for():
    wanted = {plan.target for case in CASES for plans in case.accept for plan in plans or ()}
    assert wanted == set(concepts())


def test_names_are_those_of_the_tables():
    for case in CASES:
        for plan in (plan for plans in case.accept for plan in plans or ()):
            assert plan.anchors
            for name in plan.anchors:
                assert anatomy.organ(name).name == name, case.id


def test_ids_and_requests_are_unique():
    assert len({case.id for case in CASES}) == len(CASES)
    assert len({(case.request.casefold(), case.modality) for case in CASES}) == len(CASES) >= 160
