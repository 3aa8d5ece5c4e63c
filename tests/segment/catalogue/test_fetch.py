"""`fetch_model`: whole or not at all, hashes compared and pinned, and what a mirror or folder may do wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.file_server import Act
from helpers.model_mirror import Mirror, zip_of

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.segment.catalogue import install as installing
from r2seg_agent.segment.catalogue.arrive import time_left
from r2seg_agent.segment.catalogue.entries import entry_named
from r2seg_agent.segment.catalogue.fetch import Fetched, fetch_model
from r2seg_agent.segment.catalogue.store import record_of, remove_entry, state_of, verify_entry

NC = "CC-BY-NC-SA-4.0"


def _fetch(mirror: Mirror, name: str = "tiny-bundle", origin: str | None = None) -> Fetched:
    return fetch_model(name, origin=origin or mirror.server.address, accepted=[NC], wait=lambda seconds: None)


def test_a_model_is_installed_with_a_record_of_every_file(mirror: Mirror) -> None:
    done = _fetch(mirror, "panther")
    folder = mirror.models / "panther"
    assert done.folders == (folder,)
    assert done.new
    record = record_of(folder)
    assert record is not None
    assert record.origin == "127.0.0.1"
    assert set(record.files) == {
        "plans.json", "dataset.json", "r2seg.json", *(f"fold_{n}/checkpoint_final.pth" for n in range(5)),
    }  # fmt: skip
    assert mirror.installed() == ["panther"]
    assert not (mirror.models / ".parts" / "panther").exists()
    verify_entry(entry_named("panther"))


def test_what_is_here_is_not_asked_for_again(mirror: Mirror) -> None:
    _fetch(mirror)
    requests = len(mirror.server.seen)
    assert not _fetch(mirror).new
    assert len(mirror.server.seen) == requests


def test_only_the_named_member_of_an_archive_is_kept_and_the_manifest_has_its_hash(mirror: Mirror) -> None:
    folder = _fetch(mirror).folders[0]
    assert {path.name for path in folder.iterdir()} == {"model.ts", "bundle.json", "r2seg-fetched.json"}
    record = record_of(folder)
    assert record is not None
    assert json.loads((folder / "bundle.json").read_text())["sha256"] == record.files["model.ts"].sha256


def test_a_licence_with_conditions_must_be_accepted_by_its_name(mirror: Mirror) -> None:
    for accepted in ((), ("MIT",), ("yes",)):
        with pytest.raises(InputError, match=f"{NC}.*No commercial use") as caught:
            fetch_model("tiny-bundle", origin=mirror.server.address, accepted=accepted)
        assert f"--accept '{NC}'" in caught.value.hint
    assert mirror.server.seen == []
    assert fetch_model("tiny-bundle", origin=mirror.server.address, accepted=["cc-by-nc-sa-4.0"]).new


def test_a_cut_download_is_continued_by_the_next_call(mirror: Mirror) -> None:
    mirror.server.script["/tiny_v1.zip"] = [Act(only=500), *[Act(status=503)] * 5]
    with pytest.raises(MissingDependencyError, match="503"):
        _fetch(mirror)
    assert mirror.installed() == []
    assert _fetch(mirror).new
    assert mirror.server.ranges()[-1] == "bytes=500-"


def test_other_bytes_than_the_catalogue_names_are_refused_and_nothing_is_installed(mirror: Mirror) -> None:
    good = mirror.server.files["/tiny_v1.zip"]
    mirror.server.files["/tiny_v1.zip"] = good[:-1] + b"?"
    with pytest.raises(MissingDependencyError, match="sha256"):
        _fetch(mirror)
    assert mirror.installed() == []
    mirror.server.files["/tiny_v1.zip"] = good
    assert _fetch(mirror).new, "the wrong file is not kept as a part"


def test_hashes_are_pinned_at_the_first_fetch_and_outlive_the_model(mirror: Mirror) -> None:
    _fetch(mirror, "panther")
    freed = remove_entry(entry_named("panther")).freed_bytes
    assert freed > sum(len(data) for path, data in mirror.server.files.items() if path != "/tiny_v1.zip")
    mirror.server.files["/fold_3/checkpoint_final.pth"] += b"?"
    with pytest.raises(MissingDependencyError, match=r"fold_3/checkpoint_final.pth.*has changed") as caught:
        _fetch(mirror, "panther")
    assert "remove panther --forget" in caught.value.hint
    assert mirror.installed() == []
    remove_entry(entry_named("panther"), forget=True)
    assert _fetch(mirror, "panther").new


def test_a_file_damaged_later_is_named_and_fetched_anew(mirror: Mirror) -> None:
    folder = _fetch(mirror, "panther").folders[0]
    path = folder / "fold_1" / "checkpoint_final.pth"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    with pytest.raises(MissingDependencyError, match=r"fold_1/checkpoint_final.pth.*damaged"):
        verify_entry(entry_named("panther"))
    assert _fetch(mirror, "panther").new
    assert path.read_bytes() == good
    path.unlink()
    assert state_of(entry_named("panther")) == "incomplete"


def test_a_login_page_or_another_model_in_place_of_the_files_is_refused(mirror: Mirror) -> None:
    good = dict(mirror.server.files)
    for path, data, why in (
        ("/fold_0/checkpoint_final.pth", b"<html>Please log in</html>", "cannot be used"),
        ("/dataset.json", b"<html>Please log in</html>", "not JSON"),
        ("/dataset.json", good["/dataset.json"].replace(b"lesion", b"spleen"), "lesion"),
    ):
        mirror.server.files[path] = data
        if path.startswith("/fold_0"):
            for fold in range(1, 5):
                mirror.server.files[f"/fold_{fold}/checkpoint_final.pth"] = data
        with pytest.raises(MissingDependencyError, match=why) as caught:
            _fetch(mirror, "panther")
        assert "Nothing was installed" in caught.value.hint
        assert mirror.installed() == []
        mirror.server.files.update(good)
        remove_entry(entry_named("panther"), forget=True)


@pytest.mark.parametrize("layout", ["as on the server", "as installed", "all in one folder"])
def test_a_folder_serves_in_place_of_a_server_in_each_layout(mirror: Mirror, tmp_path: Path, layout: str) -> None:
    files = {path.lstrip("/"): data for path, data in mirror.server.files.items() if path != "/tiny_v1.zip"}
    if layout == "all in one folder":
        files = {"sub/x.json": b"", "tiny_v1.zip": mirror.server.files["/tiny_v1.zip"]}
    for path, data in files.items():
        (tmp_path / "stick" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stick" / path).write_bytes(data)
    name = "tiny-bundle" if layout == "all in one folder" else "panther"
    done = _fetch(mirror, name, str(tmp_path / "stick"))
    record = record_of(done.folders[0])
    assert record is not None
    assert record.origin == "a folder"
    assert mirror.server.seen == []
    assert all((tmp_path / "stick" / path).exists() for path in files), "the user's files stay"


def test_a_folder_without_the_files_lists_what_it_must_hold(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no `plans.json`") as caught:
        _fetch(mirror, "panther", str(tmp_path))
    assert "fold_4/checkpoint_final.pth" in caught.value.hint
    with pytest.raises(InputError, match="is no folder"):
        _fetch(mirror, "panther", str(tmp_path / "nowhere"))


def test_a_wrong_file_of_the_user_is_refused_but_not_deleted(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "tiny_v1.zip").write_bytes(b"something else")
    with pytest.raises(MissingDependencyError, match="sha256"):
        _fetch(mirror, origin=str(tmp_path))
    assert (tmp_path / "tiny_v1.zip").exists()


def test_models_that_nothing_here_runs_are_not_fetched(mirror: Mirror) -> None:
    with pytest.raises(InputError, match="no part of r2seg runs it") as caught:
        _fetch(mirror, "medsam2-ct-lesion")
    assert "plug-in" in caught.value.hint


def test_a_second_process_is_sent_away(mirror: Mirror) -> None:
    mirror.models.mkdir(parents=True)
    with FileLock(mirror.models / ".lock"), pytest.raises(InputError, match="another process"):
        _fetch(mirror)


def test_a_disk_that_is_too_small_is_seen_before_the_download(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "SPARE_BYTES", 10**18)
    with pytest.raises(InputError, match="GB free") as caught:
        _fetch(mirror)
    assert "R2SEG_CACHE" in caught.value.hint
    assert mirror.server.seen == []


def test_removing_deletes_unfinished_downloads_and_says_what_is_not_here(mirror: Mirror) -> None:
    entry = entry_named("tiny-bundle")
    with pytest.raises(InputError, match="nothing of the model"):
        remove_entry(entry)
    mirror.server.script["/tiny_v1.zip"] = [Act(only=500), *[Act(status=503)] * 5]
    with pytest.raises(MissingDependencyError):
        _fetch(mirror)
    assert remove_entry(entry).freed_bytes > 500
    assert not (mirror.models / ".parts" / "tiny-bundle").exists()


def test_what_a_killed_process_left_half_made_is_cleared(mirror: Mirror) -> None:
    for clear in (lambda: _fetch(mirror), lambda: remove_entry(entry_named("tiny-bundle"))):
        half = mirror.models / ".part-tiny-bundle-abc" / "tiny-bundle"
        half.mkdir(parents=True)
        (half / "model.ts").write_bytes(b"half")
        clear()
        assert not half.exists()


def test_progress_has_the_size_in_all_and_the_time_left_is_in_words(mirror: Mirror) -> None:
    seen: list[tuple[str, int, int, str]] = []
    fetch_model(
        "tiny-bundle",
        origin=mirror.server.address,
        accepted=[NC],
        progress=lambda stage, done, total, note="": seen.append((stage, done, total, note)),
    )
    size = len(mirror.server.files["/tiny_v1.zip"])
    downloads = [entry for entry in seen if entry[0] == "fetch tiny_v1.zip"]
    assert downloads[-1][1:3] == (size, size)
    assert downloads[-1][3] == f"{size / 1e3:.0f} kB of {size / 1e3:.0f} kB"
    assert [time_left(s) for s in (0.2, 40, 700, 6000)] == ["1 s", "40 s", "12 min", "1 h 40 min"]


def _set_zip(folder: Path, name: str) -> bytes:
    files = {f"{name}/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return zip_of(files)


TINY = Path(__file__).parents[2] / "data" / "tiny_totalseg"
ROUGH = "Dataset298_TotalSegmentator_total_6mm_1559subj"


def test_weights_of_totalsegmentator_go_where_it_looks_for_them(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.files[f"/v2.0.0-weights/{ROUGH}.zip"] = _set_zip(TINY / ROUGH, ROUGH)
    done = _fetch(mirror, "totalsegmentator-fastest")
    assert done.folders == (tmp_path / "totalseg" / ROUGH,)
    assert state_of(entry_named("totalsegmentator-fastest")) == "ready"
    assert state_of(entry_named("totalseg-lung-nodules")) == "incomplete", "the other half of it is not here"
    assert not _fetch(mirror, "totalsegmentator-fastest").new
    assert remove_entry(entry_named("totalsegmentator-fastest")).freed_bytes > 500_000
    assert not done.folders[0].exists()


def test_weights_that_totalsegmentator_put_there_are_used_and_never_removed(mirror: Mirror, tmp_path: Path) -> None:
    shutil.copytree(TINY / ROUGH, tmp_path / "totalseg" / ROUGH)
    assert not _fetch(mirror, "totalsegmentator-fastest").new
    with pytest.raises(InputError, match="was not fetched by"):
        remove_entry(entry_named("totalsegmentator-fastest"))
    assert (tmp_path / "totalseg" / ROUGH).is_dir()


def test_an_archive_without_the_set_of_its_name_or_a_broken_one_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    source = f"/v2.0.0-weights/{ROUGH}.zip"
    for members, why in (
        ({"Dataset999/plans.json": b"{}"}, "does not hold the folder"),
        ({f"{ROUGH}/plans.json": b"{}"}, "cannot be used"),
        ({f"{ROUGH}/../../evil": b"{}"}, "leads out of the folder"),
    ):
        mirror.server.files[source] = zip_of(members)
        with pytest.raises(MissingDependencyError, match=why):
            _fetch(mirror, "totalsegmentator-fastest")
        assert list((tmp_path / "totalseg").iterdir()) == []
        remove_entry(entry_named("totalsegmentator-fastest"), forget=True)


def test_a_broken_set_of_somebody_else_is_named_and_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "totalseg" / ROUGH).mkdir(parents=True)
    with pytest.raises(InputError, match="incomplete or broken") as caught:
        _fetch(mirror, "totalsegmentator-fastest")
    assert "Delete that folder" in caught.value.hint
