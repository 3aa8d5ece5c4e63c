"""The words by which an ask is recognised: the patterns of `cues.json`, compiled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.language.dialogue.intents import Plane
from r2seg_agent.reason.language.dialogue.spelling import cue


class _Cues(Frozen):
    comment: str
    parts: Mapping[str, tuple[str, ...]]
    cues: Mapping[str, tuple[str, ...]]


def _load() -> _Cues:
    text = files("r2seg_agent.reason.language.dialogue").joinpath("cues.json").read_text(encoding="utf-8")
    return _Cues.model_validate(json.loads(text))


_NUMBER = r"(?P<number>\d*\.?\d+(?:e-\d+)?|0,\d+|(?:one|two|three|five|ten)(?= per))(?P<percent> %| percent| per cent)?"
_TABLE = _load()
_PARTS = {name: "|".join(words) for name, words in _TABLE.parts.items()}
_PARTS |= {"lead_in": f"(?:(?:{_PARTS['lead_in']}) )*", "alpha_word": f"(?:{_PARTS['alpha_word']})", "number": _NUMBER}


def _cue(name: str) -> re.Pattern[str]:
    pattern = "|".join(_TABLE.cues[name])
    for part, words in _PARTS.items():
        pattern = pattern.replace(f"{{{part}}}", words)
    return cue(pattern)


LEAD_IN = re.compile(f"^{_PARTS['lead_in']}")
"""Words before an ask that ask for nothing: "could you please"; over the words with a space behind them."""
STARTER = _cue("starter")
"""A clause that begins so stands for itself, even behind "and"."""

GREETING, THANKS, BYE, HELP, EXPORT = _cue("greeting"), _cue("thanks"), _cue("bye"), _cue("help"), _cue("export")
UNDO, SUMMARIZE, WHAT_WAS_DONE = _cue("undo"), _cue("summarize"), _cue("what_was_done")
DIAGNOSIS, EXCLUDE = _cue("diagnosis"), _cue("exclude")

ALPHA, ALPHA_AFTER, ALPHA_BARE = _cue("alpha"), _cue("alpha_after"), _cue("alpha_bare")
"""A level with its word before or behind it, and a number that can be nothing but a level (below 1, or in per cent)."""
ALPHA_TAIL = _cue("alpha_tail")
"""A level at the end of another ask: "… with alpha 0.01"."""
ASK_ALPHA, STRICTNESS = _cue("ask_alpha"), _cue("strictness")

WHY, REJECTED, NOT_REJECTED, NOTHING = _cue("why"), _cue("rejected"), _cue("not_rejected"), _cue("nothing")
PICTURE, DRAW, REGION = _cue("picture"), _cue("draw"), _cue("region")
PLANES: Mapping[Plane, re.Pattern[str]] = {
    "axial": _cue("axial"),
    "coronal": _cue("coronal"),
    "sagittal": _cue("sagittal"),
}
SIZE, LISTING, OPEN = _cue("size"), _cue("listing"), _cue("open")
"""Sizes; words that list; of those, the ones that ask about all findings."""
PLACE, IS_IT_IN = _cue("place"), _cue("is_it_in")
WIDEN, INCLUDE, ALSO_INCLUDE = _cue("widen"), _cue("include"), _cue("also_include")
WHAT_ABOUT, FIND = _cue("what_about"), _cue("find")
SEARCHES = _cue("searches")
"""Begins so: a search, even for something unknown, which the planning rules ask back about."""
