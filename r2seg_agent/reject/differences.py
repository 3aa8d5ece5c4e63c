"""What differs between two set-ups, for someone tired: the large difference first, and not what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from r2seg_agent.frozen import Frozen

WHOLES = ("segmenter", "anchor_source")
"""Parts with a name: another name, version or weights is one difference, whatever else it brings along."""
MAX_LISTED = 6
MAX_VALUE = 60
_WORDS = {
    "rounds": "search rounds (`--rounds`)",
    "anchor_source": "anchors from",
    "anchors": "anchor organs",
    "round_anchors": "organs of the search rounds",
    "method": "version of the method",
    "target": "target",
    "modality": "modality",
}


def differences(calibration: Frozen, run: Frozen) -> tuple[str, ...]:
    """One sentence part per difference between the identities of a calibration and a run; empty when they are equal.

    The target and the named parts come first; of small settings at most `MAX_LISTED` are named, and the rest counted.
    """
    theirs, ours = calibration.model_dump(mode="json"), run.model_dump(mode="json")
    large: list[str] = []
    small: list[str] = []
    for name in sorted(theirs.keys() | ours.keys(), key=lambda key: (key != "target", key not in WHOLES, key)):
        then, now = theirs.get(name), ours.get(name)
        if _same(then, now):
            continue
        if isinstance(then, dict) and isinstance(now, dict):
            if name in WHOLES and _title(then) != _title(now):
                large.append(_said(_WORDS.get(name, name), _title(then), _title(now)))
                continue
            flat_then, flat_now = _flat(then), _flat(now)
            small += [
                _said(f"{name}.{key}", _value(flat_then, key), _value(flat_now, key))
                for key in sorted(flat_then.keys() | flat_now.keys())
                if key not in flat_then or key not in flat_now or not _same(flat_then[key], flat_now[key])
            ]
        else:
            large.append(_said(_WORDS.get(name, name), _plain(then), _plain(now)))
    if len(small) > MAX_LISTED:
        small = [*small[:MAX_LISTED], f"and {len(small) - MAX_LISTED} more settings"]
    return (*large, *small)


def _same(then: object, now: object) -> bool:
    """As JSON, as the identity's hash sees them: 1, 1.0 and true are three values."""
    return json.dumps(then, sort_keys=True) == json.dumps(now, sort_keys=True)


def _said(what: str, then: str, now: str) -> str:
    return f"{what}: the calibration has {then}, this run has {now}"


def _title(part: Mapping[str, object]) -> str:
    weights = part.get("weights_sha256")
    with_weights = f" with weights {str(weights)[:12]}" if weights else ""
    return f"`{part.get('name')}` {part.get('version')}{with_weights}"


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Dotted name → value."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _value(flat: Mapping[str, object], key: str) -> str:
    return _plain(flat[key]) if key in flat else "nothing"


def _plain(value: object) -> str:
    if isinstance(value, str):
        text = f"`{value}`"
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(f"`{item}`" for item in value) or "none"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
