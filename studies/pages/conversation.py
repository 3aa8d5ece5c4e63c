"""`make conversation`: record real sessions of `r2seg chat` in a pseudo-terminal; writes guide/conversation-example.md.

What stands in the page is what a person sees: the command runs in a terminal emulator, the lines are typed, and the
screen with all that has scrolled off is kept. The offline planner answers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from textwrap import fill

import numpy as np

from r2seg_agent.cli.conversation.input import ANSWER_PROMPT, PROMPT
from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.phantom import Acquisition, LesionSpec, Scanner, make_phantom
from r2seg_agent.version import __version__
from studies.pages.terminal import Terminal, plain_environment, r2seg_command
from studies.pages.terminal_picture import write_picture

PAGE = Path("docs/guide/conversation-example.md")
PICTURE = Path("docs/images/chat.png")
TINY_WEIGHTS = Path("tests/data/tiny_totalseg")
PHANTOM_SEED = 17
PHANTOM_MM = (4.0, 4.0, 4.0)
"""The phantom that the tests of the conversation search, too."""
LIVER_LESION = LesionSpec("liver", volume_ml=12.0, contrast=-70.0)
TURN_SECONDS = 300.0
PAGE_COLUMNS = 120

LUNG = (
    "find the lung nodule",
    "how big is it?",
    "1",
    "where exactly?",
    "why did you reject the second one?",
    "show me the slice",
    "use alpha 0.01",
    "undo that",
    "what about the liver?",
    "what did you do so far?",
)
LIVER = (
    "find a liver lesion",
    "how big is it?",
    "where exactly?",
    "why did you reject the second one?",
    "/rejected",
    "look wider",
    "include the gallbladder",
    "what about the pancreas?",
    "use alpha 0.01",
    "show me the slice",
    "1",
    "undo that",
    "what did you do so far?",
    "/plan",
)
QUESTION = ("find it", "3", "how big is it?", "/fork 1", "/findings", "any lesion in the spleen?")
SLICE = ("find a liver lesion", "show me the slice")


@dataclass(frozen=True)
class Recording:
    """One session: the arguments after `r2seg chat`, and what is typed."""

    title: str
    about: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    picture: Path | None = None


def record(recording: Recording, folder: Path) -> str:
    """The transcript of `recording`, played in `folder`, with the command as its first line.

    Where the recording names a picture, the terminal is drawn into it, colours included.
    """
    command = r2seg_command("chat", *recording.arguments)
    environment = plain_environment(**recording.environment)
    with Terminal(command, environment=environment, folder=folder) as terminal:
        terminal.wait_still((PROMPT, ANSWER_PROMPT), TURN_SECONDS)
        for line in recording.lines:
            terminal.line(line)
            terminal.wait_still((PROMPT, ANSWER_PROMPT), TURN_SECONDS)
        terminal.type("\x04")
        status = terminal.wait_end(TURN_SECONDS)
        if status != 0:
            raise SystemExit(f"the session ended with status {status}:\n{terminal.transcript()}")
        if recording.picture is not None:
            write_picture(terminal.cells(), recording.picture)
        return f"$ r2seg chat {' '.join(recording.arguments)}\n{terminal.transcript()}"


def recordings(folder: Path) -> list[Recording]:
    """The sessions of the page; their scans are put into `folder`."""
    shutil.copyfile(fetch("lung1").image, folder / "lung1.nrrd")
    acquisition = Acquisition(scanner=Scanner(noise_sd=14.0), phase="native", finest_mm=PHANTOM_MM)
    phantom = make_phantom(PHANTOM_SEED, spacing_mm=PHANTOM_MM, lesions=(LIVER_LESION,), acquisition=acquisition)
    array = np.asarray(phantom.volume.array)
    write_itk(folder / "phantom.nii.gz", array, phantom.volume.geometry)
    tiny = {"TOTALSEG_WEIGHTS_PATH": str(TINY_WEIGHTS.resolve())}
    on_phantom = ("phantom.nii.gz", "--modality", "CT", "--synthetic", "--segmenter", "contrast")
    return [
        Recording(
            "A real scan: lung1",
            "A chest CT with a lung nodule (`r2seg data fetch lung1`). Organs come from grey values, so the liver "
            "cannot be located: the session says so.",
            ("lung1.nrrd", "--anchors", "hounsfield", "--segmenter", "contrast"),
            LUNG,
        ),
        Recording(
            "A synthetic liver",
            "A synthetic abdomen with an implanted lesion; organs come from TotalSegmentator's own code with tiny "
            "weights that were trained on such phantoms. It shows that the conversation runs, not how it does on "
            "patients.",
            on_phantom,
            LIVER,
            tiny,
        ),
        Recording(
            "A question, and a fork",
            "What cannot be mapped is asked back; `/fork` goes on from an earlier turn in a session of its own.",
            on_phantom,
            QUESTION,
            tiny,
        ),
        Recording(
            "A slice in the terminal",
            "`--pictures blocks` draws the slice in half blocks, for terminals in true colour without graphics; kitty, "
            "iTerm2 and sixel terminals show the picture itself.",
            (*on_phantom, "--pictures", "blocks"),
            SLICE,
            tiny,
            PICTURE,
        ),
    ]


def page(transcripts: list[tuple[Recording, str]]) -> str:
    """The Markdown page."""
    blocks = [
        "# A conversation",
        "*Research software, not a medical device. Not for diagnosis or treatment.*",
        f"Recorded on {date.today().isoformat()} by `make conversation` with r2seg {__version__}: the real command in "
        "a pseudo-terminal of 100 columns, nothing edited. `›` is the prompt. The planner is the offline planner, a "
        "stand-in for a language model; every number and every sentence of an answer is written by code. The "
        "seconds are those of the machine that recorded it.",
    ]
    for recording, text in transcripts:
        shown = f"```text\n{text}\n```"
        if recording.picture is not None:
            shown = f"![{recording.title}](../images/{recording.picture.name})"
        blocks += [f"## {recording.title}", recording.about, shown]
    return (
        "\n\n".join(
            block
            if block.startswith("```")
            else fill(block, PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False)
            for block in blocks
        )
        + "\n"
    )


def main() -> int:
    """Record all sessions, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--show", action="store_true", help="print the transcripts too")
    given = parser.parse_args()
    transcripts = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for recording in recordings(folder):
            print(f"== {recording.title}", flush=True)
            text = record(recording, folder)
            if given.show:
                print(text, flush=True)
            transcripts.append((recording, text))
    given.out.write_text(page(transcripts), encoding="utf-8")
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
