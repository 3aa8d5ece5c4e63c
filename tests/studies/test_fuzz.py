"""A short run of the fuzzer stands in the tests; `make fuzz` is the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

from studies.fuzz import mutate
from studies.fuzz.watch import Watch

DOCUMENT = {"a": [1, {"b": "x"}], "c": {"d": None}}


def test_every_entrance_takes_damaged_inputs() -> None:
    command = [sys.executable, "-m", "studies.fuzz", "--inputs", "120", "--seconds", "900", "--seed", "7"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
    assert " inputs in " in ended.stdout
    assert ended.stdout.count("\n| ") == 12


@given(mutate.json_edits())
def test_edited_documents_are_still_json(edits: mutate.Edits) -> None:
    json.loads(json.dumps(mutate.edit_json(DOCUMENT, edits)))
    assert DOCUMENT == {"a": [1, {"b": "x"}], "c": {"d": None}}


def test_writes_outside_are_noted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    watch = Watch(tmp_path / "in")
    watch.on = True
    try:
        (tmp_path / "in" / "a").write_text("x")
        (tmp_path / "in" / "a").read_text()
        assert watch.seen == []
        (tmp_path / "b").write_text("x")
        os.rename(tmp_path / "b", tmp_path / "c")
        os.remove(tmp_path / "c")
    finally:
        watch.on = False
    assert [seen.split()[0] for seen in watch.seen] == ["open", "os.rename", "os.rename", "os.remove"]


@pytest.mark.slow
def test_a_hang_a_death_and_a_crash_are_told(tmp_path: Path) -> None:
    """A target that does all three, in place of the real ones."""
    script = """
import os, sys, time
from hypothesis import strategies as st
import studies.fuzz.__main__ as fuzz, studies.fuzz.targets as targets, studies.fuzz.work as work
fuzz.ASLEEP_S = 1.0
def misbehave(given, seeds, work):
    if given == 1: time.sleep(60)
    if given == 2: os._exit(3)
    if given == 3: raise KeyError("a bug")
def none(folder): folder.mkdir(parents=True)
names = enumerate(("well", "hangs", "dies", "fails"))
one = [targets.Target(name, 1, st.just(n), misbehave, none) for n, name in names]
targets.TARGETS = work.TARGETS = tuple(one)
sys.argv = ["fuzz", "--inputs", "4", "--seconds", "30"]
sys.exit(fuzz.main())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    rows = {line.split(" | ")[0][2:]: line.split(" | ") for line in ended.stdout.splitlines() if line.startswith("| ")}
    assert (rows["well"][4], rows["hangs"][5], rows["dies"][6], rows["fails"][4]) == ("0", "3", "3", "1"), ended.stdout
    assert "KeyError" in ended.stderr


@pytest.mark.parametrize("edits", [[("cut", 0, None)], [("set", 3, 255)], [("take", 0, 12), ("put", 5, b"xyz")]])
def test_edits_of_bytes_are_the_same_every_time(edits: mutate.Edits) -> None:
    data = bytes(range(64))
    assert mutate.edit_bytes(data, edits) == mutate.edit_bytes(data, edits) != data
