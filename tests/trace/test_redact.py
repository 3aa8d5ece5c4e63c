"""What names a person is masked, what is medicine stays, and masking twice changes nothing."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.reason.concepts import phrases
from r2seg_agent.trace.redact import redact

MASKED = [
    ("MRN 0012345: find the lesion", "MRN [id]: find the lesion"),
    ("MRN: AB-12, liver", "MRN: [id], liver"),
    ("patient id 4711 and patient no. 12", "patient id [id] and patient no. [id]"),
    ("the nodule in patient 12345", "the nodule in patient [id]"),
    ("accession number: X99", "accession number: [id]"),
    ("seen 2024-03-01 and 01.02.2024 and 3/4/24", "seen [date] and [date] and [date]"),
    ("study 20240301 and 20240301123015.123", "study [date] and [date]"),
    ("on 3 March 2020, March 3, 2020, 3rd of May", "on [date], [date], [date]"),
    ("DOB: 1960", "DOB: [id]"),
    ("patient: John Smith, find the tumour", "patient: [name], find the tumour"),
    ("Patient Name: john smith. find it", "Patient Name: [name]. find it"),
    ("name: Mary Ann O'Neil find the tumour", "name: [name] find the tumour"),
    ("Name of patient is Ng: lung", "Name of patient is [name]: lung"),
    ("Dr. Müller and Mrs Jones-Smith said", "Dr. [name] and Mrs [name] said"),
    ("Doe^Jane^^Dr has a lesion", "[name] has a lesion"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "[name]"),
    ("write a.b@c.example or https://h.example/a?b=c", "write [e-mail] or [link]"),
    ("read /etc/passwd and ~/x and ../up/y.txt", "read [path] and [path] and [path]"),
    ("see /export/smith and /shows/x, /planets, ~/export, /undo.txt", "see [path] and [path], [path], [path], [path]"),
    (r"C:\Users\smith\ct.nii.gz and \\host\share", "[path] and [path]"),
    ("in scans/smith_j.nrrd or smith.dcm", "in [file] or [file]"),
    ("call +49 170 1234567, (030) 123456, 555-123-4567", "call [number], [number], [number]"),
    ("number 123456 and AB123456 and P-00123", "number [number] and [number] and [number]"),
    ("1.2.840.113619.2.55.3 at 10.0.0.12", "[id] at [id]"),
    ("550e8400-e29b-41d4-a716-446655440000", "[id]"),
]

KEPT = [
    "find the 12 mm nodule in the right upper lobe at alpha 0.01",
    "5 x 4 x 3 mm, 12.5x10 mm, 5/4/30 mm, 150000 mm3, 1,234,567 voxels",
    "vertebrae L4/L5, T12, C7; segment IVb; WHO grade II; T1.5 at 3T; stage pT2N0",
    "compare the left/right lung and liver/spleen/kidney, and/or the pancreas",
    "use alpha 0.000001, window -1000 to 1000 HU, padding 10.5",
    "the patient is 45 years old; patient 45 years old; a 60-year-old patient",
    "why did you reject the second one, t1r2c3? p = 0.0010, q = 0.05",
    "series 3, slice 121, at 12:30, contrast phase 2, mm^3, 10^3 voxels",
    "what about the liver? look wider. undo that. what did you do so far?",
    "Find the Pancreatic Lesion in May or march on",
    "suche den Tumor in der Leber; Läsion 8 mm",
    "what do /export, /fork and `/show` do? /quit",
]


@pytest.mark.parametrize(("text", "expected"), MASKED, ids=lambda v: v[:24])
def test_what_names_a_person_or_a_file_is_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize("text", KEPT, ids=lambda v: v[:24])
def test_medical_content_sizes_and_levels_are_kept(text: str) -> None:
    assert redact(text) == text


def test_every_word_that_the_planner_knows_is_kept() -> None:
    for words in phrases():
        text = f"find a tumor: {' '.join(words)}, 12 mm"
        assert redact(text) == text
        assert redact(text.title()) == text.title()


PIECES = st.one_of(
    st.sampled_from([text for text, _ in MASKED] + [mask for _, mask in MASKED] + KEPT),
    st.text(alphabet="aZé0129 .:/^@-_+()[]\\,=#", max_size=12),
)


@given(st.lists(PIECES, max_size=5).map(" ".join))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.text())
def test_any_text_can_be_masked_and_stays_masked(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.lists(st.sampled_from(MASKED), min_size=1, max_size=4), st.sampled_from(["; ", "\n", " -- "]))
def test_no_identifier_survives_among_others(cases: list[tuple[str, str]], glue: str) -> None:
    masked = redact(glue.join(text for text, _ in cases))
    for secret in ("0012345", "12345", "John", "Smith", "smith", "Neil", "Jones", "Doe", "passwd", "1234567", "840"):
        assert not re.search(secret, masked)


@given(
    st.dates(date(1900, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y/%m/%d", "%d %B %Y", "%B %d, %Y"]),
)
def test_no_date_survives(day: date, style: str) -> None:
    assert redact(f"the scan of {day.strftime(style)} shows a nodule") == "the scan of [date] shows a nodule"


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.000001, 0.5))
def test_sizes_and_levels_are_kept_whatever_their_value(a: int, b: int, alpha: float) -> None:
    text = f"a lesion of {a} x {b} mm ({a * b} mm2), {a}.{b} ml, at alpha {alpha:.6f}"
    assert redact(text) == text


def test_long_text_is_masked_in_reasonable_time() -> None:
    for unit in ("a", "a.", "1 ", "1.", "/a", "Aa ", "a^", "a@", "patient ", "name: A ", "\\", "-", "Dr "):
        redact(unit * 4000)
