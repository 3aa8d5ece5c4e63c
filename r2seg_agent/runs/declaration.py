"""How an option of a run is declared: `Cli` beside a field of `RunOptions`, `RunOption` as others read it back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from r2seg_agent.errors import InputError

Verb = Literal["find", "chat", "batch", "calibrate", "ablate", "resume", "fork"]
Panel = Literal["Scan", "Where to look", "Model", "Test", "Planner", "Budget", "Output"]
"""Headings of `--help`, in the order in which they are shown."""

_SEARCHES: tuple[Verb, ...] = ("find", "chat", "batch", "calibrate", "ablate")


@dataclass(frozen=True)
class Cli:
    """The form of an option on the command line, and what it belongs to.

    `verbs` take it (none: Python alone does); an option that names none is taken by all that search. `flag` is
    `--the-name` unless it is given here. `negation` is the flag that switches a boolean off.
    `internal_choices` are values of a `Literal` that only r2seg itself sets. `default` says in words what the absence
    of a value means.

    `process`: it belongs to one process and is not saved with the run. `place`: it says where files lie and changes no
    result. `changeable`: a resumed run or session may have another value.
    """

    panel: Panel = "Output"
    short: str = ""
    metavar: str = ""
    verbs: tuple[Verb, ...] = _SEARCHES
    flag: str = ""
    negation: str = ""
    internal_choices: tuple[str, ...] = ()
    default: str = ""
    process: bool = False
    place: bool = False
    changeable: bool = False


@dataclass(frozen=True)
class RunOption:
    """One option as declared; `annotation` is its plain type, `allowed` its range in words ("" where there is none)."""

    name: str
    annotation: Any
    default: object
    help: str
    allowed: str
    cli: Cli

    @property
    def flag(self) -> str:
        """`--mask-format`."""
        return self.cli.flag or f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `Literal` that a person may give; () for other types."""
        if get_origin(self.annotation) is not Literal:
            return ()
        return tuple(value for value in get_args(self.annotation) if value not in self.cli.internal_choices)


def declared_options(model: type[BaseModel]) -> dict[str, RunOption]:
    """Every field of `model` as an option. Raises `TypeError` where a field lacks its help text or its `Cli`."""
    types = get_type_hints(model)
    return {name: _declared(model, name, types[name]) for name in model.model_fields}


def _declared(model: type[BaseModel], name: str, annotation: Any) -> RunOption:
    field = model.model_fields[name]
    cli = next((item for item in field.metadata if isinstance(item, Cli)), None)
    if cli is None or not field.description:
        raise TypeError(f"the option `{name}` needs a description and a `Cli(…)`")
    return RunOption(name, annotation, field.default, field.description, _allowed(field.metadata), cli)


def _allowed(metadata: list[Any]) -> str:
    """The range in words, e.g. "from 1 to 3", "above 0 and below 1"."""
    bounds = {key: getattr(item, key) for item in metadata for key in ("gt", "ge", "lt", "le") if hasattr(item, key)}
    if bounds.keys() == {"ge", "le"}:
        return f"from {bounds['ge']:g} to {bounds['le']:g}"
    words = {"gt": "above {:g}", "ge": "at least {:g}", "lt": "below {:g}", "le": "at most {:g}"}
    return " and ".join(text.format(bounds[key]) for key, text in words.items() if key in bounds)


def option_error(error: ValidationError, options: Mapping[str, RunOption]) -> InputError:
    """The first thing that is wrong with the given options, in the words of the person who gave them."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    option = options.get(name)
    if option is None:
        near = difflib.get_close_matches(name, options, n=1)
        meant = f"; did you mean `{near[0]}`?" if near else ""
        return InputError(f"there is no option `{name}`{meant}", f"The options are: {', '.join(options)}.")
    return InputError(f"`{option.flag}` {_rule(option, first)}, got {first['input']!r}", option.help)


def _rule(option: RunOption, first: ErrorDetails) -> str:
    if option.choices:
        return f"is one of {', '.join(option.choices)}"
    if option.allowed and first["type"].startswith(("greater", "less", "finite")):
        return f"must be {option.allowed}"
    kind = next((word for word in _KINDS if first["type"].startswith(word)), None)
    return f"must be {_KINDS[kind]}" if kind is not None else f"cannot be used ({first['msg']})"


_KINDS: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "dict": "names with files, {name: file}",
}
