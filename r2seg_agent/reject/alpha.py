"""Alpha, the level of the rejection test: its default and range, for options, settings, tools and the chat alike."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

DEFAULT_ALPHA = 0.05
_ABOVE, _BELOW = 0.0, 1.0
ALPHA_RANGE = f"above {_ABOVE:g} and below {_BELOW:g}"
"""For error messages: "alpha must be above 0 and below 1"."""

FalseFindings = Literal["0.5", "1", "3"]
"""Where reference mode cuts its list: at so many false findings an image of the reference set."""

Alpha = Annotated[float, Field(gt=_ABOVE, lt=_BELOW)]


Confidence = Annotated[float, Field(ge=0.5, lt=1.0)]
"""How sure one wants to be that a calibration's own level is at most alpha."""

ROUNDING = 1e-12
"""Relative: an adjusted p this little above a level is equal to it. p · K / rank in floating point is above 0.05 in
6 % of the cases in which it is 0.05."""


def within(p: float, level: float) -> bool:
    """True where a p- or q-value is at most `level`, up to `ROUNDING`; NaN is not."""
    return p <= level * (1.0 + ROUNDING)


def is_alpha(value: float) -> bool:
    """True where `value` can be a level; NaN cannot."""
    return _ABOVE < value < _BELOW
