"""The formats of a bundle's network behind one call. The only place that loads exported programs.

A TorchScript, torch.export or ONNX file is a program: its hash is compared with the manifest, and all of it is held
against a grammar (`check_exported`, `check_torchscript`, `check_onnx`) before its library reads it. Of a VISTA3D
network the file holds weights alone.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.folders.archive import UnsafeModelError
from r2seg_agent.segment.folders.bundle_manifest import Manifest
from r2seg_agent.segment.folders.check_exported import checked_export
from r2seg_agent.segment.folders.check_onnx import check_onnx
from r2seg_agent.segment.folders.check_torchscript import checked_torchscript
from r2seg_agent.segment.folders.constants import ONNX_INSTALL
from r2seg_agent.segment.folders.vista3d import Vista3D

Network = Callable[[FloatArray], FloatArray]
"""(1, channels, *size) float32 → (1, classes, *size) float32."""


def load_network(manifest: Manifest, path: Path, name: str) -> Network:
    """The network of a bundle, its bytes checked against the manifest's sha256 as they are loaded.

    Raises `MissingDependencyError` for other bytes, for a file of another format, one that holds pickled objects, or
    a missing onnxruntime.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise MissingDependencyError(f"`{path.name}` of `{name}` is not the file that its manifest names", _AGAIN)
    loaders: dict[str, Callable[[bytes], Network]] = {
        "torchscript": _torchscript,
        "torch.export": _exported,
        "onnx": _onnx,
        "vista3d": lambda data: Vista3D(data, [c.prompt for c in manifest.classes if c.prompt], _device()),
    }
    try:
        with _quiet():
            return loaders[manifest.format](data)
    except MissingDependencyError:
        raise
    except UnsafeModelError as error:
        raise MissingDependencyError(
            f"`{path.name}` of `{name}` cannot be loaded as {manifest.format}: {error}; nothing of it was run",
            "Export the bare network again as docs/guide/models.md shows, without what is named here.",
        ) from error
    except Exception as error:  # torch and onnxruntime raise all kinds for a file of another format
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingDependencyError(
            f"`{path.name}` of `{name}` cannot be loaded as {manifest.format}: {first[:300]}",
            "Check `format` in bundle.json, and that the file was exported for this version of its library.",
        ) from error


_AGAIN = "Copy the file again; if you made it yourself, write its true sha256 into bundle.json."


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _torchscript(data: bytes) -> Network:
    load: Any = torch.jit.load
    module = load(checked_torchscript(data), map_location=_device())
    module.eval()
    return _torch_call(module)


def _exported(data: bytes) -> Network:
    archive = checked_export(data)
    with _weights_only():
        program = torch.export.load(archive)
    if _device().type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, _device())
    return _torch_call(program.module())


def _torch_call(module: Any) -> Network:
    def call(batch: FloatArray) -> FloatArray:
        with torch.inference_mode(), _quiet():
            answer = module(torch.from_numpy(batch).to(_device()))
        found: FloatArray = answer.float().cpu().numpy()
        return found

    return call


def _onnx(data: bytes) -> Network:
    check_onnx(data)
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError("an ONNX bundle needs onnxruntime", ONNX_INSTALL) from error
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Others compile the network, write caches, or send it to a server.
    providers = [p for p in runtime.get_available_providers() if p in ("CUDAExecutionProvider", "CPUExecutionProvider")]
    session = runtime.InferenceSession(data, options, providers=providers)
    given, answered = session.get_inputs(), session.get_outputs()
    if len(given) != 1:
        raise ValueError(f"the network has {len(given)} inputs ({', '.join(i.name for i in given)}); one is expected")

    def call(batch: FloatArray) -> FloatArray:
        found = session.run([answered[0].name], {given[0].name: batch})[0]
        return np.asarray(found, dtype=np.float32)

    return call


@contextmanager
def _weights_only() -> Iterator[None]:
    """`torch.export.load` reads some parts by `torch.load(weights_only=False)`; torch's own switch forbids that."""
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(switch)
        else:
            os.environ[switch] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs whole tracebacks for a file that it cannot read, and warns that TorchScript is old."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
