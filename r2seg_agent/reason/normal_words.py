"""Words of a request: normalised tokens, singular forms, and careful correction of typing errors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

MIN_TYPO_LENGTH = 4
"""Shorter words are never corrected: "CT", "in", "rib" have too many neighbours."""
TWO_EDIT_LENGTH = 8
"""From this length on a word may differ by two edits from a known one; below it by one.

Measured (tests/reason/test_normal_words.py): of 701 single edits of 30 organ and lesion words 99 % are repaired,
under 1 % become another word; of 13 000 words from the docstrings of Python packages 14, hardly any of them English,
are taken for a medical one.
"""

_SPELLING = (
    ("tumour", "tumor"),
    ("oesoph", "esoph"),
    ("haema", "hema"),
    ("haemo", "hemo"),
    ("leukaem", "leukem"),
    ("caec", "cec"),
    ("coel", "cel"),
    ("neoplasia", "neoplasm"),
    ("goitre", "goiter"),
)
"""British to American spelling, so that both find the same entry."""

_SINGULAR_S = """
abscess across analysis anus as ascites axis biceps bolus callosus cervix cirrhosis corpus cutaneous dens
diagnosis epididymis esophagus fibrosis fibrous focus gas glottis has hilus humerus hypophysis hypothalamus
intravenous iris is its lens locus loss mass meninges metastasis mets mucous necrosis nucleus obvious osseous
pancreas pelvis penis plus pons previous process psoas pubis pus radius series serous sinus stenosis
subcutaneous suspicious testis thalamus this thrombosis thymus triceps us uterus various venous versus was
"""
_KEEP = frozenset(_SINGULAR_S.split())
"""Words that end in s but are singular."""

_IRREGULAR = {
    "metastases": "metastasis",
    "metastatic": "metastasis",
    "metastase": "metastasis",
    "gliom": "glioma",
    "lymphom": "lymphoma",
    "abszess": "abscess",
    "abces": "abscess",
    "pankreas": "pancreas",
    "thyroide": "thyroid",
    "prostata": "prostate",
    "metastasised": "metastasis",
    "metastasized": "metastasis",
    "mets": "metastasis",
    "met": "metastasis",
    "vertebrae": "vertebra",
    "humeri": "humerus",
    "scapulae": "scapula",
    "testes": "testis",
    "ovaries": "ovary",
    "carcinomata": "carcinoma",
    "fibromata": "fibroma",
    "lymphomata": "lymphoma",
    "biopsies": "biopsy",
    "cavities": "cavity",
    "arteries": "artery",
    "diagnoses": "diagnosis",
    "abscesses": "abscess",
    "masses": "mass",
    "sinuses": "sinus",
    "pelves": "pelvis",
    "pleurae": "pleura",
    "malignancies": "malignancy",
    "nodi": "node",
    "calculi": "calculus",
    "foci": "focus",
    "ca": "cancer",
    "nodular": "nodule",
    "cystic": "cyst",
    "lesional": "lesion",
    "lobar": "lobe",
    "cancerous": "cancer",
    "tumoral": "tumor",
    "neoplastic": "neoplasm",
    "malignant": "malignancy",
}
"""Plurals, adjectives and foreign forms that mean the same noun in a request ("benign" names no lesion)."""


@lru_cache(maxsize=8192)
def normal_word(word: str) -> str:
    """One lower-case word → its singular, American form: "Tumours" → "tumor", "Metastases" → "metastasis"."""
    for british, american in _SPELLING:
        word = word.replace(british, american)
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _KEEP:
        if word.endswith("ies") and len(word) > 5:
            return word[:-3] + "y"
        if word.endswith(("xes", "ches", "shes")):
            return word[:-2]
        return word[:-1]
    return word


_TOKEN = re.compile(r"[^\W_]+|[,;:.!?()/&+]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def tokens(text: str) -> tuple[str, ...]:
    """Normalised words and separators of `text`, in order. Hyphens and underscores part words; apostrophes
    and accents vanish.
    """
    plain = unicodedata.normalize("NFKD", text.casefold()).replace("’", "'").replace("'s", "").replace("'", "")
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return tuple(normal_word(t) for t in _TOKEN.findall(letters))


def words(text: str, *, camel: bool = False) -> tuple[str, ...]:
    """Normalised words of a name, without separators; with `camel`, "SpinalCord" is two words as "spinal_cord" is."""
    return tuple(t for t in tokens(_CAMEL.sub(" ", text) if camel else text) if t[0].isalnum())


class Speller:
    """Corrects single words against a vocabulary. Ordinary words are the caller's to leave alone."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._known = frozenset(vocabulary)
        self._by_first: dict[str, list[str]] = {}
        for word in sorted(w for w in self._known if len(w) >= MIN_TYPO_LENGTH and w.isalpha()):
            self._by_first.setdefault(word[0], []).append(word)

    def correct(self, word: str) -> str | None:
        """The known word that was meant, or None. A correction keeps the first letter (or swaps the first two),
        stays within one edit (two from `TWO_EDIT_LENGTH` letters on; an edit is an insertion, deletion, replacement or
        swap of neighbours), and no letter of a four-letter word is replaced. Of several, the
        one with fewer edits wins, then the one with the longer common beginning (Jaro-Winkler); equals cancel out.
        """
        from rapidfuzz.distance import OSA, JaroWinkler

        if word in self._known:
            return word
        if len(word) < MIN_TYPO_LENGTH or not word.isalpha():
            return None
        allowed = 2 if len(word) >= TWO_EDIT_LENGTH else 1
        near: list[tuple[int, float, str]] = []
        for known in [*self._by_first.get(word[0], ()), *self._by_first.get(word[1], ())]:
            if known[0] != word[0] and known[:2] != word[1::-1]:
                continue
            edits = OSA.distance(word, known, score_cutoff=allowed)
            replaced = len(word) == len(known) <= MIN_TYPO_LENGTH and sorted(word) != sorted(known)
            if edits > allowed or replaced:
                continue
            near.append((edits, -JaroWinkler.similarity(word, known), known))
        near.sort()
        if not near or (len(near) > 1 and near[1][:2] == near[0][:2]):
            return None
        return near[0][2]
