"""The real library code, tables and networks on an unseen phantom, with the tiny weights in `tests/data`."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.phantoms import phantom as drawn

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom import Phantom
from r2seg_agent.reason.anatomy import classes_for
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource
from r2seg_agent.reason.anchors.totalseg import networks as totalseg_networks
from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource

TINY = Path(__file__).parents[3] / "data" / "tiny_totalseg"
WANTED = ["liver", "lungs", "spleen", "kidney_left", "kidney_right", "pancreas", "vertebrae_L1"]
UNSEEN_SEED = 424_242
"""Training draws seeds below 100 000."""


@pytest.fixture(scope="module")
def source() -> TotalSegmentatorSource:
    return TotalSegmentatorSource("fastest", "cpu", TINY)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return drawn(UNSEEN_SEED, spacing_mm=(5.0, 2.5, 2.0), phase="venous")


@pytest.fixture(scope="module")
def located(source: TotalSegmentatorSource, phantom: Phantom) -> AnchorSet:
    return source.locate(phantom.volume, WANTED)


def _dice(found: Mask, truth: Mask) -> float:
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize(
    ("organ", "at_least"),
    [
        ("liver", 0.9),
        ("lungs", 0.92),
        ("spleen", 0.8),
        ("kidney_left", 0.8),
        ("kidney_right", 0.8),
        ("pancreas", 0.6),
        ("vertebrae_L1", 0.7),
    ],
)
def test_organs_of_an_unseen_phantom_are_found(located: AnchorSet, phantom: Phantom, organ: str, at_least: float):
    truth = phantom.organ(*classes_for(organ, "total"))
    assert _dice(located.mask(organ), truth) > at_least


def test_names_are_organs_and_values_are_the_classes(located: AnchorSet, phantom: Phantom):
    value = {name: index for index, name in phantom.class_names.items()}
    assert located.names["liver"] == (value["liver"],)
    assert located.names["kidneys"] == tuple(sorted((value["kidney_left"], value["kidney_right"])))
    assert len(located.names["lungs"]) == 5
    assert {"liver", "lungs", "heart", "aorta", "vertebrae_L1"} <= set(located.in_view())
    assert "brain" not in located.in_view()
    assert located.names["brain"], "searched and not found, but named"


def test_grid_is_the_scans(located: AnchorSet, phantom: Phantom):
    assert located.labels.shape == phantom.volume.array.shape
    assert located.labels.dtype == np.uint8
    assert located.geometry == phantom.volume.geometry


def _reoriented(volume: Volume, order: tuple[int, int, int], flips: tuple[int, ...], turn: np.ndarray) -> Volume:
    """The same patient stored with permuted and flipped array axes and turned by `turn` in space."""
    geometry = volume.geometry
    array = np.flip(volume.array.transpose(order), flips)
    corner = [0.0, 0.0, 0.0]
    for axis in flips:
        corner[order[axis]] = geometry.shape[order[axis]] - 1.0
    columns = geometry.direction_matrix[:, [2 - a for a in order][::-1]].copy()
    for axis in flips:
        columns[:, 2 - axis] *= -1
    moved = Geometry(
        shape=array.shape,
        spacing_mm=tuple(geometry.spacing_mm[a] for a in order),
        origin_lps_mm=tuple(float(v) for v in turn @ geometry.to_lps_mm(np.array(corner))),
        direction=tuple(float(v) for v in (turn @ columns).ravel()),
    )
    return Volume(array=array, geometry=moved, modality="CT", unit="HU")


def _turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize(
    ("order", "flips", "degrees"), [((0, 1, 2), (0, 2), 0.0), ((2, 0, 1), (1,), 0.0), ((1, 2, 0), (0, 1), 12.0)]
)
def test_however_the_scan_is_stored_the_answer_is_the_same(source, located, phantom, order, flips, degrees):
    volume = _reoriented(phantom.volume, order, flips, _turn(degrees))
    found = source.locate(volume, WANTED)
    assert found.geometry == volume.geometry
    assert np.array_equal(found.labels, np.flip(located.labels.transpose(order), flips))


def test_networks_stay_loaded(source, located, phantom, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(totalseg_networks, "_load_predictor", never)
    again = source.locate(phantom.volume, WANTED)
    assert np.array_equal(again.labels, located.labels)


def test_no_network_no_files_no_noise(phantom, located, tmp_path, monkeypatch, capfd):
    """A fresh source on a machine whose user allowed usage statistics: nothing is sent, written or printed."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("tried to use the network")

    home = tmp_path / "home"
    home.mkdir()
    config = '{"totalseg_id": "x", "send_usage_stats": true, "prediction_counter": 7}'
    (home / "config.json").write_text(config)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    before = sorted(TINY.rglob("*"))
    source = TotalSegmentatorSource("fastest", "cpu", TINY)
    source.check("CT", WANTED)
    found = source.locate(phantom.volume, WANTED)
    assert np.array_equal(found.labels, located.labels)
    assert (home / "config.json").read_text() == config
    assert sorted(tmp_path.rglob("*")) == [home, home / "config.json"]
    assert sorted(TINY.rglob("*")) == before
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_progress_rises_to_the_end(source, phantom):
    seen: list[tuple[int, int, str]] = []
    source.locate(phantom.volume, ["liver"], lambda stage, done, total, note="": seen.append((done, total, note)))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert any("tile" in note for _, _, note in seen)


def test_info_says_what_ran(source: TotalSegmentatorSource, located: AnchorSet):
    assert isinstance(source, AnchorSource)
    assert located.info == source.info_for("CT", WANTED)
    assert located.info.stand_in
    assert located.info.settings["quality"] == "fastest"
    assert located.info.settings["networks"] == "298"
    assert located.info.settings["tasks"] == "total"
    assert located.info.weights_sha256 == source.info.weights_sha256
    assert len(located.info.weights_sha256 or "") == 64


def test_organs_by_modality(source: TotalSegmentatorSource):
    assert {"liver", "vertebrae_L1", "liver_segment_4", "heart_atrium_left"} <= source.organs("CT")
    assert {"liver", "brain", "liver_segment_4"} <= source.organs("MR")
    assert "vertebrae_L1" in source.organs("MR"), "by the sub-task vertebrae_mr"
    assert source.organs("US") == frozenset()


def _volume(**change: object) -> Volume:
    given = {
        "array": np.zeros((4, 5, 6), dtype=np.int16),
        "geometry": Geometry(shape=(4, 5, 6), spacing_mm=(1, 1, 1)),
        "modality": "CT",
        "unit": "HU",
    }
    return Volume(**(given | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "arbitrary"}, "Hounsfield"),
        ({"modality": "US", "unit": "arbitrary"}, "CT and MR"),
        (
            {
                "array": np.zeros((1, 5, 6), dtype=np.int16),
                "geometry": Geometry(shape=(1, 5, 6), spacing_mm=(1, 1, 1), known_spacing="yx"),
            },
            "3D scan",
        ),
    ],
)
def test_scans_it_cannot_read_are_refused(source, change, words):
    with pytest.raises(InputError, match=words):
        source.locate(_volume(**change), ["liver"])


def test_missing_weights_stop_locate_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(totalseg_networks, "_load_predictor", lambda *_: pytest.fail("loaded"))
    with pytest.raises(MissingDependencyError, match="297"):
        TotalSegmentatorSource("fast", weights_dir=tmp_path).locate(_volume(), ["liver"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_gpu_is_said_before_work():
    with pytest.raises(MissingDependencyError, match="`cuda` was asked for") as error:
        TotalSegmentatorSource("fastest", "cuda", TINY).check("CT", ["liver"])
    assert "`cpu` or `auto`" in error.value.hint


def test_an_empty_scan_has_no_organs(source):
    air = _volume(
        array=np.full((20, 30, 30), -1000, dtype=np.int16), geometry=Geometry(shape=(20, 30, 30), spacing_mm=(6, 6, 6))
    )
    assert source.locate(air, ["liver"]).volumes_ml()["liver"] < 5
