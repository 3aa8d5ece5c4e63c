"""Many cases: each one isolated, journalled, tabled. `r2seg_agent.batch(cases, …)` is `batch/api.py`'s `batch`."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that can be called: Python binds its name on `r2seg_agent` as soon as anything in it is imported."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from r2seg_agent.batch.api import batch

        return batch(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        from r2seg_agent.batch.api import batch

        return inspect.signature(batch)


sys.modules[__name__].__class__ = _CallablePackage
