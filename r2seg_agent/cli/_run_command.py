"""`RunCommand`: a verb that takes run options, which are read from the declarations in `runs/options.py`.

A verb declares only what is its own (scan, request, workers, …), takes `context: typer.Context` and gets its
`RunOptions` from `run_options(context)`. The declarations are read when a verb's own options are needed, since pydantic
and numpy take longer to import than `r2seg --help` takes in all.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperCommand

if TYPE_CHECKING:
    from r2seg_agent.runs.declaration import RunOption, Verb
    from r2seg_agent.runs.options import RunOptions

PANELS = (
    *("Run", "Scan", "Data set", "Patients", "Lesions", "Scanner", "Truth", "Measures"),
    *("Where to look", "Model", "Test", "Planner", "Budget", "Workers", "Output"),
)
"""Headings of `--help` in this order; `tests/cli/test_help.py` holds that no option stands under another."""

WIDEST_CHOICES = 24
"""Characters of `auto|paper|conformal`; longer lists of choices stand in the help text."""

_OPTIONS, _GIVEN = "r2seg.run_options", "r2seg.given"


class GroupedCommand(TyperCommand):
    """A verb whose `--help` groups options under the headings of `PANELS`."""

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer.Context is click's
        """`--help`, under the last heading: a panel of its own would stand before all others."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = PANELS[-1]
        return option

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """The help page; each paragraph of the verb's docstring is wrapped as a whole."""
        paragraphs = inspect.cleandoc(self.help or "").split("\n\n")
        self.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        super().format_help(ctx, formatter)

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """The verb's parameters in the order of `PANELS`."""
        return sorted(super().get_params(ctx), key=_place)


class RunCommand(GroupedCommand):
    """The command of a verb that takes run options; its name is the verb."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """The verb's own parameters and the run options that it takes, in the order of `PANELS`."""
        return sorted([*super().get_params(ctx), *_parameters(self._verb())], key=_place)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """`[OPTIONS] SCAN REQUEST`: the name of an argument as it was declared, without typer's brackets and dots."""
        arguments = [parameter for parameter in self.params if isinstance(parameter, TyperArgument)]
        return [self.options_metavar or "", *(argument.metavar or str(argument.name).upper() for argument in arguments)]

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Check the run options, then call the verb with its own parameters alone."""
        from r2seg_agent.runs.options import RunOptions

        taken = options_of_verb(self._verb())
        given = {name for name in taken if _is_given(ctx, name)}
        values = {name: ctx.params.pop(name) for name in taken}
        ctx.meta[_OPTIONS] = RunOptions.model_validate({name: _value(taken[name], values[name]) for name in given})
        ctx.meta[_GIVEN] = given
        return super().invoke(ctx)

    def _verb(self) -> Verb:
        return cast("Verb", self.name)


def run_options(context: typer.Context) -> RunOptions:
    """The run options of this call, checked."""
    return cast("RunOptions", context.meta[_OPTIONS])


def given_options(context: typer.Context) -> dict[str, object]:
    """The run options that stand on the command line, by name."""
    options = run_options(context)
    return {name: getattr(options, name) for name in type(options).model_fields if name in context.meta[_GIVEN]}


def options_of_verb(verb: Verb) -> Mapping[str, RunOption]:
    """The run options that `verb` takes, by name."""
    from r2seg_agent.runs.options import OPTIONS

    return {name: option for name, option in OPTIONS.items() if verb in option.cli.verbs}


def _is_given(context: typer.Context, name: str) -> bool:
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def _value(option: RunOption, value: object) -> object:
    """What `RunOptions` checks: NAME=FILE texts become a mapping, all else is as the command line had it."""
    if not _is_mapping(option):
        return value
    from r2seg_agent.imaging.channels import parse_channels

    return parse_channels(cast("Sequence[str]", value))


@cache
def _parameters(verb: Verb) -> list[Any]:
    """typer's parameters for the run options of `verb`, made from a signature that nobody calls."""

    def signature_alone() -> None:
        raise NotImplementedError

    options = options_of_verb(verb).values()
    signature_alone.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect and typer read
        [_parameter(option, verb) for option in options]
    )
    probe = typer.Typer(add_completion=False)
    probe.command()(signature_alone)
    return list(typer.main.get_command(probe).params)


def _parameter(option: RunOption, verb: Verb) -> inspect.Parameter:
    resumed = verb in ("resume", "fork") and not (option.cli.place or option.cli.process)
    flags = [f"{option.flag}/{option.cli.negation}" if option.cli.negation else option.flag]
    info = typer.Option(
        *flags,
        *([option.cli.short] if option.cli.short else []),
        help=_help(option),
        metavar=option.cli.metavar or _metavar(option),
        show_default="as the run has it" if resumed else option.cli.default or True,
        rich_help_panel=option.cli.panel,
    )
    annotation, default = _typer_type(option), None if _is_mapping(option) or resumed else option.default
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def _typer_type(option: RunOption) -> Any:
    """A type that typer has a parser for; ranges are checked by `RunOptions`, so that Python gives the same errors."""
    if option.choices:
        return Literal[option.choices]
    return list[str] | None if _is_mapping(option) else option.annotation


def _metavar(option: RunOption) -> str | None:
    if len("|".join(option.choices)) > WIDEST_CHOICES:
        return "NAME"
    numbers = {int: "N", float: "X"}
    kinds = {option.annotation, *get_args(option.annotation)}
    return next((word for kind, word in numbers.items() if kind in kinds), None)


def _help(option: RunOption) -> str:
    """The help text, with the range of a number and with choices that are too many for a column."""
    worth_saying = option.allowed and option.allowed != "at least 0"  # which goes without saying
    text = f"{option.help.removesuffix('.')} ({option.allowed})." if worth_saying else option.help
    if option.choices and _metavar(option) and any(f"`{choice}`" not in text for choice in option.choices):
        return f"{text} One of {', '.join(option.choices)}."
    return text


def _is_mapping(option: RunOption) -> bool:
    return get_origin(option.annotation) is Mapping


def _place(parameter: Any) -> tuple[int, bool]:
    """Arguments first, then panels in their order, `--help` at the end of the last."""
    if parameter.param_type_name == "argument":
        return -1, False
    panel = getattr(parameter, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else len(PANELS), parameter.name == "help"
