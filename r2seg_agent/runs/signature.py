"""Signatures of the Python functions: every run option as a keyword with its type, default and help."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar

from r2seg_agent.runs.option_types import SearchFields
from r2seg_agent.runs.options import OPTIONS

F = TypeVar("F", bound=Callable[..., object])

NOT_IN_PYTHON = frozenset({"interactive"})
"""Set by the function itself: a person is there where `ask` is given, or the conversation is one."""


def with_option_signature(function: F) -> F:
    """Replace `**options` (`SearchFields`) in the signature that `help` shows by every option with type and default,
    and add the help of each to the docstring."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    shown = [OPTIONS[name] for name in SearchFields.__annotations__ if name not in NOT_IN_PYTHON]
    added = [
        inspect.Parameter(o.name, inspect.Parameter.KEYWORD_ONLY, default=o.default, annotation=o.annotation)
        for o in shown
    ]
    function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    lines = [
        textwrap.fill(
            f"{o.name}: {o.help}" + (f" Allowed: {o.allowed}." if o.allowed else ""),
            116,
            initial_indent="    ",
            subsequent_indent="        ",
        )
        for o in shown
    ]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", *lines, ""])
    return function
