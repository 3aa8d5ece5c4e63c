"""The words that VoxTell is asked by: those for a target that its table of text embeddings holds.

A text goes through a language model of 4 billion parameters before the network sees it. The authors publish the
vectors of many texts; only these are asked, so that the language model is not needed.
"""

from __future__ import annotations

import difflib
import zipfile
from pathlib import Path

import numpy as np

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.plan import Side

FILE_NAME = "text_embeddings.npz"
"""`labels` (n,) text and `embeddings` (n, d) float16."""


class TextBank:
    """Texts with their vectors, read from plain arrays (no pickles)."""

    def __init__(self, path: Path) -> None:
        """Raises `MissingDependencyError` for a file that is no such table."""
        try:
            with np.load(path, allow_pickle=False) as found:
                labels, vectors = found["labels"], found["embeddings"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise MissingDependencyError(
                f"`{path.name}` of VoxTell is no table of text embeddings ({type(error).__name__})"
            ) from error
        if labels.ndim != 1 or labels.dtype.kind != "U" or vectors.shape[:1] != labels.shape or vectors.ndim != 2:
            raise MissingDependencyError(
                f"`{path.name}` of VoxTell has labels of shape {labels.shape} and vectors of shape {vectors.shape}"
            )
        self._vectors = vectors
        self._at = {str(label).strip().lower(): n for n, label in enumerate(labels)}

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self._vectors.shape[1])

    def words_for(self, concept: str, side: Side | None = None) -> str:
        """The first of the target's wordings that the table holds.

        Raises `InputError` with the nearest texts when it holds none.
        """
        known = wordings(concept, side)
        found = next((text for text in known if text in self._at), None)
        if found is None:
            near = list(dict.fromkeys(n for text in known for n in difflib.get_close_matches(text, self._at, n=2)))
            raise InputError(
                f"VoxTell's table of texts has none for `{concept}` (looked for: {', '.join(known[:6])}); nearest: "
                f"{', '.join(near[:6]) or 'none'}",
                "Other texts need its language model of 8 GB, which r2seg does not run. Use another segmenter.",
            )
        return found

    def vector(self, text: str) -> FloatArray:
        """(d,) float32 of a text that the table holds."""
        vector: FloatArray = self._vectors[self._at[text]].astype(np.float32)
        return vector


def wordings(concept: str, side: Side | None = None) -> tuple[str, ...]:
    """How a target may be called, in lower case, the best first: with its side before without it ("left kidney cyst",
    "kidney cyst"). Synonyms are left out: some name a part of what is meant.
    """
    named = concepts.concepts().get(concept)
    if named is None:
        return (concept.replace("_", " ").lower(),)
    kinds = dict.fromkeys((*named.kinds, named.target))
    places = dict.fromkeys((named.site, anatomy.organ(named.organ).display))
    said = [
        concept.replace("_", " "),
        *(f"{place} {kind}" for kind in kinds for place in places),
        *(f"{kind} of {place}" for kind in kinds for place in places),
        *(f"{kind} in {place}" for kind in kinds for place in places),
        named.name,
    ]
    sided = [f"{side} {text}" for text in said] if side is not None else []
    return tuple(dict.fromkeys(text.lower() for text in (*sided, *said)))
