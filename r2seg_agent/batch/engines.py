"""The engines by name: this machine (`local`) or a cluster (`ray`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from r2seg_agent.batch.engine import Engine

EngineName = Literal["local", "ray"]


def engine_named(name: EngineName, address: str | None = None) -> Engine:
    """The engine for `--engine`; `address` is that of a running cluster, None starts one on this machine.

    Raises `MissingDependencyError` without the package that an engine needs.
    """
    if name == "local":
        from r2seg_agent.batch.local import run_local

        return run_local
    from r2seg_agent.batch.ray_cluster import ray_engine

    return ray_engine(address)
