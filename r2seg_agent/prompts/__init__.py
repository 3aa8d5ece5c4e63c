"""Prompts: Markdown files, known in every trace by the hash of their bytes."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from r2seg_agent.frozen import Frozen


class PromptFile(Frozen):
    """A prompt's text and the sha256 of its bytes."""

    name: str
    text: str
    sha256: str


def prompt_file(name: str) -> PromptFile:
    """The prompt `prompts/<name>.md`."""
    data = files("r2seg_agent.prompts").joinpath(f"{name}.md").read_bytes()
    return PromptFile(name=name, text=data.decode("utf-8"), sha256=hashlib.sha256(data).hexdigest())
