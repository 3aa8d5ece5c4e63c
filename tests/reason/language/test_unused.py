"""What was not used of a request is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_case import small_options, write_case

from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.language.unused import MAX_NAMED, unused_sentence, unused_words
from r2seg_agent.runs.api import run_find


@pytest.mark.parametrize(
    ("request_", "unused"),
    [
        ("find lung nodules larger than 5 mm", ("5 mm", "larger")),
        ("find the lung nodule in lung window", ("lung window",)),
        ("find the liver lesion with a window of -600 to 1500", ("window", "600", "1500")),
        ("find lung nodules in slices 10 to 20", ("slice", "10", "20")),
        ("find the 3 largest lung nodules", ("3", "largest")),
        ("find the spiculated lung nodule", ("spiculated",)),
        ("find the frobnicated lung nodule", ("frobnicated",)),
        ("please find any lesions in the liver or the left kidney, thanks", ()),
        ("LI-RADS 5 in liver segment 8", ()),
        ("kidney tumour, but not the left one", ()),
        ("find the lung nodule in the right upper lobe", ()),
        ("Finde die Leberläsion", ()),
    ],
)
def test_words_that_narrow_nothing(request_: str, unused: tuple[str, ...]) -> None:
    assert unused_words(request_) == unused
    assert bool(unused_sentence(request_)) == bool(unused)


def test_a_window_is_no_organ_to_search() -> None:
    assert [p.target for p in plan_request("find the liver lesion in lung window", "CT").plans] == ["liver_lesion"]


def test_a_long_text_names_a_few_of_its_words() -> None:
    sentence = unused_sentence("liver lesion " + " ".join(f"qwxz{letter}v" for letter in "abcdefghijkl"))
    assert sentence.count("“") == MAX_NAMED
    assert "and 4 more words" in sentence


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("find the lung nodule in the right upper lobe", "right upper lobe of lung → right lung"),
        ("find a lung nodule near the heart", "beside the heart is not used"),
        ("find the liver cyst", ""),
        ("find the liver polyp", "no entry for a polyp of this organ"),
    ],
)
def test_a_plan_that_does_less_than_was_asked_says_so(request_: str, said: str) -> None:
    plan = plan_request(request_, "CT", anchors_available=frozenset({"lung_left", "lung_right", "liver"})).plans[0]
    assert said in " ".join(plan.not_used)
    assert bool(plan.not_used) == bool(said)


def test_the_report_says_it(tmp_path: Path) -> None:
    image, _ = write_case(tmp_path)
    options = small_options(tmp_path, modality="CT", reject="paper", overlays=False)
    report = run_find("find liver lesions larger than 2 cm in segment 8", str(image), options).report
    told = [caution.text for caution in report.warnings if caution.kind == "not_used"]
    assert told[0] == "Not used of the request: “2 cm”, “larger”. The search was not narrowed by it."
    assert "liver segment 8" in told[1]
    assert len(told) == 2
