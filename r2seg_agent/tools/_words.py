"""What the sentences of several tools share: organs in a list, a measured finding in one line, words that are cut."""

from __future__ import annotations

from collections.abc import Iterable

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Measurements
from r2seg_agent.report.place import organ_name


class MeasuredFinding(Frozen):
    """A finding in numbers, rounded for reading. Lengths are in `length_unit`."""

    number: int
    target: str
    volume_ml: float
    longest_diameter: float
    perpendicular_diameter: float
    length_unit: str
    place: str

    def line(self) -> str:
        """Number, size and place in one line."""
        return (
            f"finding {self.number}: {self.volume_ml:g} ml, "
            f"{self.longest_diameter:g} × {self.perpendicular_diameter:g} {self.length_unit}, {self.place}"
        )


def rounded_sizes(m: Measurements) -> dict[str, float]:
    """Volume (3 decimals, ml) and diameters (1 decimal) of a finding."""
    return {
        "volume_ml": round(m.volume_ml, 3),
        "longest_diameter": round(m.longest_diameter, 1),
        "perpendicular_diameter": round(m.perpendicular_diameter, 1),
    }


def organ_names(names: Iterable[str]) -> str:
    """Organs in plain words with commas between them; "nothing" for none."""
    return ", ".join(organ_name(name) for name in names) or "nothing"


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning with an ellipsis: at most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
