"""A model may hand on what the user said, and nothing else."""

from __future__ import annotations

import pytest

from r2seg_agent.reason.language.grounding import not_said


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("pancreatic lesion", "find the pancreatic lesion"),
        ("lesion of the pancreas", "is there anything in the pancreas?"),
        ("left kidney tumour", "kidny tumor on the left side"),
        ("liver lesion", "what about the liver?"),
        ("kidney lesion", "any lesions in liver or kidneys"),
        ("right kidney tumour", "and the other kidney?"),
        ("hepatocellular carcinoma", "any HCC?"),
        ("glorp", "find the glorp"),
    ],
)
def test_what_the_user_said_in_other_words_passes(phrase: str, said: str) -> None:
    assert not_said(phrase, said, "CT") == ""


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("left kidney tumour", "iCCA"),
        ("left kidney tumour", "LI-RADS 5 observation"),
        ("left kidney tumour", "kidny tumor"),
        ("liver lesion", "find the lung nodule"),
        ("left kidney tumour", "what is the meaning of life?"),
        ("brain tumour", "asdf qwer"),
        ("right lung nodule", "find the nodule in the left lung"),
    ],
)
def test_what_the_user_did_not_say_is_refused(phrase: str, said: str) -> None:
    assert not_said(phrase, said, "CT")


def test_what_was_spoken_of_before_may_be_meant() -> None:
    assert not_said("pancreas lesion", "search it again", "CT", ["lesion of pancreas"]) == ""
    assert not_said("spleen lesion", "search it again", "CT", ["lesion of pancreas"])
