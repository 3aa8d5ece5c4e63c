"""What can be completed at the prompt: commands, their arguments, organs, targets, numbers of findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from r2seg_agent.cli.conversation.commands import COMMANDS, PLANES

LONGEST_NAME = 4
"""Words of the longest organ or target name that is completed."""


@dataclass(frozen=True)
class Vocabulary:
    """`findings` are the numbers that the person can name now, `turns` those of the conversation."""

    findings: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Organs and targets as a person writes them, in order."""
    from r2seg_agent.reason.anatomy import organs
    from r2seg_agent.reason.concepts import concepts

    found = {organ.display for organ in organs().values()} | {concept.name for concept in concepts().values()}
    return tuple(sorted(found, key=str.casefold))


def complete(before: str, words: Vocabulary) -> Iterator[tuple[str, int]]:
    """Completions of the text before the cursor, each with the (negative or zero) place where it starts."""
    text = before.lstrip()
    if text.startswith("/"):
        yield from _of_command(text, words)
        return
    last = text.split(" ")
    if last[-1].isdecimal() or (not last[-1] and len(last) > 1 and last[-2] in ("finding", "lesion", "number")):
        yield from ((str(n), -len(last[-1])) for n in words.findings if str(n).startswith(last[-1]))
        return
    seen: set[str] = set()
    for length in range(min(LONGEST_NAME, len(last)), 0, -1):
        begun = " ".join(last[-length:])
        if len(begun.strip()) < 2:
            continue
        for name in names():
            if name.casefold().startswith(begun.casefold()) and name not in seen:
                seen.add(name)
                yield name, -len(begun)


def _of_command(text: str, words: Vocabulary) -> Iterator[tuple[str, int]]:
    head, _, rest = text.partition(" ")
    if not rest and not text.endswith(" "):
        yield from ((f"/{name}", -len(head)) for name in COMMANDS if f"/{name}".startswith(head))
        return
    last = rest.split(" ")[-1]
    choices: dict[str, tuple[str, ...]] = {
        "/show": (*map(str, words.findings), *PLANES),
        "/fork": tuple(map(str, words.turns)),
        "/help": tuple(COMMANDS),
    }
    yield from ((choice, -len(last)) for choice in choices.get(head, ()) if choice.startswith(last))
