"""Names of image channels: what is meant by "T1ce", which modality that is, and which image of a case to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality, Volume

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "ct": ("ct", "hu", "computedtomography"),
    "t1": ("t1", "t1w", "t1n", "t1native", "t1weighted", "mrt1", "mrit1"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1post", "t1contrast", "t1wce", "t1wgd", "t1wpost", "cet1", "gdt1"),
    "t2": ("t2", "t2w", "t2weighted", "mrt2", "mrit2"),
    "flair": ("flair", "t2f", "t2flair", "fl", "mrflair", "mriflair"),
    "adc": ("adc",),
    "dwi": ("dwi", "hbv", "b1000"),
    "pet": ("pet", "pt", "suv", "fdg", "fdgpet", "petsuv"),
    "mr": ("mr", "mri"),
    "us": ("us", "ultrasound"),
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
}
"""Channel → how data sets write it (letters and digits only, lower case). BraTS writes t1ce and t2f, MSD T1gd."""

MODALITY_OF: Final[Mapping[str, Modality]] = {
    "ct": "CT",
    **dict.fromkeys(("t1", "t1c", "t2", "flair", "adc", "dwi", "mr"), "MR"),
    "pet": "PT",
    "us": "US",
    **dict.fromkeys(("red", "green", "blue"), "photo"),
}
_CANONICAL: Final = {alias: name for name, aliases in ALIASES.items() for alias in aliases}


def canonical_channel(name: str) -> str:
    """ "T1ce", "t1-Gd", "T1w_post" → "t1c"; a name that is in no table as its letters and digits in lower case."""
    plain = "".join(c for c in name.casefold() if c.isalnum())
    return _CANONICAL.get(plain, plain)


def modalities_of(channels: Sequence[str]) -> tuple[Modality, ...]:
    """The modalities that channel names speak of, each once, in their order; () when no name says it."""
    found = (MODALITY_OF.get(canonical_channel(name)) for name in channels)
    return tuple(dict.fromkeys(m for m in found if m is not None))


@dataclass(frozen=True, eq=False)
class Picked:
    """The images that a model takes, in its order (each (z, y, x) on the scan's grid), and what to tell the user."""

    arrays: tuple[NDArray[Any], ...]
    remarks: tuple[str, ...] = ()


def pick_channels(volume: Volume, needed: Sequence[str], model: str) -> Picked:
    """The images of `volume` for the channels that `model` needs; nothing is ever filled in.

    A model of one channel takes the scan itself. Of several, those given by name are taken (see `ALIASES`), and the
    scan stands for the one that is left. `InputError` names the channels that are missing.
    """
    wanted = list(dict.fromkeys(canonical_channel(name) for name in needed))
    if len(wanted) == 1:
        return Picked(arrays=tuple(volume.array for _ in needed))
    spelled = {canonical_channel(name): name for name in reversed(needed)}
    given: dict[str, NDArray[Any]] = {}
    for name, array in volume.channels.items():
        key = canonical_channel(name)
        if key in given:
            raise InputError(
                f"two of the given channels mean the same: `{name}` is another name for `{key}`",
                "Give each channel once.",
            )
        given[key] = array
    missing = [key for key in wanted if key not in given]
    main_is_named = any(array is volume.array for array in given.values())
    remarks: list[str] = []
    if len(missing) == 1 and not main_is_named:
        given[missing[0]] = volume.array
        remarks.append(f"The scan itself is taken as channel `{spelled[missing[0]]}` of `{model}`.")
    elif missing:
        raise InputError(_lacking(volume, [spelled[key] for key in missing], needed, model, named=main_is_named), _HINT)
    unused = [name for name in volume.channels if canonical_channel(name) not in wanted]
    if unused:
        remarks.append(f"`{model}` has no use for the channel {', '.join(f'`{name}`' for name in unused)}.")
    return Picked(arrays=tuple(given[canonical_channel(name)] for name in needed), remarks=tuple(remarks))


_HINT = (
    "Give each with `--channel NAME=FILE`. The image of `--image` stands for the one that is left; to say which it is, "
    "give it by name too. A missing channel is never filled with zeros."
)


def _lacking(volume: Volume, missing: list[str], needed: Sequence[str], model: str, *, named: bool) -> str:
    """The message: what the model needs, what came, what is missing."""
    came = ", ".join(f"`{name}`" for name in volume.channels) or "none by name"
    also = "" if named else " (the scan itself can be one of them)"
    return (
        f"the model `{model}` needs the channels {', '.join(dict.fromkeys(needed))}; given: {came}; "
        f"missing: {', '.join(missing)}{also}"
    )
