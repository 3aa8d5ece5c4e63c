"""A `torch.export` archive before torch reads it: every member, operation, expression and pickle against a grammar.

torch looks operations up by name, reads expressions by `sympy.sympify` (which runs Python), imports modules that a
container's description names, unpickles inputs and objects, and loads compiled libraries. A network needs none of that.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from r2seg_agent.segment.folders.archive import UnsafeModelError, read_members, shown, words, write_members
from r2seg_agent.segment.folders.operations import computing_operations

MODEL: Final = "models/model.json"
SAMPLES: Final = "data/sample_inputs/model.pt"
MEMBERS: Final = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/(serialization_id|version)|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_CONFIGS: Final = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_NAME: Final = re.compile(r"(?!__)(?!.*\.__)[A-Za-z0-9_.-]{0,300}")
_WORDS: Final = re.compile(r"[A-Za-z0-9_., +>-]{0,300}")
"""A word that an operation takes ("trilinear"), or einsum's equation."""
_EXPRESSION: Final = re.compile(r"[su]\d{1,6}|-?\d{1,12}")
"""A size that stays open, or a number. Sums and products of sizes are not needed by a network of one input size."""
_ATEN: Final = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)", re.IGNORECASE)
_PYTHON: Final = words(
    "_operator.add _operator.sub _operator.mul _operator.truediv _operator.floordiv _operator.mod _operator.neg "
    "_operator.pow _operator.eq _operator.ne _operator.lt _operator.le _operator.gt _operator.ge _operator.getitem"
)
_ARGUMENTS: Final = words(
    "as_none as_tensor as_tensors as_int as_ints as_float as_floats as_bool as_bools as_string as_strings as_sym_int "
    "as_sym_ints as_scalar_type as_memory_format as_layout as_device as_nested_tensors as_optional_tensor "
    "as_optional_tensors as_int_lists as_complex as_sym_float as_sym_floats as_sym_bool as_sym_bools"
)
_CONTAINERS: Final = frozenset(("builtins.tuple", "builtins.list", "builtins.dict"))
_REFUSED_KEYS: Final = words(
    "as_graph as_custom_obj as_operator as_opaque_obj custom_obj custom_obj_values token script_object_name"
)
MAX_NESTING: Final = 100


def checked_export(data: bytes) -> io.BytesIO:
    """The archive again, with what was checked and without what a network does not need (example inputs, places in the
    author's source).

    Raises `UnsafeModelError` that names what is refused.
    """
    root, members = read_members(data)
    for name in members:
        if not MEMBERS.fullmatch(name):
            raise UnsafeModelError(f"it holds the member {shown(name)}, which is no part of a network")
    for name in _CONFIGS:
        _check_payloads(name, _read(members, name))
    model = _read(members, MODEL)
    _check_model(model)
    return write_members(root, {**members, MODEL: json.dumps(model).encode(), SAMPLES: b""})


def _read(members: Mapping[str, bytes], name: str) -> Any:
    if name not in members:
        raise UnsafeModelError(f"it has no `{name}`: it was written by another version of torch than 2.8 or later")
    try:
        return json.loads(members[name])
    except (ValueError, RecursionError) as error:
        raise UnsafeModelError(f"its `{name}` is not JSON") from error


def _check_payloads(where: str, config: Any) -> None:
    """Weights and constants are plain numbers in a member of their own, never pickles."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise UnsafeModelError(f"its `{where}` lists no tensors")
    for name, entry in entries.items():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if (
            not isinstance(path, str)
            or not re.fullmatch(r"(weight|tensor)_\d+", path)
            or entry.get("use_pickle") is not False
        ):
            raise UnsafeModelError(f"{shown(name)} in `{where}` is no plain tensor; loading it could run code")
        _check_values(entry)


def _check_model(model: Any) -> None:
    if not isinstance(model, dict) or not isinstance(model.get("graph_module"), dict):
        raise UnsafeModelError("its `model.json` describes no network")
    graph = model["graph_module"].get("graph")
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        raise UnsafeModelError("its `model.json` has no graph")
    for node in graph["nodes"]:
        _check_node(node)
    for call in model["graph_module"].get("module_call_graph") or []:
        signature = call.get("signature") if isinstance(call, dict) else None
        for side in ("in_spec", "out_spec"):
            if isinstance(signature, dict) and signature.get(side):
                _check_containers(signature[side])
    # Not needed, and Python source or import paths: torch would run the one and import the other.
    model["graph_module"] |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    model["guards_code"] = []
    _check_values(model)


def _check_node(node: Any) -> None:
    target = node.get("target") if isinstance(node, dict) else None
    if not isinstance(target, str):
        raise UnsafeModelError("its graph has a step without an operation")
    aten = _ATEN.fullmatch(target)
    if target not in _PYTHON and (aten is None or aten[1] not in computing_operations()):
        raise UnsafeModelError(f"it calls {shown(target)}, which is no operation of a network")
    for given in node.get("inputs") or []:
        argument = given.get("arg") if isinstance(given, dict) else None
        if not isinstance(argument, dict) or not _ARGUMENTS.issuperset(argument):
            kinds = ", ".join(argument) if isinstance(argument, dict) else "nothing"
            raise UnsafeModelError(f"it calls {shown(target)} with {shown(kinds)}, which no network needs")
    node["metadata"] = {}


def _check_containers(text: Any) -> None:
    """What goes in and out is tensors in tuples, lists and tables; torch would import a module for anything else."""
    try:
        found: Any = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsafeModelError("it describes its inputs in a form that is not JSON") from error
    waiting = [found[1]] if isinstance(found, list) and len(found) == 2 and isinstance(found[0], int) else [None]
    while waiting:
        spec = waiting.pop()
        if not isinstance(spec, dict) or not isinstance(spec.get("children_spec"), list):
            raise UnsafeModelError("it describes its inputs in a form that r2seg does not know")
        kind, context = spec.get("type"), spec.get("context")
        if kind is not None and kind not in _CONTAINERS:
            raise UnsafeModelError(
                f"its inputs or outputs are a {shown(kind)}, which is no tuple, list or table of tensors"
            )
        if context is not None and (not isinstance(context, str) or not _is_plain_context(context)):
            raise UnsafeModelError("its inputs or outputs hold more than tensors")
        waiting += spec["children_spec"]


def _is_plain_context(text: str) -> bool:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return found is None or (
        isinstance(found, list) and all(isinstance(key, str) and _NAME.fullmatch(key) for key in found)
    )


def _check_values(tree: Any) -> None:
    """Expressions and names, wherever they stand: torch writes Python source from names."""
    for key, value in _pairs(tree):
        if key in _REFUSED_KEYS and value not in (None, [], {}):
            raise UnsafeModelError(f"it holds {shown(key)}: more than a network of one graph")
        if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            raise UnsafeModelError(
                f"it holds the expression {shown(value)}; sizes must be numbers (export without dynamic shapes)"
            )
        allowed = _WORDS if key in ("as_string", "as_strings", "torch_version") else _NAME
        for text in (value, *value) if isinstance(value, list | dict) else (value,):
            if isinstance(text, str) and key not in ("in_spec", "out_spec") and not allowed.fullmatch(text):
                raise UnsafeModelError(f"it holds the name {shown(text)}")


def _pairs(tree: Any) -> Iterator[tuple[str, Any]]:
    waiting: list[tuple[Any, int]] = [(tree, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise UnsafeModelError("its `model.json` is nested too deeply")
        if isinstance(value, dict):
            yield from value.items()
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
