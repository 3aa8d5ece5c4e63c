"""Spelling: typing errors are repaired, other words are left alone."""

from __future__ import annotations

import re
import string

import pytest

from r2seg_agent.reason.language.lexicon import understand
from r2seg_agent.reason.normal_words import normal_word, tokens, words

WORDS = """
    liver kidney pancreas spleen stomach colon esophagus prostate bladder thyroid adrenal gallbladder brain femur breast
    uterus ovary trachea duodenum mediastinum tumor lesion nodule metastasis carcinoma abscess cancer glioma sarcoma
    lymphoma
"""


def _edits(word: str) -> set[str]:
    """All single edits behind the first letter: deletions, swaps, doublings, and neighbours in the alphabet."""
    found = set()
    for i in range(1, len(word)):
        found.add(word[:i] + word[i + 1 :])
        found.add(word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :])
        found.add(word[:i] + word[i] + word[i:])
        near = string.ascii_lowercase[(string.ascii_lowercase.index(word[i]) + 1) % 26]
        found.add(word[:i] + near + word[i + 1 :])
    return {e for e in found if e != word}


def _read(word: str) -> str:
    items, corrected = understand(word)
    return corrected[0][1] if corrected else items[0].text if items[0].role != "unknown" else ""


def test_single_typing_errors_are_repaired():
    tried = [(word, typo) for word in WORDS.split() for typo in sorted(_edits(word))]
    right = sum(_read(typo) == normal_word(word) for word, typo in tried)
    wrong = [
        (typo, _read(typo)) for word, typo in tried if _read(typo) not in ("", normal_word(word), normal_word(typo))
    ]
    assert len(tried) > 600
    assert right / len(tried) > 0.95
    assert len(wrong) / len(tried) < 0.01, wrong


def test_ordinary_english_is_left_alone():
    import pydoc_data.topics

    text = " ".join(pydoc_data.topics.topics.values()).casefold()
    english = sorted(set(re.findall(r"\b[a-z]{4,12}\b", text)))
    taken = [word for word in english if understand(word)[1]]
    assert len(english) > 2000
    assert len(taken) / len(english) < 0.005, taken


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Tumours", "tumor"),
        ("Metastases", "metastasis"),
        ("oesophagus", "esophagus"),
        ("haemangiomas", "hemangioma"),
        ("biopsies", "biopsy"),
        ("abscesses", "abscess"),
        ("pancreas", "pancreas"),
        ("masses", "mass"),
        ("vertebrae", "vertebra"),
        ("kidneys", "kidney"),
    ],
)
def test_plurals_and_british_spelling_meet(typed, meant):
    assert words(typed) == (meant,)


def test_separators_are_kept_and_hyphens_part_words():
    assert tokens("Left-sided, kidney's mass; OK?") == ("left", "sided", ",", "kidney", "mass", ";", "ok", "?")
    assert words("SpinalCord", camel=True) == words("spinal_cord") == ("spinal", "cord")
