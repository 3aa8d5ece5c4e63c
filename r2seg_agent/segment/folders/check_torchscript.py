"""A TorchScript archive before torch reads it: its members, pickles and source against a grammar.

TorchScript is a language of its own: it has loops and strings, so what a file does cannot be told in full without
running it. What it may *reach* can: only operations that compute, never a file, a process or another library. Loading
runs a little of it (`__setstate__`), so all of this is looked at before.
"""

from __future__ import annotations

import ast
import io
import pickletools
import re
import warnings
from typing import Final

from r2seg_agent.segment.folders.archive import UnsafeModelError, read_members, shown, words, write_members
from r2seg_agent.segment.folders.operations import computing_operations, libraries, outside_operations

_TENSORS: Final = re.compile(r"(data|constants)/\d+|version|byteorder|\.data/(serialization_id|version)")
_PICKLES: Final = ("data.pkl", "constants.pkl")
_SOURCE: Final = re.compile(r"code/__torch__(/[A-Za-z_][A-Za-z0-9_]*)*\.py")
_DROPPED: Final = re.compile(r"code/.*\.py\.debug_pkl|extra/.*|traced_inputs(\.pkl|/\d+)")
"""Places in the author's source, example inputs, and files for other programs (MONAI's): torch does not need them."""
_GLOBALS: Final = re.compile(
    r"__torch__\.(?!torch\.classes)[A-Za-z0-9_. ]+"
    r"|torch\.jit\._pickle (build_(int|float|bool|tensor|double|complex)list|build_tensor_from_id|restore_type_tag)"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)|collections OrderedDict|torch device"
    r"|torch [A-Za-z0-9]*Storage"
)
_PRIM: Final = words(
    "NumToTensor RaiseException Uninitialized abs_ data device dtype layout grad is_cuda itemsize max min name ndim "
    "rangelist requires_grad shape tolist unchecked_cast unchecked_unwrap_optional type is_meta is_cpu Print "
    "isinstance TupleUnpack TupleIndex TupleConstruct unpack_optional is_sparse is_mps is_xpu is_quantized is_mkldnn"
)
_SPACES: Final = frozenset(("torch", "ops", "__torch__"))


def checked_torchscript(data: bytes) -> io.BytesIO:
    """The archive again, with what was checked. Raises `UnsafeModelError` that names what is refused."""
    root, members = read_members(data)
    kept = {name: content for name, content in members.items() if not _DROPPED.fullmatch(name)}
    for name, content in kept.items():
        if name in _PICKLES:
            _check_pickle(name, content)
        elif _SOURCE.fullmatch(name):
            _check_source(name, content)
        elif not _TENSORS.fullmatch(name):
            raise UnsafeModelError(f"it holds the member {shown(name)}, which is no part of a TorchScript network")
    if "data.pkl" not in kept:
        raise UnsafeModelError("it holds no network (`data.pkl`)")
    return write_members(root, kept)


def _check_pickle(name: str, content: bytes) -> None:
    """Only tensors, containers and the archive's own classes, by the opcodes that torch writes."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID"):
                raise UnsafeModelError(f"its `{name}` has the opcode {opcode.name}, which torch does not write")
            if opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument)):
                raise UnsafeModelError(f"its `{name}` names {shown(str(argument))}, which is no tensor or container")
    except UnsafeModelError:
        raise
    except Exception as error:  # pickletools raises ValueError, and others for cut-off arguments
        raise UnsafeModelError(f"its `{name}` is no whole pickle") from error


def _check_source(name: str, content: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnsafeModelError(f"its source `{name}` cannot be read") from error
    nodes = list(ast.walk(tree))
    read_from = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        problem = _problem(node, whole=id(node) not in read_from)
        if isinstance(node, ast.Name) and node.id in _SPACES and id(node) not in read_from:
            if node.id == "ops" and isinstance(node.ctx, ast.Store):
                continue  # a variable of the author's
            problem = f"hands {shown(node.id)} on under another name"
        if problem:
            raise UnsafeModelError(f"its source `{name}` {problem}")


def _problem(node: ast.AST, *, whole: bool) -> str:
    """Why a piece of source is refused; "" where it is not. Names can be handed on: not only calls count."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.AsyncFunctionDef | ast.Await | ast.Lambda | ast.With):
        return f"has a {type(node).__name__}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
        if len(node.args) < 2 or not isinstance(node.args[1], ast.Constant):
            return "reads an attribute whose name is not written down"
        return _attribute_problem(str(node.args[1].value))
    if isinstance(node, ast.Name):
        return _attribute_problem(node.id)
    if not isinstance(node, ast.Attribute):
        return ""
    chain = _chain(node) if whole else []
    if chain[:1] == ["torch"] and (len(chain) != 2 or chain[1] not in computing_operations()):
        return f"uses {shown('.'.join(chain))}, which is no operation of a network"
    # `ops` may also be a variable of the author's, whose attributes are no libraries.
    if chain[:1] == ["ops"] and chain[1] in libraries():
        allowed = {"prim": _PRIM, "aten": computing_operations()}.get(chain[1], frozenset())
        if len(chain) != 3 or chain[2] not in allowed:
            return f"uses {shown('.'.join(chain))}, which is no operation of a network"
    if chain[:3] == ["__torch__", "torch", "classes"]:
        return f"uses {shown('.'.join(chain))}, a class of another library"
    return _attribute_problem(node.attr)


def _attribute_problem(name: str) -> str:
    """A tensor's method is the operation of that name."""
    return f"uses {shown(name)}, which reaches beyond the network" if name in outside_operations() else ""


def _chain(node: ast.Attribute) -> list[str]:
    """`a.b.c` → ["a", "b", "c"]; [] where it does not begin with a name."""
    names = [node.attr]
    value: ast.expr = node.value
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return [value.id, *reversed(names)] if isinstance(value, ast.Name) else []
