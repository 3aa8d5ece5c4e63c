"""A file server on loopback that does what a script says: cuts, refuses, redirects, stalls, sends other bytes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass(frozen=True)
class Act:
    """How one request is answered: with a status other than 200, headers, or only the first bytes of the file.

    `stall`: after those bytes the server sends nothing until it is closed. `whole`: `Range` is not heeded. `length`
    False: the size is not stated.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    only: int | None = None
    stall: bool = False
    whole: bool = False
    length: bool = True


@dataclass
class FileServer:
    """`files` by path; `script`: the acts for the next requests of a path, then plain answers. `seen` are requests."""

    address: str
    files: dict[str, bytes]
    script: dict[str, list[Act]]
    seen: list[tuple[str, dict[str, str]]]
    tags: dict[str, str]
    stopped: Event

    def ranges(self) -> list[str | None]:
        """The `Range` of each request."""
        return [headers.get("Range") for _, headers in self.seen]


@contextmanager
def file_server(files: dict[str, bytes] | None = None) -> Iterator[FileServer]:
    """A running server; every file has a strong ETag unless `tags` states another."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = FileServer(
        f"http://127.0.0.1:{server.server_address[1]}", dict(files or {}), defaultdict(list), [], {}, Event()
    )
    server.state = state  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        state: FileServer = self.server.state  # type: ignore[attr-defined]
        path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is asked for whole addresses
        state.seen.append((self.path, dict(self.headers)))
        act = state.script[path].pop(0) if state.script[path] else Act()
        data = state.files.get(path)
        if act.status != 200 or data is None:
            self._plain(act.status if act.status != 200 else 404, act.headers)
            return
        self._file(state, act, data, state.tags.get(path, f'"{len(data)}-{hash(data)}"'))

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, state: FileServer, act: Act, data: bytes, tag: str) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted and self.headers.get("If-Range") == tag and not act.whole else 0
        self.close_connection = True
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if tag:
            self.send_header("ETag", tag)
        if act.length:
            self.send_header("Content-Length", str(len(data) - begin))
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[begin : None if act.only is None else begin + act.only])
        self.wfile.flush()
        if act.stall:
            state.stopped.wait()
