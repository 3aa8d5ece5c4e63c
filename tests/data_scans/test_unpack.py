"""Archives of strangers: nothing leaves the folder, nothing grows beyond what is expected."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from r2seg_agent.data.unpack import MAX_FILES, Limits, unpack, unpack_member
from r2seg_agent.errors import MissingDependencyError

LIMITS = Limits(1_000_000)


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(info, data)
    return path


def _tar(path: Path, members: dict[str, bytes], **changes: object) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            bundle.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_plain_archive_is_unpacked_whole_or_one_member_of_it(make, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", {"top/plans.json": b"{}", "top/fold_0/w.pth": b"weights"})
    assert unpack(archive, tmp_path / "out", LIMITS) == ("top/plans.json", "top/fold_0/w.pth")
    assert (tmp_path / "out" / "top" / "fold_0" / "w.pth").read_bytes() == b"weights"
    unpack_member(archive, "top/fold_0/w.pth", tmp_path / "one" / "w.pth", LIMITS)
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["w.pth"]
    with pytest.raises(MissingDependencyError, match=r"holds no `other`"):
        unpack_member(archive, "other", tmp_path / "one" / "x", LIMITS)


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "a\\..\\evil", "C:/evil", "C:evil"])
@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_path_out_of_the_folder_is_refused_before_anything_is_written(make, name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", {"good": b"1", name: b"2"})
    with pytest.raises(MissingDependencyError, match="leads out of the folder"):
        unpack(archive, tmp_path / "out", LIMITS)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a", {"good": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(MissingDependencyError, match="link or a device"):
        unpack(archive, tmp_path / "out", LIMITS)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as bundle:
        info = zipfile.ZipInfo("fold_0")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(info, "/etc")
    with pytest.raises(MissingDependencyError, match="link or a device"):
        unpack(tmp_path / "a", tmp_path / "out", LIMITS)


@pytest.mark.parametrize("make", [_zip, _tar])
def test_too_many_and_too_large_files_are_refused(make, tmp_path: Path) -> None:
    many = make(tmp_path / "many", {f"f{n}": b"" for n in range(MAX_FILES + 1)})
    with pytest.raises(MissingDependencyError, match=f"{MAX_FILES}"):
        unpack(many, tmp_path / "out", LIMITS)
    large = make(tmp_path / "large", {"zeros": bytes(2_000_000)})
    assert large.stat().st_size < 10_000
    with pytest.raises(MissingDependencyError, match="unpacks to 2 MB"):
        unpack(large, tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_a_zip_that_states_a_false_size_is_stopped_while_it_is_unpacked(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a", {"zeros": bytes(5_000_000)})
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1000)  # the size in the central directory, which zipfile believes
    archive.write_bytes(bytes(data))
    with pytest.raises(MissingDependencyError, match="refused"):
        unpack(archive, tmp_path / "out", Limits(1000))
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 1000


def test_names_that_collide_on_some_systems_are_refused(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a", {"Plans.json": b"1", "plans.json": b"2"})
    with pytest.raises(MissingDependencyError, match="in it twice"):
        unpack(archive, tmp_path / "out", LIMITS)


def test_a_damaged_archive_and_a_web_page_are_refused(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a", {"w": bytes(range(256)) * 40})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(bytes(data))
    with pytest.raises(MissingDependencyError, match="damaged"):
        unpack(archive, tmp_path / "out", LIMITS)
    (tmp_path / "page").write_text("<html>Please log in</html>")
    with pytest.raises(MissingDependencyError, match="no whole zip or tar archive"):
        unpack(tmp_path / "page", tmp_path / "out", LIMITS)
