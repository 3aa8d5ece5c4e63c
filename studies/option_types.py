"""`make format`: write `r2seg_agent/runs/option_types.py`, the static types of `RunOptions` for editors and mypy.

`find(…, **options: Unpack[OptionFields])` completes and checks every option. The file is generated from the
declarations in `runs/options.py`, so an option is declared once.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from r2seg_agent.runs import options
from r2seg_agent.runs.options import OPTIONS

TARGET = Path(options.__file__).with_name("option_types.py")

_HEAD = '''"""The options of a run as static types. Generated from `runs/options.py` by `make format`: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

from r2seg_agent.reject.gates import GateSettings


class SearchFields(TypedDict, total=False):
    """The options of a search: the fields of `RunOptions` but `planner` and `out`, which functions name themselves."""

'''
_WHOLE = '''

class OptionFields(SearchFields, total=False):
    """What `**options` of the Python API may hold: the fields of `RunOptions`, all optional."""

'''


def render() -> str:
    """The module's source, formatted as ruff formats it."""
    fields = {o.name: f"    {o.name}: {_source(o.annotation)}\n{_doc(o.help)}" for o in OPTIONS.values()}
    named = fields.pop("planner") + fields.pop("out")
    command = [sys.executable, "-m", "ruff", "format", "--line-length=120", f"--stdin-filename={TARGET.name}", "-"]
    text = _HEAD + "".join(fields.values()) + _WHOLE + named
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _doc(text: str) -> str:
    return textwrap.fill(f'"""{text}"""', 116, initial_indent="    ", subsequent_indent="    ") + "\n"


def _source(annotation: Any) -> str:
    """A type as source code; a path may be given as text too."""
    if annotation is type(None):
        return "None"
    if annotation is Path:
        return "str | Path"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(repr(value) for value in arguments)}]"
    if origin in (Union, types.UnionType):
        return " | ".join(_source(part) for part in arguments)
    if origin is not None:
        name = {Mapping: "Mapping"}.get(origin, origin.__name__)
        return f"{name}[{', '.join(_source(part) for part in arguments)}]"
    return str(annotation.__name__)


def main() -> None:
    """Write the file where it differs."""
    source = render()
    if not TARGET.exists() or TARGET.read_text() != source:
        TARGET.write_text(source)
        sys.stdout.write(f"{TARGET.name} written\n")


if __name__ == "__main__":
    main()
