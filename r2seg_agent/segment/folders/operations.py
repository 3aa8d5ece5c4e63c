"""Which of torch's operations an exported network may use: those that compute, none that touch files or processes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

FILE_ARGUMENTS: Final = frozenset(("filename", "file_name", "file", "path", "url"))
"""Names of text arguments by which an operation is told a place."""
OUTSIDE: Final = frozenset(
    ("save", "load", "from_file", "open", "exec", "system", "rpc_sync", "rpc_async", "rpc_remote", "PythonOp")
)
"""Refused by name, whatever this version of torch has."""


@lru_cache(maxsize=1)
def outside_operations() -> frozenset[str]:
    """Names of operations, of any library, that a place is told to, and of those refused always."""
    return OUTSIDE | {
        name
        for _, name, arguments in _operations()
        if any(argument in FILE_ARGUMENTS and "str" in kind for argument, kind in arguments)
    }


@lru_cache(maxsize=1)
def computing_operations() -> frozenset[str]:
    """Names of aten's operations that are told no place."""
    return frozenset(name for library, name, _ in _operations() if library == "aten") - outside_operations()


@lru_cache(maxsize=1)
def libraries() -> frozenset[str]:
    """The libraries that operations come from: aten, prim, and those of other packages."""
    return frozenset(library for library, _, _ in _operations()) | {"aten", "prim"}


def _operations() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(library, name, [(argument, type)]) of everything that this version of torch has."""
    import torch

    schemas: Any = torch._C._jit_get_all_schemas()
    return [
        (*schema.name.split("::", 1), [(a.name, str(a.type).lower()) for a in schema.arguments]) for schema in schemas
    ]
