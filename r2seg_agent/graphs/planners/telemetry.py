"""Telemetry of the language-model libraries: off.

LangChain and LangGraph send every prompt, message and state to LangSmith when environment variables say so, and
LangChain's clients follow `LANGSMITH_GATEWAY` to another host. Whoever set these for other work has not agreed to send
a patient's findings there. `R2SEG_ALLOW_TRACING=1` leaves them as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ALLOW = "R2SEG_ALLOW_TRACING"
TRACING_VARIABLES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
GATEWAY_VARIABLE = "LANGSMITH_GATEWAY"


def telemetry_off() -> None:
    """Switch LangSmith's tracing and gateway off for this process; called before any graph or model runs."""
    if os.environ.get(ALLOW) == "1":
        return
    for name in TRACING_VARIABLES:
        os.environ[name] = "false"
    os.environ.pop("LANGCHAIN_HANDLER", None)
    os.environ.pop(GATEWAY_VARIABLE, None)
    # LangSmith remembers the environment from before; it need not be loaded for this.
    if (utils := sys.modules.get("langsmith.utils")) is not None:
        utils.get_env_var.cache_clear()


def untraced(call: Callable[[], T]) -> T:
    """The result of `call`, made with LangSmith's tracing off whatever a caller further up has switched on."""
    if os.environ.get(ALLOW) == "1":
        return call()
    from langsmith import tracing_context

    with tracing_context(enabled=False, parent=False):
        return call()
