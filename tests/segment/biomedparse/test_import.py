"""`r2seg weights import`: only a sound file gets into the cache, whole, with its licence told."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from r2seg_agent.cli.weights import app
from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.segment import weights as module
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.weights import file_sha256, note_of
from r2seg_agent.segment.weights import fetch, import_file, require, verify, weights_info, weights_path

LEFTOVER = "sem_seg_head.predictor.pn_indicator.weight"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: BiomedParseConfig) -> Path:
    """An empty cache; BiomedParse is the tiny network."""
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("R2SEG_BIOMEDPARSE", raising=False)
    monkeypatch.setattr("r2seg_agent.segment.biomedparse.config.RELEASED", tiny_config)
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path, tiny: BiomedParse) -> Path:
    path = tmp_path / "downloads" / "model.pt"
    path.parent.mkdir()
    torch.save(dict(tiny.state_dict()) | {LEFTOVER: torch.ones(2)}, path)
    return path


def nothing_in(cache: Path) -> bool:
    return not list(cache.glob("**/*.pt*"))


def test_the_file_is_copied_and_reported(cache: Path, file: Path) -> None:
    ran = CliRunner().invoke(app, ["import", str(file)], catch_exceptions=False)
    place = cache / "weights" / "biomedparse_v1.pt"
    assert place.read_bytes() == file.read_bytes()
    for words in (str(place), hashlib.sha256(file.read_bytes()).hexdigest(), LEFTOVER, "non-commercial", "Next: r2seg"):
        assert words in ran.stdout
    assert weights_path("biomedparse") == require("biomedparse") == verify("biomedparse") == place
    assert fetch("biomedparse") == place
    assert {p.name for p in place.parent.iterdir()} == {"biomedparse_v1.pt", "biomedparse_v1.pt.json"}
    assert "undamaged" in CliRunner().invoke(app, ["verify", "biomedparse"]).stdout


def test_importing_again_and_importing_the_copy_itself(cache: Path, file: Path) -> None:
    first = import_file(file, "biomedparse")
    assert import_file(file) == first
    assert import_file(first.path) == first


def test_the_hash_is_noted_for_as_long_as_the_file_stays(cache: Path, file: Path) -> None:
    done = import_file(file)
    note = note_of(done.path)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"sha256": "noted"}))
    assert file_sha256(done.path) == "noted"
    os.utime(done.path, (1, 1))
    assert file_sha256(done.path) == done.sha256
    note.write_text("{")
    assert file_sha256(done.path) == done.sha256


def test_a_file_that_changed_since_its_import_is_found(cache: Path, file: Path, tiny: BiomedParse) -> None:
    done = import_file(file)
    torch.save(dict(tiny.state_dict()), done.path)
    with pytest.raises(MissingDependencyError, match="damaged or another file"):
        verify("biomedparse")


def test_a_flipped_byte_is_found(cache: Path, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(InputError, match="damaged inside"):
        import_file(file)
    assert nothing_in(cache)


class Code:
    """What a malicious file holds: a call that unpickling would make."""

    def __reduce__(self):
        return (os.system, ("exit 0",))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"<html>404</html>", "cut off or no PyTorch weights file"),
        ({"state_dict": {"model.weight": torch.ones(1)}, "epoch": 3}, "training checkpoint.*v2"),
        ({"weight": Code()}, "could run code and are never loaded"),
        ({"backbone.other": torch.ones(1)}, "those of another model"),
    ],
)
def test_other_files_are_refused(cache: Path, file: Path, contents: object, words: str) -> None:
    if isinstance(contents, bytes):
        file.write_bytes(contents)
    else:
        torch.save(contents, file)
    with pytest.raises(InputError, match=words) as caught:
        import_file(file)
    assert "microsoft/BiomedParse" in caught.value.hint
    assert nothing_in(cache)


def test_a_truncated_file(cache: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(InputError, match="cut off"):
        import_file(file, "biomedparse")
    assert nothing_in(cache)


def test_the_wrong_name(cache: Path, file: Path) -> None:
    with pytest.raises(InputError, match="not the weights of `lite-medsam`"):
        import_file(file, "lite-medsam")
    with pytest.raises(InputError, match="there are no weights `sam`"):
        import_file(file, "sam")
    with pytest.raises(InputError, match="there is no file"):
        import_file(file.parent)


def test_weights_of_a_known_hash_are_recognised(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"known bytes")
    known = weights_info("lite-medsam").model_copy(
        update={"size_bytes": 11, "sha256": hashlib.sha256(b"known bytes").hexdigest()}
    )
    monkeypatch.setattr(module, "WEIGHTS", {**module.WEIGHTS, "lite-medsam": known})
    assert import_file(file).path == cache / "weights" / "lite_medsam.pth"
    assert verify("lite-medsam").read_bytes() == b"known bytes"


def test_a_full_disk_leaves_nothing_behind(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(RunFailedError, match="No space left"):
        import_file(file)
    assert nothing_in(cache)


def test_missing_weights_say_how_to_get_them(cache: Path) -> None:
    with pytest.raises(MissingDependencyError, match="non-commercial") as caught:
        require("biomedparse")
    assert "r2seg weights import" in caught.value.hint
    assert "never downloads" in caught.value.hint


def test_the_variable_names_the_place(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_BIOMEDPARSE", str(file))
    assert weights_path("biomedparse") == verify("biomedparse") == file
