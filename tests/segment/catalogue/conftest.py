"""A mirror on loopback with made-up weights, a catalogue that names them, and an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.bright_lesion import Case, make_case
from helpers.file_server import file_server
from helpers.model_mirror import Mirror, bundle_entry, bundle_zip, panther_files, write_catalogue

from r2seg_agent.segment.catalogue import entries


@pytest.fixture(scope="package")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="package")
def weights(tmp_path_factory: pytest.TempPathFactory, case: Case) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("weights")
    found = panther_files(folder / "panther", case.threshold_hu)
    return {**found, "/tiny_v1.zip": bundle_zip(folder / "bundle", case.threshold_hu)}


@pytest.fixture
def mirror(weights: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "totalseg"))
    write_catalogue(tmp_path, bundle_entry(weights["/tiny_v1.zip"]))
    monkeypatch.setattr(entries, "files", lambda package: tmp_path)
    entries.catalogue.cache_clear()
    with file_server(weights) as server:
        yield Mirror(server, tmp_path / "cache")
    monkeypatch.undo()
    entries.catalogue.cache_clear()
