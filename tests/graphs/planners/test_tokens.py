"""Tokens and cost: counted, estimated and marked, or unknown."""

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from r2seg_agent.graphs.planners.tokens import Usage, cost_usd, estimate, usage_of
from r2seg_agent.tools.plan_search import plan_search


def test_the_servers_count_is_used_and_else_an_estimate_is_marked() -> None:
    counted = AIMessage("x", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})
    assert usage_of(counted, [], []) == Usage(7, 3, estimated=False)
    assert usage_of(AIMessage("x" * 400), [HumanMessage("y" * 800)], []) == Usage(204, 104, estimated=True)


def test_a_count_of_nothing_is_no_count() -> None:
    empty = AIMessage("x" * 40, usage_metadata={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0})
    assert usage_of(empty, [], []).estimated


def test_tools_and_pictures_are_part_of_the_estimate() -> None:
    plain = estimate([SystemMessage("a")])
    assert estimate([SystemMessage("a")], [plan_search]) > plain + 20
    picture = HumanMessage(content=[{"type": "image", "base64": "AA", "mime_type": "image/png"}])
    assert estimate([picture]) >= 1000


def test_cost_follows_the_stated_price_or_is_unknown() -> None:
    assert cost_usd(Usage(1_000_000, 100_000), (2.0, 10.0)) == 3.0
    assert cost_usd(Usage(1, 1), None) is None
