"""`r2seg chat` in a real pseudo-terminal: what a person sees and what their keys do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.phantoms import liver_phantom

pytest.importorskip("pty", reason="pseudo-terminals are a thing of Linux and macOS")

from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from studies.pages.terminal import Terminal, plain_environment, r2seg_command
from studies.pages.terminal_picture import write_picture

PROMPTS = ("›", "answer ›")
SECONDS = 600.0
"""When waiting counts as hanging: no time limit of what is tested."""
TAB, CTRL_C, CTRL_D = "\t", "\x03", "\x04"
SEGMENTING = r"segment lesions, target 1 .*0:\d\d:\d\d"
"""The line with the spinner, not the one that a finished tool leaves."""
SLOW = """
import pathlib, sys, time
import r2seg_agent.segment.contrast as contrast
quick = contrast.ContrastSegmenter.segment
def slow(*args, **kwargs):
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    return quick(*args, **kwargs)
contrast.ContrastSegmenter.segment = slow
sys.argv[0] = "r2seg"
from r2seg_agent.cli.main import main
main()
"""
"""`r2seg` whose segmenter waits for the file `go`."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    phantom = liver_phantom()
    write_itk(folder / "ct.nrrd", np.asarray(phantom.volume.array), phantom.volume.geometry)
    write_label_map(folder / "organs.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    return folder


ARGUMENTS = ("ct.nrrd", "--anchors", "organs.nii.gz", "--modality", "CT", "--segmenter", "contrast")


@pytest.fixture
def folder(scan: Path, tmp_path: Path) -> Path:
    for path in scan.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    command = r2seg_command("chat", *ARGUMENTS, "--pictures", "blocks")
    with Terminal(command, environment=plain_environment(), folder=folder) as opened:
        opened.wait_still(PROMPTS, SECONDS)
        yield opened


def test_a_person_talks_completes_resizes_and_leaves(terminal: Terminal, folder: Path) -> None:
    assert "contrast · alpha 0.05" in terminal.screen().splitlines()[-1], "the toolbar"
    terminal.type("/fin" + TAB)
    terminal.wait_for("/findings", SECONDS)
    terminal.type(CTRL_C)
    terminal.line("find a liver lesion")
    terminal.wait_still(PROMPTS, SECONDS)
    assert re.search(r"✓ segment lesions, target 1  \d+\.\d s", terminal.screen())
    assert "1 finding for lesion of liver" in terminal.screen()
    terminal.resize(70, 30)
    terminal.line("/show 1 coronal")
    terminal.wait_still(PROMPTS, SECONDS)
    assert "▀" * 60 in terminal.transcript()
    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-C again leaves", SECONDS)
    terminal.type(CTRL_C)
    assert terminal.wait_end(SECONDS) == 0
    assert re.search(r"r2seg chat --resume chat-\w+ continues it", terminal.transcript())
    write_picture(terminal.cells(), folder / "terminal.png")
    assert (folder / "terminal.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_ends_after_the_step_and_at_once_when_pressed_again(folder: Path) -> None:
    command = [sys.executable, "-c", SLOW, "chat", *ARGUMENTS]
    with Terminal(command, environment=plain_environment(), folder=folder) as terminal:
        terminal.wait_still(PROMPTS, SECONDS)
        terminal.line("find a liver lesion")
        terminal.wait_for(SEGMENTING, SECONDS)
        terminal.type(CTRL_C)
        terminal.wait_for("finishing this step", SECONDS)
        (folder / "go").touch()
        terminal.wait_for("/continue continues the request", SECONDS)
        terminal.wait_still(PROMPTS, SECONDS)
        assert re.search(r"✓ segment lesions", terminal.screen()), "the step was finished"
        assert "reject candidates" not in terminal.screen()
        (folder / "go").unlink()
        terminal.line("/fork 1")
        terminal.wait_still(PROMPTS, SECONDS)
        terminal.line("find a spleen lesion")
        terminal.wait_for(SEGMENTING, SECONDS)
        terminal.type(CTRL_C)
        terminal.wait_for("finishing this step", SECONDS)
        terminal.type(CTRL_C)
        assert terminal.wait_end(SECONDS) == 4
        assert "Left. r2seg chat --resume" in terminal.transcript()
        assert "Traceback" not in terminal.transcript()


def test_a_dumb_terminal_without_colour_gets_plain_lines(folder: Path) -> None:
    command = r2seg_command("chat", *ARGUMENTS)
    plain = plain_environment(TERM="dumb", NO_COLOR="1")
    with Terminal(command, environment=plain, folder=folder) as terminal:
        terminal.wait_for("/help lists commands", SECONDS)
        terminal.line("find a liver lesion")
        terminal.wait_for("Findings, reject mode", SECONDS)
        terminal.wait_still(PROMPTS, SECONDS)
        terminal.type(CTRL_D)
        assert terminal.wait_end(SECONDS) == 0
        assert b"\x1b[1m" not in terminal.raw
        assert "· segment lesions, target 1" in terminal.transcript()
