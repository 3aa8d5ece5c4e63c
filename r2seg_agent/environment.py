"""The environment of the process, which may be a host's: what dependencies set in it is taken back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SET_AT_IMPORT = (
    "GDCM_RESOURCES_PATH",  # gdcm, which pydicom imports where it is installed
    "KMP_DUPLICATE_LIB_OK",  # threadpoolctl, scikit-learn
    "KMP_INIT_AT_FORK",  # scikit-learn, joblib
    "ME_DSL_JIT_LIBTCC_PATH",  # blosc2
    "TORCHINDUCTOR_CACHE_DIR",  # torch._inductor
)
"""Variables that dependencies set when they are imported; all are read by then, or worked out again where needed."""


@contextmanager
def environment_kept(names: Iterable[str] = SET_AT_IMPORT) -> Iterator[None]:
    """Import and run dependencies inside: afterwards the variables `names` are as they were before.

    Only those, so that what other threads set meanwhile stays.
    """
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
