"""Made-up weights in the layout of released models, and a catalogue that names them, for a mirror on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.bright_lesion import SPACING
from helpers.bundle_models import Pointwise, write_bundle
from helpers.file_server import FileServer
from helpers.folder_models import bright_detector, build, plans, write_nnunet

LOW, HIGH = -100.0, 300.0


@dataclass(frozen=True)
class Mirror:
    """`server` has panther's files and tiny_v1.zip; `cache` is where r2seg keeps models."""

    server: FileServer
    cache: Path

    @property
    def models(self) -> Path:
        """The folder of fetched models."""
        return self.cache / "models"

    def installed(self) -> list[str]:
        """Names of the models that are installed, and of what was left behind."""
        found = self.models.iterdir() if self.models.is_dir() else ()
        return sorted(p.name for p in found if p.name not in (".lock", ".parts", ".pins"))


def panther_files(folder: Path, threshold_hu: float) -> dict[str, bytes]:
    """Files of a mirror by path: five folds of a network that finds what is brighter than `threshold_hu`."""
    plan = plans(SPACING, (32, 32, 32), ["CTNormalization"], name="Dataset500_FLARE")
    network = build(plan, 1, 2)
    bright_detector(network, channel=0, output=1, threshold=threshold_hu / 100.0)
    networks = {f"fold_{fold}": network for fold in range(5)}
    write_nnunet(folder, networks, plan, labels={"background": 0, "lesion": 1}, trainer="nnUNetTrainer_Epoch5000_Lr1e3")
    return files_below(folder)


def bundle_zip(folder: Path, threshold_hu: float) -> bytes:
    """A zip in the layout of the MONAI model zoo, with the TorchScript network at tiny/models/model.ts."""
    network = Pointwise(threshold=(threshold_hu - LOW) / (HIGH - LOW), gain=40.0)
    written = write_bundle(folder, network, input_size=[24, 24, 24], file="model.ts")
    return zip_of({"tiny/models/model.ts": (written / "model.ts").read_bytes(), "tiny/configs/x.py": b"1 / 0"})


def bundle_entry(archive: bytes, **changes: Any) -> dict[str, Any]:
    """The catalogue's entry for `bundle_zip`, which it names by its sha256."""
    manifest = {
        "r2seg_bundle": 1,
        "name": "tiny",
        "version": "1",
        "format": "torchscript",
        "file": "model.ts",
        "modalities": ["CT"],
        "ndim": 3,
        "input_size": [24, 24, 24],
        "channels": [{"name": "CT", "normalisation": {"kind": "window", "low": LOW, "high": HIGH}}],
        "classes": [{"name": "liver tumor"}],
        "activation": "sigmoid",
    }
    file = {
        "source": "tiny_v1.zip",
        "target": "model.ts",
        "member": "tiny/models/model.ts",
        "size_bytes": len(archive),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "sha1": hashlib.sha1(archive).hexdigest(),
        "md5": hashlib.md5(archive).hexdigest(),
    }
    entry = {
        "name": "tiny-bundle",
        "kind": "bundle",
        "about": "liver tumour",
        "targets": ["liver_lesion"],
        "modalities": ["CT"],
        "licence": "CC-BY-NC-SA-4.0",
        "terms": "No commercial use.",
        "page": "https://models.example/tiny",
        "address": "https://models.example/files",
        "hosts": ["models.example"],
        "files": [file],
        "size_bytes": len(archive),
        "manifest": manifest,
        "unproven": "All of it.",
    }
    return entry | changes


def write_catalogue(folder: Path, *entries: dict[str, Any]) -> None:
    """`catalogue.json` with these entries before those that ship with the package."""
    shipped = Path(__file__).parents[2] / "r2seg_agent" / "segment" / "catalogue" / "catalogue.json"
    found = json.loads(shipped.read_text())
    found["entries"] = [*entries, *found["entries"]]
    (folder / "catalogue.json").write_text(json.dumps(found))


def files_below(folder: Path) -> dict[str, bytes]:
    """All files of a folder, as a server has them: "/fold_0/checkpoint_final.pth"."""
    return {
        f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def zip_of(members: dict[str, bytes]) -> bytes:
    """A zip archive with these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()
