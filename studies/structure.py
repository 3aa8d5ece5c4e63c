"""`make structure`: the import graph of the product and the laboratory: rooms, circles, arrows that run uphill.

Read off the code by grimp (the graph that import-linter checks), imports for types included. A circle is a strongly
connected set of modules. An arrow runs uphill where a room imports one that stands above it in the layers of
pyproject.toml. Exit status 1 where there is either.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "r2seg_agent"
LABORATORY = "studies"
LONGEST_FILE = 400
"""Lines."""

Imports = Mapping[str, frozenset[str]]


def imports() -> Imports:
    """Every module with the modules that it imports, at run time or for types."""
    import grimp

    graph = grimp.build_graph(PACKAGE, LABORATORY, cache_dir=None)
    return {module: frozenset(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def circles(graph: Imports) -> list[list[str]]:
    """Sets of modules that import each other, directly or by way of others."""
    names = sorted(graph)
    number = {name: k for k, name in enumerate(names)}
    pairs = [(number[a], number[b]) for a, targets in graph.items() for b in targets if b in number]
    rows, columns = (np.array(side) for side in zip(*pairs, strict=True)) if pairs else (np.array([]), np.array([]))
    matrix = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    sizes = Counter(labels.tolist())
    return [[n for n, k in zip(names, labels, strict=True) if k == label] for label, size in sizes.items() if size > 1]


def layers() -> list[list[str]]:
    """The rooms from top to bottom, as pyproject.toml has them; rooms of one layer stand side by side."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers" and c["containers"] == [PACKAGE])
    return [line.replace("|", ":").split(" : ") for line in contract["layers"]]


def uphill(graph: Imports, order: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Imports of a module by one in a room below it, or of the laboratory by the product."""
    height = {room.strip(): -level for level, line in enumerate(order) for room in line}
    found = []
    for module, targets in graph.items():
        for target in sorted(targets):
            own, other = _room(module), _room(target)
            if own == LABORATORY or PACKAGE in (module, target):
                continue
            if other == LABORATORY or height[other] > height[own]:
                found.append((module, target))
    return found


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == LABORATORY or len(parts) == 1 else parts[1]


def lengths() -> dict[Path, int]:
    """Lines of every Python file of the product and the laboratory."""
    files = [path for top in (PACKAGE, LABORATORY) for path in sorted((ROOT / top).rglob("*.py"))]
    return {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files}


def main() -> int:
    """Print the structure; 1 where there is a circle, an uphill arrow or a file that is too long."""
    graph, order, sizes = imports(), layers(), lengths()
    product = {path: n for path, n in sizes.items() if path.parts[0] == PACKAGE}
    total = sum(product.values())
    rooms, folders = Counter[str](), Counter[Path]()
    for path, n in product.items():
        rooms[path.parts[1].removesuffix(".py")] += n
        folders[path.parent] += n
    print(f"{'room':16}{'lines':>8}{'share':>8}  imports")
    for line in order:
        for room in line:
            targets = {_room(t) for m, ts in graph.items() if m != PACKAGE and _room(m) == room for t in ts}
            print(f"{room:16}{rooms[room]:8}{rooms[room] / total:8.1%}  {' '.join(sorted(targets - {room, PACKAGE}))}")
    laboratory = sum(sizes.values()) - total
    median = int(np.median(list(product.values())))
    largest, in_largest = folders.most_common(1)[0]
    print(f"largest folder: {largest}, {in_largest / total:.1%}")
    print(f"product: {len(product)} files, {total} lines, median {median}; laboratory: {laboratory} lines")
    ring, up = circles(graph), uphill(graph, order)
    long = {path: n for path, n in sizes.items() if n > LONGEST_FILE}
    print(f"circles: {len(ring)}", *(f"\n  {' '.join(item)}" for item in ring), sep="")
    print(f"uphill arrows: {len(up)}", *(f"\n  {a} -> {b}" for a, b in up), sep="")
    print(f"files over {LONGEST_FILE} lines: {len(long)}", *(f"\n  {p}: {n}" for p, n in long.items()), sep="")
    return int(bool(ring or up or long))


if __name__ == "__main__":
    sys.exit(main())
