"""The generated types of the run's options."""

from __future__ import annotations

from typing import get_type_hints

from r2seg_agent.runs.option_types import OptionFields
from r2seg_agent.runs.options import RunOptions
from studies.option_types import TARGET, render


def test_the_generated_types_are_those_of_the_options() -> None:
    assert TARGET.read_text() == render(), "runs/option_types.py is stale: run `make format`"


def test_every_option_can_be_given_by_its_name_and_none_is_required() -> None:
    assert set(get_type_hints(OptionFields)) == set(RunOptions.model_fields)
    assert not OptionFields.__required_keys__
