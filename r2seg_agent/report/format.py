"""How numbers read: the same in the terminal, in `report.md` and in the picture."""

from __future__ import annotations

import math

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.method.models import Measurements

MISSING = "–"
"""What stands where there is no number."""
P_FLOOR = 0.001
"""p- and q-values below this read "< 0.001"."""


def format_p(p: float | None) -> str:
    """A p- or q-value with three significant digits: "0.0312", "0.500", "< 0.001"."""
    if p is None:
        return MISSING
    return "< 0.001" if p < P_FLOOR else significant(p, 3)


def format_equals(name: str, p: float | None) -> str:
    """In a sentence: "p = 0.0312", "p < 0.001", "no p"."""
    if p is None:
        return f"no {name}"
    return f"{name} < 0.001" if p < P_FLOOR else f"{name} = {significant(p, 3)}"


def format_score(score: float | None) -> str:
    """A Reject score, which is not a p-value and has no scale of its own."""
    return MISSING if score is None else significant(score, 3)


def format_share(value: float | None) -> str:
    """A Dice, sensitivity, precision or probability: two decimals."""
    return MISSING if value is None else f"{value:.2f}"


def format_ml(volume_ml: float) -> str:
    """A volume: "1.36 ml", "48.4 ml", "1480 ml"."""
    return f"{significant(volume_ml, 3)} ml"


def format_length(value: float, unit: str = "mm") -> str:
    """A length: "14.2 mm"."""
    return f"{value:.1f} {unit}"


def format_intensity(value: float, unit: str) -> str:
    """A grey value: "−45 HU" rounded, or three significant digits where the unit is arbitrary."""
    if unit == "HU":
        return f"{value:.0f} HU".replace("-", "−") if round(value) else "0 HU"
    return significant(value, 3).replace("-", "−")


def format_diameters(m: Measurements) -> str:
    """Longest × perpendicular: "16.8 × 10.8 mm"."""
    return f"{m.longest_diameter:.1f} × {m.perpendicular_diameter:.1f} {m.length_unit}"


def format_size(m: Measurements) -> str:
    """Volume, or the area of a finding in a 2D image: "1.36 ml", "184 px²"."""
    return format_ml(m.volume_ml) if m.area is None else f"{significant(m.area, 3)} {m.length_unit}²"


def format_window(window: tuple[float, float] | None, unit: str) -> str:
    """A display window: "−1350…150 HU"."""
    if window is None:
        return "0.5–99.5 percentile"
    low, high = (f"{v:.4g}".replace("-", "−") for v in window)
    return f"{low}…{high}{' HU' if unit == 'HU' else ''}"


def format_box(box: Box) -> str:
    """A box as index ranges, last index included: "z 32–34, y 347–372, x 206–229"."""
    ranges = zip("zyx", box.start, box.stop, strict=True)
    return ", ".join(f"{axis} {start}–{stop - 1}" for axis, start, stop in ranges)


def plural(n: int, singular: str, plural_form: str = "") -> str:
    """A count with its noun: "1 finding", "3 findings"."""
    return f"{n} {singular if n == 1 else plural_form or singular + 's'}"


def significant(value: float, digits: int) -> str:
    """`value` rounded to `digits` significant digits, never in exponent form, whole digits never cut away."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = digits - 1 - math.floor(math.log10(abs(rounded))) if rounded else decimals
    return f"{rounded:.{max(0, decimals)}f}"
