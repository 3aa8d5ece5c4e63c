"""Markdown pages as the tests read them: fenced blocks with the comment before them, links, pictures and anchors."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(```+)(.*)$")
_COMMENT = re.compile(r"^<!-- (.*) -->$")
_LINK = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$")


def documentation() -> tuple[Path, ...]:
    """README.md, CONTRIBUTING.md, CHANGELOG.md and every page of docs/."""
    return (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(ROOT.glob("docs/**/*.md")),
    )


def page_name(page: Path) -> str:
    """The page's path from the repository root."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins (the line of its fence, from 1), its info string, and the comment before it."""

    page: str
    line: int
    info: str
    text: str
    comment: str = ""

    @property
    def language(self) -> str:
        """The first word of the info string; "" where there is none."""
        return self.info.partition(" ")[0]

    @property
    def not_run(self) -> str:
        """Why a test cannot run it; "" where it can."""
        kind, _, reason = self.comment.partition(": ")
        return reason if kind == "not run" else ""

    @property
    def exit_status(self) -> int:
        """The exit status that its last command must end with."""
        return int(self.comment.rpartition(" ")[2]) if self.comment.startswith("exit status ") else 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        if opened is None:
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].startswith(opened[1]))
        comment = _COMMENT.match(lines[at - 1]) if at else None
        text = "\n".join(lines[at + 1 : end]) + "\n"
        found.append(Block(page_name(page), at + 1, opened[2], text, comment[1] if comment else ""))
        at = end + 1
    return tuple(found)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    kept: list[str] = []
    fence = ""
    for line in page.read_text().splitlines():
        opened = _FENCE.match(line)
        if opened and not fence:
            fence = opened[1]
        elif fence and line.startswith(fence):
            fence = ""
        elif not fence:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> tuple[tuple[bool, str], ...]:
    """Targets of the page's links, each with whether it is a picture; code spans hold no links."""
    text = re.sub(r"`[^`\n]*`", "code", prose(page))
    return tuple((bool(mark), target) for mark, target in _LINK.findall(text))


def anchors(page: Path) -> frozenset[str]:
    """The fragments that the page's headings give, as GitHub makes them."""
    found: list[str] = []
    for line in prose(page).splitlines():
        heading = _HEADING.match(line)
        if heading is None:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


@dataclass(frozen=True)
class Command:
    """One program call of a shell block; `stdin` is what a `printf` pipes into it."""

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    stdin: str | None = None

    @property
    def program(self) -> str:
        """The program's name, without a folder."""
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return shlex.join(self.words)


def commands(block: Block) -> tuple[Command, ...]:
    """The calls of a shell block, comments left out and continued lines joined."""
    found: list[Command] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
        stdin = None
        if "|" in words:
            cut = words.index("|")
            if words[0] != "printf":
                raise ValueError(f"{block}: only `printf` may stand before a pipe: {line}")
            stdin, words = words[1].replace("\\n", "\n"), words[cut + 1 :]
        assigned: list[tuple[str, str]] = []
        while words and re.match(r"^[A-Z][A-Z0-9_]*=", words[0]):
            name, _, value = words.pop(0).partition("=")
            assigned.append((name, value))
        if words:
            found.append(Command(tuple(words), tuple(assigned), stdin))
    return tuple(found)
