"""Telemetry of the language-model libraries: off, without touching the environment of a host process.

LangChain and LangGraph send every prompt, message and state to LangSmith when environment variables or a caller further
up say so. A user who set these for other work has not agreed to send a patient's findings there. Every call of a graph
or a model therefore goes through `untraced`; `R2SEG_ALLOW_TRACING=1` leaves tracing as it is. The command line owns its
process and switches the variables off too (`telemetry_off`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextvars import copy_context
from typing import Final, TypeVar

from r2seg_agent.errors import InputError

T = TypeVar("T")

ALLOW = "R2SEG_ALLOW_TRACING"
TRACING_VARIABLES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
OLD_TRACING_VARIABLES = ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER")
"""Of LangChain's first tracer, which is gone: with one set and the second tracer off, LangChain refuses to run."""
GATEWAY_VARIABLE = "LANGSMITH_GATEWAY"
"""Would lead LangChain's clients to another host; `choose_planner` always names the server, which comes before it."""
_END: Final = object()


def telemetry_off() -> None:
    """Switch LangSmith's tracing and gateway off in the environment: for a process of r2seg's own, never in a host."""
    if os.environ.get(ALLOW) == "1":
        return
    for name in TRACING_VARIABLES:
        os.environ[name] = "false"
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.pop("LANGCHAIN_HANDLER", None)
    os.environ.pop(GATEWAY_VARIABLE, None)
    # LangSmith remembers the environment from before; it need not be loaded for this.
    if (utils := sys.modules.get("langsmith.utils")) is not None:
        utils.get_env_var.cache_clear()


def untraced(call: Callable[[], T]) -> T:
    """The result of `call`, made with LangSmith's tracing off whatever a caller further up has switched on.

    A LangGraph further up, in one of whose nodes this happens, is hidden from `call` too: its callbacks would see the
    messages, and a graph of ours would be taken for a part of it and use its checkpoints.
    """
    return copy_context().run(_quiet, call)


def untraced_steps(begin: Callable[[], Iterator[T]]) -> Generator[T]:
    """The items of `begin()`, each computed as in `untraced`; nothing of it is seen where they are used."""
    context = copy_context()
    steps = context.run(_quiet, begin)
    try:
        while (step := context.run(_quiet, lambda: next(steps, _END))) is not _END:
            yield step  # type: ignore[misc]  # `_END` is no T, and never gets here
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            context.run(_quiet, close)


def _quiet(call: Callable[[], T]) -> T:
    from langchain_core.runnables.config import var_child_runnable_config

    var_child_runnable_config.set(None)
    if os.environ.get(ALLOW) == "1":
        return call()
    from langsmith import tracing_context

    set_ones = [name for name in OLD_TRACING_VARIABLES if os.environ.get(name, "0") not in ("", "0", "false", "False")]
    if set_ones:
        raise InputError(
            f"the environment variable {set_ones[0]} asks for LangChain's first tracer, which no longer exists",
            f"Unset it, or set {ALLOW}=1 to leave all tracing as your environment says.",
        )
    with tracing_context(enabled=False, parent=False):
        return call()
