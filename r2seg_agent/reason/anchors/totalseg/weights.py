"""TotalSegmentator's weights on this machine: where they are, whether they are whole, what they hash to.

The library takes an existing Dataset folder for a complete set, downloads what is missing and ends the process over a
missing licence. Here everything is looked at first, nothing is downloaded, and the error says what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.files import cached_file_sha256
from r2seg_agent.reason.anchors.totalseg.tasks import APPROXIMATE_ZIP_MB, WeightSet

CHECKPOINT = "checkpoint_final.pth"
LICENCE_LENGTH = 18
"""The library's own offline test of a licence number."""
STAND_IN_KEY = "r2seg_stand_in"
"""Set in the `dataset.json` of weights that are not TotalSegmentator's own."""


def home_dir() -> Path:
    """TotalSegmentator's own folder: `$TOTALSEG_HOME_DIR`, else `~/.totalsegmentator`. Only read, never written."""
    stated = os.environ.get("TOTALSEG_HOME_DIR")
    return Path(stated) if stated else Path.home() / ".totalsegmentator"


def default_weights_dir() -> Path:
    """`$TOTALSEG_WEIGHTS_PATH`, else `nnunet/results` in TotalSegmentator's own folder."""
    stated = os.environ.get("TOTALSEG_WEIGHTS_PATH")
    return Path(stated) if stated else home_dir() / "nnunet" / "results"


def model_dir(weights_dir: Path, needed: WeightSet) -> Path:
    """The folder of one set that holds `plans.json`, `dataset.json` and the folds."""
    return weights_dir / needed.folder / needed.model_folder


def checkpoints(weights_dir: Path, needed: WeightSet) -> tuple[Path, ...]:
    """The checkpoint of each fold that is used; for sets without stated folds, all that are there (or fold 0)."""
    folder = model_dir(weights_dir, needed)
    if needed.folds:
        return tuple(folder / f"fold_{fold}" / CHECKPOINT for fold in needed.folds)
    found = sorted(p for p in folder.glob(f"fold_*/{CHECKPOINT}") if p.parent.name != "fold_all")
    return tuple(found) or (folder / "fold_0" / CHECKPOINT,)


def check_weights(weights_dir: Path, needed: Sequence[WeightSet]) -> None:
    """Raise `MissingDependencyError` naming every set that is missing or broken, its size, and how to get it."""
    faults = [(s, fault) for s in needed if (fault := _fault(weights_dir, s)) is not None]
    unlicensed = [s for s in needed if s.licensed and not _has_licence()]
    if not faults and not unlicensed:
        return
    lines = [f"set {s.set_id} `{s.folder}` ({_size(s)}): {fault}" for s, fault in faults]
    lines += [f"set {s.set_id} `{s.folder}`: its licence number is missing" for s in unlicensed]
    raise MissingDependencyError(
        "TotalSegmentator's weights cannot be used:\n  " + "\n  ".join(lines),
        _hint(weights_dir, [s for s, _ in faults], any(fault != _ABSENT for _, fault in faults), unlicensed),
    )


def is_stand_in(weights_dir: Path, used: Sequence[WeightSet]) -> bool:
    """True when any of the sets says that it is not TotalSegmentator's own (our tiny test network does)."""
    return any(_says_stand_in(model_dir(weights_dir, s) / "dataset.json") for s in used)


def weights_sha256(weights_dir: Path, used: Sequence[WeightSet]) -> str | None:
    """One hash over the checkpoints, plans and dataset files of the sets that are there; None when none is."""
    digest = hashlib.sha256()
    files = [
        path
        for s in sorted(used, key=lambda s: s.set_id)
        for path in (*checkpoints(weights_dir, s), *(model_dir(weights_dir, s) / n for n in _JSON_FILES))
        if path.is_file()
    ]
    for path in files:
        status = path.stat()
        digest.update(
            f"{path.relative_to(weights_dir)}:{cached_file_sha256(path, status.st_mtime_ns, status.st_size)}".encode()
        )
    return digest.hexdigest() if files else None


_JSON_FILES = ("plans.json", "dataset.json")
_ABSENT = "not on this machine"


def _fault(weights_dir: Path, needed: WeightSet) -> str | None:
    if not (weights_dir / needed.folder).is_dir():
        return _ABSENT
    folder = model_dir(weights_dir, needed)
    if not folder.is_dir():
        return f"incomplete, `{needed.model_folder}` is missing in it"
    for name in _JSON_FILES:
        try:
            if not isinstance(json.loads((folder / name).read_text(encoding="utf-8")), dict):
                return f"broken, `{name}` is not a JSON object"
        except OSError:
            return f"incomplete, `{name}` is missing or unreadable"
        except ValueError:
            return f"broken, `{name}` is empty or not JSON"
    for path in checkpoints(weights_dir, needed):
        short = f"{path.parent.name}/{path.name}"
        if not path.is_file() or not os.access(path, os.R_OK):
            return f"incomplete, `{short}` is missing or unreadable"
        if not zipfile.is_zipfile(path):  # torch's format; the directory at its end is lost when it is cut off
            return f"broken, `{short}` ({path.stat().st_size} bytes) is not a whole checkpoint"
    return None


def _size(needed: WeightSet) -> str:
    mb = APPROXIMATE_ZIP_MB.get(needed.set_id)
    return "size unknown" if mb is None else f"about {mb:.0f} MB"


def _hint(weights_dir: Path, faulty: list[WeightSet], broken: bool, unlicensed: list[WeightSet]) -> str:
    steps = []
    if broken:
        steps.append("Delete the folders of the broken sets first: a folder that exists is never downloaded again.")
    if unlicensed or any(s.licensed for s in faulty):
        steps.append(
            "Ask TotalSegmentator's authors for a licence number (free for research) and store it with "
            "`totalseg_set_license -l NUMBER`."
        )
    commands = dict.fromkeys(s.get for s in faulty)
    if commands:
        own = "" if weights_dir == default_weights_dir() else f"TOTALSEG_WEIGHTS_PATH={weights_dir} "
        steps.append("Download with " + " and ".join(f"`{own}totalseg_download_weights -t {c}`" for c in commands))
        steps[-1] += f"; or unpack the zip of each set into `{weights_dir}`."
    return " ".join(steps)


def _has_licence() -> bool:
    try:
        config = json.loads((home_dir() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and len(str(config.get("license_number", ""))) == LICENCE_LENGTH


def _says_stand_in(dataset_json: Path) -> bool:
    try:
        dataset = json.loads(dataset_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(dataset, dict) and bool(dataset.get(STAND_IN_KEY, False))
