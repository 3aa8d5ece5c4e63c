"""One workspace of real runs for all tests of traces; tests that change something work on a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.traced_runs import Case, resealed

from r2seg_agent.trace.run import TracedRun, open_run

CHAT = ("find a liver lesion of Doe^John", "how big is it?", "show me the slice", "use alpha 0.01", "undo that")


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The phantom on disk."""
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="session")
def workspace(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds them all."""
    return tmp_path_factory.mktemp("runs") / "workspace"


@pytest.fixture(scope="session")
def found(case: Case, workspace: Path) -> TracedRun:
    """A search that found the lesion."""
    return _open(workspace, case.find(workspace).folder)


@pytest.fixture(scope="session")
def strict(case: Case, workspace: Path, found: TracedRun) -> TracedRun:
    """The same at another level."""
    return _open(workspace, case.find(workspace, alpha=0.0005).folder)


@pytest.fixture(scope="session")
def nothing(case: Case, workspace: Path) -> TracedRun:
    """A search in which no candidate survived any round."""
    return _open(workspace, case.find(workspace, gates={"min_contrast": 1000.0}).folder)


@pytest.fixture(scope="session")
def modelled(case: Case, workspace: Path) -> TracedRun:
    """A search with a scripted model as the planner."""
    return _open(workspace, case.find_with_model(workspace).folder)


@pytest.fixture(scope="session")
def conformal(case: Case, workspace: Path, found: TracedRun, tmp_path_factory: pytest.TempPathFactory) -> TracedRun:
    """A search judged by a calibration."""
    report = found.report()
    assert report is not None
    file = tmp_path_factory.mktemp("calibration") / "calibration.json"
    return _open(workspace, case.find_by_calibration(workspace, report, file).folder)


@pytest.fixture(scope="session")
def chat(case: Case, workspace: Path) -> TracedRun:
    """A conversation of five turns."""
    return open_run(workspace, case.chat(workspace, *CHAT))


@pytest.fixture(scope="session")
def runs(
    found: TracedRun,
    strict: TracedRun,
    nothing: TracedRun,
    modelled: TracedRun,
    conformal: TracedRun,
    chat: TracedRun,
) -> dict[str, TracedRun]:
    """All of them by name."""
    named = {"found": found, "strict": strict, "nothing": nothing, "modelled": modelled}
    return {**named, "conformal": conformal, "chat": chat}


@pytest.fixture
def rewrite() -> Callable[[TracedRun, str, str], TracedRun]:
    """Replace a text in a run's trace, as a forger would, and open the run again."""

    def change(run: TracedRun, old: str, new: str) -> TracedRun:
        path = run.folder.trace
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return resealed(run)

    return change


def _open(workspace: Path, folder: Path) -> TracedRun:
    return open_run(workspace, folder.name)
