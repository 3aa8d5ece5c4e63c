"""The arithmetic of docs/evidence/scale.md against counting and simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.batch_workers import act

from r2seg_agent.batch.row import make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.datasets.case import Case
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.runs.options import RunOptions
from studies.scale import (
    folders_per_case,
    kept_per_case,
    lesion_free_cases_needed,
    losses,
    main,
    spread,
)


def test_what_a_batch_keeps_is_counted_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cases = []
    for number in range(3):
        (tmp_path / "in" / f"{number}.nii").touch()
        cases.append(Case(image=str(tmp_path / "in" / f"{number}.nii"), patient=str(number), request="ok"))
    out = tmp_path / "out"
    run_batch(make_jobs(tuple(cases), None, RunOptions()), out, work=act)
    (out / "artifacts" / "ab").mkdir(parents=True)
    (out / "artifacts" / "ab" / "cd").write_bytes(b"x" * 300)
    for number in range(3):
        (out / "runs" / f"{number}").mkdir()
        (out / "runs" / f"{number}" / "overlay.png").write_bytes(b"y" * 1000)
    kept = kept_per_case(out)
    assert kept["overlay.png"] == (1.0, 1000.0)
    assert kept["artifacts/"] == (pytest.approx(1 / 3), 100.0)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert sum(one.files for one in kept.values()) == pytest.approx(len(files) / 3)
    assert sum(one.bytes for one in kept.values()) == pytest.approx(sum(path.stat().st_size for path in files) / 3)
    assert folders_per_case(out) == pytest.approx(sum(path.is_dir() for path in out.rglob("*")) / 3)


@pytest.mark.parametrize("prevalence", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("power", [1.0, 0.7])
def test_the_number_of_lesion_free_cases_is_where_bh_first_flags(prevalence: float, power: float) -> None:
    """Scans at the smallest p, one in n + 1 of the others among them, the rest at 1: flagged from n on, not before."""
    n = lesion_free_cases_needed(prevalence, power=power)
    scans = 1_000_000
    for cases, flags in ((n + 1, True), (n - 2, False)):  # 1: a scan more or less is rounded away
        at_floor = round(scans * (prevalence * power + (1 - prevalence) / (cases + 1)))
        p = np.ones(scans)
        p[:at_floor] = 1 / (cases + 1)
        assert bool((benjamini_hochberg(p) <= 0.05).any()) is flags


def test_flagging_holds_its_level_over_calibrations_and_finds_with_twice_the_cases() -> None:
    n = 2 * lesion_free_cases_needed(0.2)
    one = spread(n, 0.2, np.random.default_rng(1), scans=4000, repeats=120)
    assert one.mean <= 0.05 + 2 * 0.05 / np.sqrt(120)
    assert one.found > 0.95
    assert one.high > one.mean


def test_losses_are_those_that_a_simulation_counts() -> None:
    one = losses(100_000, 36.0, 100, 10, crash=0.01, node_hours=1.0)
    assert one.hours == pytest.approx(10.0)
    assert one.nodes_lost == pytest.approx(100.0)
    rng = np.random.default_rng(3)
    first, second = (rng.random(100_000) < 0.01 + 0.01 for _ in range(2))
    assert one.again == pytest.approx(first.sum(), rel=0.1)
    assert one.crashed == pytest.approx((first & second).sum(), rel=0.5)


def test_tables_are_printed_from_a_folder_and_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tables", "--scans", "300"])
    told = capsys.readouterr().out
    assert "300 rows" in told
    assert "BH over all p-values" in told
    main(["--driver", "4", "--workers", "1"])
    assert "| local | 4 | 1 |" in capsys.readouterr().out
