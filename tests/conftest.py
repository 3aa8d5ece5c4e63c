"""Shared by all tests: telemetry off, no keys, one thread per worker, no network but loopback, quiet property tests."""

from __future__ import annotations

import os
import socket
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# No test reaches a real provider by accident: no key, no address and no settings of the one who runs them.
for _name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL", "_API_BASE"))]:
    del os.environ[_name]
for _name in [name for name in os.environ if name.startswith(("R2SEG_PLANNER_", "LANGSMITH_", "LANGCHAIN_"))]:
    del os.environ[_name]
# `auto` means the same whether or not this machine has weights; tests of it and of other segmenters say so themselves.
os.environ["R2SEG_SEGMENTER"] = "contrast"
os.environ["R2SEG_SETTINGS"] = os.devnull + "-no-settings.toml"

settings.register_profile("r2seg", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("r2seg")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails at once, with the address in the message."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
