"""Nothing in the package decides by a sentence: decisions use typed facts, sentences are for people.

Every module is read as a syntax tree. A place that looks for words inside a reason, a warning, an answer, a choice, an
error or an id is a finding, unless the module reads words that somebody else wrote: the user, a model, a file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "r2seg_agent"
SENTENCES = frozenset(
    {
        "answer", "caption", "caution", "choice", "choices", "comment", "error", "errors", "guarantee", "hint", "line",
        "lines", "message", "note", "notes", "points", "problem", "question", "rationale", "reason", "reasons", "reply",
        "sentence", "sentences", "text", "texts", "tool_call_id", "warning", "warnings", "why", "words", "differences",
    }
)  # fmt: skip
"""Names of variables and fields that hold sentences for people, or ids of messages."""
LOOKS_INSIDE = frozenset(
    {
        "startswith",
        "endswith",
        "find",
        "rfind",
        "index",
        "count",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
    }
)
"""Methods of a text that look for words in it."""
PATTERNS = frozenset({"match", "search", "fullmatch", "findall", "finditer"})
"""Functions of `re`, and methods of a compiled pattern."""

READS_WORDS: Mapping[str, str] = {
    "reason/language/": "rules for the user's own English",
    "reason/anchors/label_names.py": "label files of other programs",
    "imaging/": "headers and file names of scans",
    "names.py": "paths as a person typed them, and the bytes of file names",
    "datasets/": "tables and file names of data sets",
    "segment/folders/": "configuration files of other programs",
    "trace/recorder.py": "lines of a JSON file",
    "batch/run.py": "`--shard i/n` as a person typed it",
    "cli/_scan.py": "a word of the command line: is it an address?",
    "cli/phantom.py": "`LOW..HIGH` as a person typed it",
    "data/archives.py": "what pip wrote",
    "batch/journal.py": "lines of a JSON file",
    "evals/truth.py": "lines of a list of files",
    "cli/conversation/": "the line that a person types",
    "cli/_picture.py": "the terminal's answer to a query",
    "graphs/model_comment.py": "a model's own words, held against the numbers of the tools",
    "graphs/planners/json_text.py": "calls that a model wrote into its text",
    "graphs/planners/replies.py": "the user's answer to a question, in words",
    "graphs/planners/retry.py": "errors of a provider's server",
    "graphs/prompting.py": "frames and masks words of the user",
    "tools/state.py": "sides in the user's own message and answer",
}
"""Modules (or rooms) that read words which others wrote, each with whose words they are."""


def looks_into_sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and code of each place that looks for words inside a sentence."""
    for node in ast.walk(tree):
        looked_into: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in LOOKS_INSIDE:
                looked_into = [node.func.value]
            elif node.func.attr in PATTERNS and node.args:
                looked_into = [node.args[-1], *node.args[1:2]]
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            looked_into = [
                right
                for op, right in zip(node.ops, node.comparators, strict=True)
                if isinstance(op, ast.In | ast.NotIn)
            ]
        if any(_is_sentence(value) for value in looked_into):
            yield node.lineno, ast.unparse(node)


def _is_sentence(value: ast.expr) -> bool:
    """True for a name or field of `SENTENCES`, an item of one, such a text in another case, and for a message's id."""
    match value:
        case ast.Name(id=name):
            return name in SENTENCES
        case ast.Attribute(value=ast.Name(id=owner), attr="id"):
            return owner in ("message", "m")
        case ast.Attribute(attr=name):
            return name in SENTENCES
        case ast.Subscript(value=inner) | ast.NamedExpr(value=inner):
            return _is_sentence(inner)
        case ast.Call(func=ast.Attribute(value=inner)):
            return _is_sentence(inner)
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return _is_sentence(inner)
        case ast.BoolOp(values=values):
            return any(_is_sentence(inner) for inner in values)
        case _:
            return False


def _read_by_permission(path: str) -> bool:
    return any(path.startswith(room) if room.endswith("/") else path == room for room in READS_WORDS)


def test_no_module_decides_by_the_words_of_a_sentence() -> None:
    found = [
        f"{path}:{line}: {code}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not _read_by_permission(path := file.relative_to(PACKAGE).as_posix())
        for line, code in looks_into_sentences(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(["decide by a typed fact instead, or name whose words these are:", *found])


def test_every_permission_is_still_needed() -> None:
    for room in READS_WORDS:
        place = PACKAGE / room
        files = sorted(place.rglob("*.py")) if room.endswith("/") else [place]
        uses = [use for file in files for use in looks_into_sentences(ast.parse(file.read_text(encoding="utf-8")))]
        assert uses, f"{room} looks into no sentence any more: take it off the list"


@pytest.mark.parametrize(
    "code",
    [
        'reason.startswith("the case")',
        'candidate.reason.startswith("the case")',
        'warning.startswith("Anchors ")',
        'report.warnings[0].startswith("Anchors ")',
        '"(gate " in step.reason',
        '"too few" not in why',
        'str(message.id or "").startswith("answer")',
        'message.tool_call_id.startswith("planner-")',
        'choices[0].lower().startswith("search this")',
        're.search("gate", error)',
        '_PATTERN.fullmatch(answer.strip())',
    ],
)  # fmt: skip
def test_a_decision_by_words_is_found(code: str) -> None:
    assert list(looks_into_sentences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        'warning.kind == "stand_in_anchors"',
        'kind_of(message) == "request"',
        'candidate.cause in ("gate", "case")',
        'name.startswith("lung")',
        '"liver" in organs',
        "choice in choices",
    ],
)
def test_a_typed_decision_is_none(code: str) -> None:
    assert not list(looks_into_sentences(ast.parse(code)))
