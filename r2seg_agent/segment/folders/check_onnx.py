"""An ONNX file before onnxruntime reads it: no weights in other files, no operators of other libraries.

Read as protobuf by hand: the package `onnx` is not needed to run a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from r2seg_agent.segment.folders.archive import UnsafeModelError, shown

DOMAINS: Final = frozenset(("", "ai.onnx"))
"""ONNX's own operators. Others (com.microsoft) hold some that read files or ask servers."""
MAX_NESTING: Final = 50

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


class _Message(NamedTuple):
    """What matters of one kind of message: fields that hold messages, and fields that are looked at."""

    inner: Mapping[int, str]
    refused: Mapping[int, str] = {}


_KINDS: Final[Mapping[str, _Message]] = {
    "model": _Message({7: "graph", 25: "function"}, {20: "a training graph"}),
    "graph": _Message({1: "node", 5: "tensor", 15: "sparse"}),
    "function": _Message({7: "node", 11: "attribute"}),
    "node": _Message({5: "attribute"}),
    "attribute": _Message({5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}),
    "sparse": _Message({1: "tensor", 2: "tensor"}),
    "tensor": _Message({}, {13: "weights in another file"}),
}
_LOCATION: Final = 14
"""`TensorProto.data_location`: 0 is inside this file."""


def check_onnx(data: bytes) -> None:
    """Raises `UnsafeModelError` that names what is refused, `ValueError` for bytes that are no ONNX file."""
    if data[4:8] == b"ORTM":
        raise UnsafeModelError("it is in onnxruntime's own format, which r2seg does not read: export it as ONNX")
    view = memoryview(data)
    operators: list[tuple[str, str]] = []
    functions: set[tuple[str, str]] = set()
    waiting = [("model", view, 0)]
    graphs = 0
    while waiting:
        kind, message, depth = waiting.pop()
        graphs += kind == "graph"
        if depth > MAX_NESTING:
            raise UnsafeModelError("it is nested too deeply")
        texts: dict[int, str] = {}
        for number, value in _fields(message):
            if number in _KINDS[kind].refused:
                raise UnsafeModelError(f"it holds {_KINDS[kind].refused[number]}")
            if kind == "tensor" and number == _LOCATION and value != 0:
                raise UnsafeModelError("it holds weights in another file")
            if number in _KINDS[kind].inner:
                if isinstance(value, int):
                    raise ValueError("it is no ONNX file")
                waiting.append((_KINDS[kind].inner[number], value, depth + 1))
            elif kind in ("node", "function") and not isinstance(value, int):
                texts[number] = bytes(value[:200]).decode("utf-8", "replace")
        if kind == "node":
            operators.append((texts.get(7, ""), texts.get(4, "")))
        elif kind == "function":
            functions.add((texts.get(10, ""), texts.get(1, "")))
    if not graphs:
        raise ValueError("it is no ONNX file")
    for domain, name in operators:
        if domain not in DOMAINS and (domain, name) not in functions:
            raise UnsafeModelError(f"it calls {shown(f'{domain}.{name}')}, which is no operator of ONNX itself")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field; numbers of fixed size as 0 (nothing here depends on them)."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif wire == _BYTES:
            size, at = _varint(message, at)
            if at + size > end:
                raise ValueError("it is no whole ONNX file")
            yield number, message[at : at + size]
            at += size
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
            yield number, 0
        else:
            raise ValueError("it is no ONNX file")
    if at != end:
        raise ValueError("it is no whole ONNX file")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("it is no whole ONNX file")
