"""What stands behind `nnunet:`, `bundle:` and `totalseg:`: a path or name, then parts behind `#`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen

PARTS_TOLD = "`#0,1` or `#all` (folds), `#nomirror`, `#CLASS=TARGET[,TARGET]`"
BUNDLE_PARTS_TOLD = "`#trust` (a TorchScript network whose authors you trust), `#CLASS=TARGET[,TARGET]`"


class ModelSpec(Frozen):
    """`place`: the path or name. `folds` empty: all that are there, "all" the fold that saw all data. `mirror` False:
    no mirrored copies. `trust`: the user trusts the folder's authors. `classes`: class → its targets, as stated by the
    user.
    """

    place: str
    folds: tuple[int | str, ...] = ()
    mirror: bool = True
    trust: bool = False
    classes: Mapping[str, tuple[str, ...]] = {}


def parse_spec(text: str, kind: str) -> ModelSpec:
    """`PATH#0,1#tumor=liver_lesion` → its parts; `InputError` says what is allowed.

    A `#` that belongs to the path is taken as such when the whole text is an existing path.
    """
    place, *parts = [text] if Path(text).expanduser().exists() else text.split("#")
    if not place:
        raise InputError(f"`{kind}:` needs what comes behind it", f"Write `{kind}:{_EXAMPLES[kind]}`.")
    folds: list[int | str] = []
    mirror, trust = True, False
    classes: dict[str, tuple[str, ...]] = {}
    for part in parts:
        name, equals, targets = part.rpartition("=")
        if equals:
            wanted = tuple(t.strip() for t in targets.split(",") if t.strip())
            if not name.strip() or not wanted:
                raise InputError(f"`#{part}` says no class or no target", f"Allowed parts: {PARTS_TOLD}.")
            classes[name.strip()] = wanted
        elif part == "nomirror" and kind == "nnunet":
            mirror = False
        elif part == "trust" and kind == "bundle":
            trust = True
        elif kind == "nnunet" and part and all(_is_fold(f) for f in part.split(",")):
            folds += ["all" if f.strip() == "all" else int(f.strip().removeprefix("fold_")) for f in part.split(",")]
        else:
            allowed = {"nnunet": PARTS_TOLD, "bundle": BUNDLE_PARTS_TOLD}.get(kind, "`#CLASS=TARGET[,TARGET]`")
            raise InputError(f"`#{part}` behind `{kind}:{place}` is not understood", f"Allowed parts: {allowed}.")
    return ModelSpec(place=place, folds=tuple(dict.fromkeys(folds)), mirror=mirror, trust=trust, classes=classes)


_EXAMPLES = {"nnunet": "PATH", "bundle": "PATH", "totalseg": "liver_lesions"}


def _is_fold(text: str) -> bool:
    plain = text.strip().removeprefix("fold_")
    return plain == "all" or plain.isdigit()
