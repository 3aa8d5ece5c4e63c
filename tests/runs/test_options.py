"""Run options: what is declared of them, and how a wrong value is refused."""

from __future__ import annotations

import math
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.reject.alpha import DEFAULT_ALPHA, is_alpha
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.runs.declaration import Cli, declared_options
from r2seg_agent.runs.options import CHANGEABLE, NOT_SAVED, OPTIONS, PROCESS_OPTIONS, RunOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 1.5}, "`--alpha` must be above 0 and below 1, got 1.5"),
        ({"alpha": 0}, "`--alpha` must be above 0 and below 1, got 0"),
        ({"alpha": math.nan}, "`--alpha` must be above 0 and below 1, got nan"),
        ({"alpha": "strict"}, "`--alpha` must be a number, got 'strict'"),
        ({"rounds": 4}, "`--rounds` must be from 1 to 3, got 4"),
        ({"seed": -1}, "`--seed` must be at least 0, got -1"),
        ({"seed": 1.5}, "`--seed` must be a whole number, got 1.5"),
        ({"seconds": -2}, "`--seconds` must be at least 0, got -2"),
        ({"reject": "maybe"}, "`--reject` is one of auto, reference, paper, conformal, got 'maybe'"),
        ({"preset": "none"}, "`--preset` is one of full, baseline, +roi, +roi+reject, +gates, conformal, got 'none'"),
        ({"score": "best"}, "`--score` is one of mmd2, "),
        ({"orientations": 2}, "`--orientations` is 1 or 3, got 2"),
        ({"synthetic": "perhaps"}, "`--synthetic` must be true or false, got 'perhaps'"),
        ({"modality": 7}, "`--modality` must be text, got 7"),
        ({"workspace": 7}, "`--workspace` must be a path, got 7"),
        ({"channels": ["T1"]}, "`--channel` must be names with files, {name: file}, got ['T1']"),
        ({"alhpa": 0.1}, "there is no option `alhpa`; did you mean `alpha`?"),
        ({"colour": "red"}, "there is no option `colour`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_option_is_named_with_what_was_given_and_what_is_allowed(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        RunOptions.model_validate(given)
    assert error.value.message.startswith(message)
    assert error.value.hint
    with pytest.raises(InputError):
        RunOptions(segmenter="contrast").changed(given)


def test_a_changed_copy_keeps_the_rest() -> None:
    options = RunOptions(segmenter="contrast", seed=4, channels={"T1": "t1.nii"})
    assert options.changed({"alpha": 0.1}) == options.model_copy(update={"alpha": 0.1})
    assert options.changed({}) == options


def test_alpha_has_one_default_and_one_range() -> None:
    assert RunOptions(segmenter="contrast").alpha == RejectSettings().alpha == DEFAULT_ALPHA
    for value in (0.0, 1.0, -0.1, 2.0, math.nan, math.inf):
        assert not is_alpha(value)
        with pytest.raises(ValidationError):
            RejectSettings(alpha=value)
    for value in (1e-9, 0.05, 0.999):
        assert is_alpha(value)
        assert RejectSettings(alpha=value).alpha == value


def test_what_belongs_to_one_process_is_not_saved_and_what_says_where_changes_no_result() -> None:
    assert {"store", "interactive"} == NOT_SAVED
    assert {"store", "interactive", "workspace", "out"} == PROCESS_OPTIONS
    assert {"store", "planner", "base_url", "seconds", "tokens", "model_calls"} == CHANGEABLE


def test_only_these_options_are_for_python_alone() -> None:
    assert {name for name, option in OPTIONS.items() if not option.cli.verbs} == {"interactive", "gates"}


def test_an_option_without_help_or_form_is_refused() -> None:
    class NoHelp(BaseModel):
        """Without a description."""

        depth: Annotated[int, Cli("Model")] = 1

    class NoForm(BaseModel):
        """Without a `Cli`."""

        depth: Annotated[int, Field(description="How deep.")] = 1

    for model in (NoHelp, NoForm):
        with pytest.raises(TypeError, match="`depth` needs a description and a `Cli"):
            declared_options(model)
