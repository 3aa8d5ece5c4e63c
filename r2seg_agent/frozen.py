"""The base of all contracts: frozen pydantic models that round-trip through JSON exactly."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, closed (unknown fields are errors), finite floats only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
