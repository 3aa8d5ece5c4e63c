"""`redact`: what may name a patient, a person or a file is masked in the user's words before anything else sees them.

Masked: dates, long digit strings and labelled identifiers, telephone numbers, e-mail addresses, links, paths and file
names, DICOM person names (A^B), names after a title or after "patient:", "name:" and the like. Kept: organs, findings,
sizes ("12 mm", "150000 mm3"), levels ("alpha 0.01"), vertebrae ("L4/L5"), series numbers, times of day, the commands of
a conversation ("/export").

It is a filter by patterns, not an anonymiser: a bare name in running text ("Smith has a nodule"), or one in lower case
without a label, passes. docs/guide/privacy.md says so to the user.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

_MONTHS = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    "|Nov(?:ember)?|Dec(?:ember)?|Januar|Februar|März|Mai|Juni|Juli|Oktober|Dezember"
)
_FILE_ENDINGS = (
    "nii|nrrd|nhdr|mha|mhd|hdr|img|dcm|dicom|ima|png|jpe?g|tiff?|bmp|gif|json|jsonl|csv|tsv|txt|md|pdf|docx?|xlsx?|rtf"
    "|zip|tar|gz|tgz|7z|npy|npz|pth?|sqlite|html?|xml|py|sh"
)
COMMAND_NAMES = (
    "alpha",
    "continue",
    "export",
    "findings",
    "fork",
    "help",
    "plan",
    "quit",
    "rejected",
    "show",
    "undo",
    "wider",
)
"""What stands behind the slash of a conversation's commands: no paths."""
_UNITS = "mm|cm|ml|cc|µl|hu|vox|px|pixel|micron|µm|%|permutation|iteration"
_LETTER = r"[^\W\d_]"
_NAME_WORD = rf"(?:(?!(?:{_MONTHS})\b)[^\W\d_a-zß-öø-ÿ](?:[\w'’.-]*\w)?\.?)"
"""A word that starts with a capital (or with a letter of a script without case)."""


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    mask: str | Callable[[re.Match[str]], str]


def _rule(pattern: str, mask: str | Callable[[re.Match[str]], str], flags: int = re.IGNORECASE) -> _Rule:
    return _Rule(re.compile(pattern, flags), mask)


def _labelled(mask: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match['label']}{mask}"


_RULES = (
    _rule(r"\b[a-z][a-z0-9+.-]*://[^\s\[\]]+|\bwww\.[^\s\[\]]+", "[link]"),
    _rule(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)*", "[e-mail]"),
    # Paths: drive letters and shares, from a slash, `~/` or `./`, and whatever ends like a file.
    _rule(r"(?<!\w)(?:[a-z]:[\\/]|\\\\)[^\s\[\]\"'`,;]*", "[path]"),
    _rule(
        rf"(?<![\w\])/.~])(?!/(?:{'|'.join(COMMAND_NAMES)})(?![\w/\\~-]|\.\w))"
        r"(?:~[\w.-]*|\.{1,2})?/(?=[^\s/])[^\s\[\]\"'`,;]+",
        "[path]",
    ),
    _rule(rf"(?<![\w\]/\\.-])[\w.%+~-]+(?:[/\\][\w.%+~-]+)*\.(?:{_FILE_ENDINGS})\b", "[file]"),
    # DICOM person names: Doe^Jane^^Dr, also with ideographic and phonetic groups.
    _rule(rf"{_LETTER}[\w'’.-]*\^(?!\d)[\w'’.^=-]*", "[name]"),
    # Identifiers with a label, whatever they look like; after a mere blank they must hold a digit.
    _rule(
        r"(?P<label>\b(?:MRN|PID|SSN|DOB|date of birth|born(?: on)?|accession(?: (?:number|no\.?|id))?"
        r"|(?:patient|case|study|subject|hospital|insurance|policy|medical record|record|health|NHS|passport|phone|tel"
        r"|telephone|mobile|fax|room)(?:'s)?(?: (?:id|number|no\.?|nr\.?))"
        r"|phone|tel|telephone|mobile|fax)\b\.?\s*(?:[:=#]|\bis\b)\s*)[^\s,;\[\]]+",
        _labelled("[id]"),
    ),
    _rule(
        r"(?P<label>\b(?:MRN|PID|SSN|DOB|accession|patient|subject)(?: (?:id|number|no\.?|nr\.?))?\s*[#:]?\s*)"
        r"(?=[\w./-]*\d)[\w./-]+(?!\s*-?(?:y(?:ea)?rs?\b|year|y/?o\b|mm\b|cm\b))(?<=\w)\b",
        _labelled("[id]"),
    ),
    # Dates.
    _rule(r"(?<![\d.,/-])(?:19|20)\d\d(?P<s>[-/.])(?:0?[1-9]|1[0-2])(?P=s)(?:[0-2]?\d|3[01])(?!\d)", "[date]"),
    _rule(
        rf"(?<![\d.,/-])\d{{1,2}}(?P<s>[-/.])\s?\d{{1,2}}(?P=s)\s?(?:\d{{4}}|\d\d)(?![\d]|[.,]\d|\s*(?:{_UNITS}))",
        "[date]",
    ),
    _rule(r"(?<![\w.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?:\d{4,6}(?:\.\d+)?)?(?!\w)", "[date]"),
    _rule(rf"\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?(?:{_MONTHS})\b\.?(?:,?\s+\d{{4}}\b)?", "[date]", 0),
    _rule(rf"\b(?:{_MONTHS})\b\.?\s+(?:\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}}\b)?|\d{{4}}\b)", "[date]", 0),
    # DICOM UIDs, network addresses, UUIDs and hashes, telephone numbers, long digit strings.
    _rule(r"(?<![\d.])\d+(?:\.\d+){4,}(?![\d])", "[id]"),
    _rule(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", "[id]"),
    _rule(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{12,}\b", "[id]"),
    _rule(r"(?<![\w.])\+\d{1,3}(?:[\s./-]?\(?\d{1,5}\)?){2,5}", "[number]"),
    _rule(r"(?<![\w.])\(\d{2,5}\)[\s./-]?\d{3,}(?:[\s./-]?\d{2,5})*", "[number]"),
    _rule(r"(?<![\w.])\d{3}[\s./-]\d{2,3}[\s./-]\d{4}(?![\w.]|[.,]\d)", "[number]"),
    _rule(r"(?<![\w.])0\d{2,4}[\s/-]\d{3,}(?:[\s-]?\d{2,})*", "[number]"),
    _rule(rf"(?<![\d.,])(?<!\d[ ])[a-z]{{0,4}}[-_]?\d{{6,}}(?!\d|\.\d|\s*(?:{_UNITS}))\w*", "[number]"),
    _rule(r"\b[a-z]{1,4}[-_]?\d{5,}\b", "[number]"),
    # Names after a label or a title. Case matters here: what follows in lower case is the request.
    _rule(
        rf"(?P<label>\b(?i:(?:patient(?:'s)?|full|last|first|family|given|sur|fore)[ -]?name|name(?: of patient)?)"
        rf"\s*(?:[:=]|\bis\b)\s*)(?:{_NAME_WORD}(?:,?\s+{_NAME_WORD}){{0,3}}|[^\W\d_][\w'’-]*(?:\s+[^\W\d_][\w'’-]*)?)",
        _labelled("[name]"),
        0,
    ),
    _rule(
        rf"(?P<label>\b(?i:patient|pt|subject|radiologist|physician|doctor|referred by|reported by|signed by)"
        rf"\s*[:=]?\s+){_NAME_WORD}(?:,?\s+{_NAME_WORD}){{1,3}}",
        _labelled("[name]"),
        0,
    ),
    _rule(
        # "Ms Lesion" in title case is multiple sclerosis.
        rf"(?P<label>\b(?:Mr|Mrs|Ms(?!\.?\s+(?:Lesion|Plaque)s?\b)|Miss|Mx|Dr|Prof|Herr|Frau|Mme|Monsieur|Madame|Señora?|Sig)\b\.?\s+)"
        rf"{_NAME_WORD}(?:\s+{_NAME_WORD}){{0,2}}",
        _labelled("[name]"),
        0,
    ),
)  # fmt: skip


_LONG_RUN = re.compile(r"\S{200,}")


def plain_text(text: str) -> str:
    """`text` without control, format and private characters (zero-width, bidirectional, tags): they hide or turn text.

    >>> plain_text("MRN\\u200b 001\\u202e2345")
    'MRN 0012345'
    """
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))


def redact(text: str) -> str:
    """`text` with everything masked that the patterns know; pure, and masking twice changes nothing more.

    >>> redact("MRN 0012345, seen 2024-03-01: find the 12 mm nodule at alpha 0.01")
    'MRN [id], seen [date]: find the 12 mm nodule at alpha 0.01'
    """
    text = plain_text(text)
    before = None
    # Every mask swallows characters outside of masks, so this ends; what it ends at is its own redaction.
    while text != before:
        before = text
        # No language has words of this length, and patterns would take quadratic time on them.
        text = _LONG_RUN.sub("[long]", text)
        for pattern, mask in _RULES:
            text = pattern.sub(mask, text)
    return text
