"""CLIP's tokenizer: its table, and ids that other implementations publish."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.segment.biomedparse.tokenizer import BEGIN, END, N_MERGES, _tables, tokenize


def test_the_table_is_complete() -> None:
    vocabulary, ranks, signs = _tables()
    assert len(ranks) == N_MERGES
    assert len(signs) == 256
    assert len(vocabulary) == 49408
    assert (vocabulary[BEGIN], vocabulary[END]) == (49406, 49407)


def test_published_ids() -> None:
    assert tokenize("A person riding a motorcycle") == [49406, 320, 2533, 6765, 320, 10297, 49407]
    assert tokenize("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_case_white_space_and_composition_do_not_matter() -> None:
    assert tokenize("  Tumor\tin \n LIVER  CT ") == tokenize("tumor in liver ct")
    assert tokenize("le\u0301sion") == tokenize("l\u00e9sion")


def test_digits_stand_alone_and_contractions_are_words() -> None:
    assert tokenize("t12")[1:-1] == [*tokenize("t")[1:-1], *tokenize("1")[1:-1], *tokenize("2")[1:-1]]
    assert tokenize("it's")[1:-1] == [*tokenize("it")[1:-1], *tokenize("'s")[1:-1]]


def test_long_text_keeps_its_end_token() -> None:
    ids = tokenize("tumor " * 100)
    assert len(ids) == 77
    assert ids[0] == 49406
    assert ids[-1] == 49407


@given(st.text(max_size=40))
def test_any_text_has_ids_of_the_vocabulary_and_comes_back(text: str) -> None:
    """Joining the tokens' bytes gives the text again, but for white space and case."""
    vocabulary, _, signs = _tables()
    token_of = {number: token for token, number in vocabulary.items()}
    byte_of = {sign: byte for byte, sign in signs.items()}
    tokens = [token_of[number] for number in tokenize(text, context=10_000)[1:-1]]
    if BEGIN in tokens or END in tokens:
        return
    joined = bytes(byte_of[sign] for token in tokens for sign in token.removesuffix("</w>")).decode()
    clean = " ".join(unicodedata.normalize("NFC", text).split()).lower()
    assert joined == "".join(sign for sign in clean if not sign.isspace())
