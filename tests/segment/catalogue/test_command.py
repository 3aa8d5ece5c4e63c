"""`r2seg models` as a person meets it."""

from __future__ import annotations

import io
import json
import sys
from typing import NamedTuple

import pytest
from helpers.model_mirror import Mirror

from r2seg_agent.cli import _ask
from r2seg_agent.cli.main import main
from r2seg_agent.segment.catalogue import arrive

NC = "CC-BY-NC-SA-4.0"


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mirror: Mirror):
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["r2seg", "models", *arguments])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


def test_the_list_fits_80_columns_and_shows_what_is_here(models, mirror: Mirror) -> None:
    models("fetch", "tiny-bundle", "--from", mirror.server.address, "--accept", NC)
    out = models("list").out
    assert max(map(len, out.splitlines())) <= 80
    rows = {line.split()[0]: line for line in out.splitlines() if line[1:2].strip()}
    assert rows["tiny-bundle"].rstrip().endswith("yes")
    assert rows["panther"].rstrip().endswith("no")
    assert rows["biomedparse-v2"].rstrip().endswith("–")
    assert {"lite-medsam", "biomedparse", "totalsegmentator"} <= set(rows)


def test_the_list_as_json_has_licences_sources_and_states(models, mirror: Mirror) -> None:
    rows = json.loads(models("list", "--json").out)
    assert rows["panther"]["licence"] == "Apache-2.0"
    assert rows["panther"]["address"].startswith("https://huggingface.co/")
    assert (rows["panther"]["state"], rows["biomedparse-v2"]["state"]) == ("absent", "not fetched")
    assert (rows["lite-medsam"]["kind"], rows["lite-medsam"]["state"]) == ("built in", "absent")


def test_info_fits_80_columns_and_names_source_use_hashes_and_what_is_unproven(models) -> None:
    for name in ("panther", "tiny-bundle", "totalseg-lung-nodules", "biomedparse-v2", "biomedparse"):
        out = models("info", name).out
        assert max(map(len, out.splitlines())) <= 80
        assert "licence" in out
    out = models("info", "panther").out
    for words in ("--segmenter panther", "huggingface.co", "hash pinned on first use", "unproven", "absent"):
        assert words in out


def test_fetching_shows_the_licence_and_how_to_use_the_model_and_prints_its_folder(models, mirror: Mirror) -> None:
    ran = models("fetch", "panther", "--from", mirror.server.address)
    assert ran.status == 0, ran.err
    assert ran.out == f"{mirror.models / 'panther'}\n"
    for words in ("licence Apache-2.0", "--segmenter panther", "Unproven: No network", "· fetch plans.json"):
        assert words in ran.err
    again = models("fetch", "panther", "--quiet")
    assert (again.status, again.out, again.err) == (0, ran.out, "")


def test_a_licence_is_asked_for_at_a_terminal_alone(models, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = ("--from", mirror.server.address)
    ran = models("fetch", "tiny-bundle", *origin)
    assert ran.status == 2
    assert f"add `--accept '{NC}'`" in ran.err
    monkeypatch.setattr(_ask, "can_ask", lambda: True)
    for typed, status in (("\n", 2), ("no\n", 2), ("cc-by-nc-sa-4.0\n", 0)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        ran = models("fetch", "tiny-bundle", *origin)
        assert ran.status == status, typed
        assert f"Type {NC} to accept" in ran.err
        assert "No commercial use." in ran.err


def test_removing_says_how_much_space_is_free_again(models, mirror: Mirror) -> None:
    models("fetch", "panther", "--from", mirror.server.address, "--quiet")
    size = sum(path.stat().st_size for path in (mirror.models / "panther").rglob("*") if path.is_file())
    ran = models("remove", "panther")
    assert ran == Ran(0, f"panther: {size / 1e6:.1f} MB are free again\n", "")
    assert mirror.installed() == []
    assert models("remove", "panther").status == 2


def test_ctrl_c_says_how_to_go_on(models, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arrive, "download", interrupted)
    ran = models("fetch", "panther", "--from", mirror.server.address)
    assert ran.status == 4
    assert "`r2seg models fetch panther` continues from there" in ran.err
    assert mirror.installed() == []


def test_the_built_in_networks_lead_to_their_own_command(models) -> None:
    assert "r2seg weights fetch lite-medsam" in models("fetch", "lite-medsam").err
    assert "r2seg weights import" in models("fetch", "biomedparse").err
    assert models("remove", "lite-medsam").status == 2
    ran = models("fetch", "no-such-model")
    assert ran.status == 2
    assert "there are: tiny-bundle, panther" in ran.err
