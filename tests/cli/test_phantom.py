"""`r2seg phantom` end to end: a data set that `batch` and `calibrate` take as it is."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest


def _r2seg(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "r2seg_agent", *arguments], capture_output=True, text=True, cwd=home, check=False
    )


SMALL = ("--fov", "core", "--spacing", "6", "--quiet")


@pytest.mark.slow
def test_phantoms_go_through_batch(tmp_path: Path):
    made = _r2seg("phantom", "--cases", "2", "--out", "set", "--volume-ml", "6..9", "--contrast", "-70..-60",
                  "--noise", "6", "--look", "even", *SMALL, home=tmp_path)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "2 SYNTHETIC patients" in made.stdout
    assert "r2seg batch set/cases.csv --synthetic" in made.stdout
    run = _r2seg("batch", "set/cases.csv", "--synthetic", "--segmenter", "contrast", "--out", "results", "--quiet",
                 home=tmp_path)  # fmt: skip
    assert run.returncode == 0, run.stderr
    with (tmp_path / "results" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["phantom-00001", "phantom-00002"]
    assert {row["status"] for row in rows} == {"done"}
    more = _r2seg("phantom", "--cases", "3", "--out", "set", "--volume-ml", "6..9", "--contrast", "-70..-60",
                  "--noise", "6", "--look", "even", *SMALL, home=tmp_path)  # fmt: skip
    assert "3 SYNTHETIC patients, 2 of them from before" in more.stdout


def test_lesion_free_phantoms_lead_to_calibrate(tmp_path: Path):
    made = _r2seg("phantom", "-n", "1", "--lesion-free", "--out", "free", *SMALL, home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert '--target "liver lesion"' in made.stdout
    assert (tmp_path / "free" / "lesions.csv").read_text(encoding="utf-8").count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--volume-ml", "many"), "Give a number, or a range"),
        (("--spacing", "1,2"), "three as z,y,x"),
        (("--organ", "lung", "--fov", "dome"), "too little lung"),
        (("--look", "furry"), "Looks: even"),
    ],
)
def test_wrong_wishes_end_in_one_readable_message(tmp_path: Path, arguments: tuple[str, ...], words: str):
    made = _r2seg("phantom", "--out", "set", *arguments, home=tmp_path)
    assert made.returncode == 2
    assert words in made.stderr
    assert "Traceback" not in made.stderr
