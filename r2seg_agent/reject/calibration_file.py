"""Reading and writing calibration files: JSON, versioned, refused when edited or damaged."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.files import write_text_atomic
from r2seg_agent.reject.calibration import SCHEMA_VERSION, Calibration, contents_hash, identity_hash

REBUILD = "Get the file again, or build the calibration again from its lesion-free cases."


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write `path` as readable JSON, at once or not at all. Raises `InputError` where its folder is missing."""
    text = json.dumps(calibration.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    if not path.parent.is_dir():
        raise InputError(f"cannot write the calibration `{path}`: there is no such folder")
    write_text_atomic(path, text + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read `path`. Raises `InputError` when it is missing, no calibration, of another schema, damaged or edited."""
    try:
        tree: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the calibration `{path}`: {error.strerror}", "Check the path.") from error
    except ValueError as error:
        raise InputError(f"the calibration `{path}` is not JSON: {error}", REBUILD) from error
    if not isinstance(tree, dict) or tree.get("kind") != "r2seg-calibration":
        raise InputError(f"`{path}` is not an r2seg calibration", "A calibration has `kind`: `r2seg-calibration`.")
    if tree.get("schema_version") != SCHEMA_VERSION:
        came = tree.get("schema_version")
        raise InputError(
            f"the calibration `{path}` has schema version {came!r}, this r2seg reads {SCHEMA_VERSION!r}",
            "Use the r2seg that wrote it, or build it again.",
        )
    try:
        calibration = Calibration.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"the calibration `{path}` is damaged: {where}: {first['msg']}", REBUILD) from error
    if contents_hash(calibration) != calibration.contents_sha256:
        raise InputError(f"the calibration `{path}` was edited or damaged: its contents and its hash differ", REBUILD)
    if identity_hash(calibration.identity) != calibration.identity_sha256:
        raise InputError(f"the calibration `{path}` was edited: its identity and its hash differ", REBUILD)
    return calibration
