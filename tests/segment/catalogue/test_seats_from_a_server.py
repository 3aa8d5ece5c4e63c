"""Models that take prompts, and VISTA3D, from a server that serves, cuts off, damages and redirects."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from helpers import fake_nninteractive, fake_voxtell
from helpers.file_server import Act, FileServer, file_server
from helpers.prompted_models import write_nninteractive, write_voxtell
from monai.networks.nets import vista3d132

from r2seg_agent.errors import MissingDependencyError, R2SegError
from r2seg_agent.segment.catalogue.entries import entry_named
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.registry import segmenter


def _vista3d(folder: Path) -> None:
    folder.mkdir()
    stream = io.BytesIO()
    torch.save(vista3d132(encoder_embed_dim=8).state_dict(), stream)
    (folder / "model.pt").write_bytes(stream.getvalue())


@pytest.fixture(params=["nninteractive", "voxtell", "vista3d"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """(name, server with its files under the paths of the release, path of its weights)."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    fake_nninteractive.install(monkeypatch)
    fake_voxtell.install(monkeypatch)
    entry, folder = entry_named(request.param), tmp_path / "files"
    if request.param == "vista3d":
        _vista3d(folder)
    elif request.param == "voxtell":
        write_voxtell(folder, {"liver lesion": [1.0, 1.0]})
    else:
        write_nninteractive(folder, channel=0, threshold=1.0)
    files = {f"/{file.source}": (folder / file.place).read_bytes() for file in entry.files}
    (weights,) = [f"/{file.source}" for file in entry.files if file.source.endswith((".pth", ".pt"))]
    with file_server(files) as server:
        yield request.param, server, weights


Served = tuple[str, FileServer, str]


def fetched(served: Served) -> Path:
    name, server, _ = served
    return fetch_model(
        name, origin=server.address, accepted=[entry_named(name).licence], wait=lambda seconds: None
    ).folders[0]


def test_what_is_cut_off_is_continued_and_a_redirect_inside_the_host_is_followed(model: Served) -> None:
    name, server, weights = model
    server.files["/elsewhere"] = server.files[weights]
    server.script[weights] = [Act(only=1000), Act(status=302, headers={"Location": f"{server.address}/elsewhere"})]
    folder = fetched(model)
    assert any(kept == "bytes=1000-" for kept in server.ranges())
    found = segmenter(name)
    found.check("CT")
    assert found.info.weights_sha256 is not None
    requests = len(server.seen)
    assert fetched(model) == folder
    assert len(server.seen) == requests, "what is here needs no network"


def test_damaged_weights_and_a_login_page_are_refused_and_the_true_ones_taken_afterwards(model: Served) -> None:
    name, server, weights = model
    true = server.files[weights]
    for wrong in (true[: len(true) // 2] + bytes(100), b"<!DOCTYPE html><html>sign in</html>"):
        server.files[weights] = wrong
        with pytest.raises(MissingDependencyError, match=f"what arrived for `{name}` cannot be used"):
            fetched(model)
        with pytest.raises(R2SegError, match="is not on this machine"):
            segmenter(name)
    server.files[weights] = true
    assert fetched(model).is_dir()


def test_a_redirect_to_another_host_is_refused(model: Served) -> None:
    _, server, weights = model
    server.script[weights] = [Act(status=302, headers={"Location": "http://127.0.0.2:9/weights"})] * 20
    with pytest.raises(R2SegError, match="127.0.0.2"):
        fetched(model)


def test_weights_that_changed_since_the_first_download_are_refused(model: Served) -> None:
    from r2seg_agent.segment.catalogue.store import remove_entry

    name, server, weights = model
    fetched(model)
    remove_entry(entry_named(name))
    server.files[weights] = server.files[weights] + bytes(10)
    with pytest.raises(MissingDependencyError, match="has changed"):
        fetched(model)
