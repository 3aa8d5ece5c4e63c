"""A small server on loopback that speaks OpenAI's chat API, with scripted behaviours, good and bad.

with FakeOpenAI([call("plan_search", targets=["liver lesion"])]) as server:
    ChatOpenAI(base_url=server.url, …)
server.requests[0].body["tools"]
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

Trouble = Literal["", "hang", "drip", "cut", "reset", "html", "no choices", "null choices", "not json", "cut stream"]


@dataclass(frozen=True)
class Reply:
    """One scripted answer: an assistant message, an HTTP error, or trouble with the connection."""

    content: str | None = None
    tool_calls: tuple[tuple[str, Any], ...] = ()
    """Pairs of a tool's name and its arguments as the JSON text that is sent, valid or not; or an object as it is."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = "scripted failure"
    error_code: str | None = None
    trouble: Trouble = ""
    finish: str | None = None
    usage: tuple[int, int] | None = (100, 20)


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed


def call(tool: str, /, **arguments: Any) -> Reply:
    """A reply with one tool call."""
    return Reply(tool_calls=((tool, json.dumps(arguments)),))


def text(content: str) -> Reply:
    """A reply in words."""
    return Reply(content=content)


class FakeOpenAI:
    """Answers with the script in order; the last reply repeats. `requests` is everything that arrived."""

    def __init__(self, script: Sequence[Reply]) -> None:
        self.script = tuple(script)
        self.requests: list[Request] = []
        self.release = threading.Event()
        self.held = 0
        """Requests that were received and get no whole answer before `release`."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def next_reply(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.script[min(len(self.requests), len(self.script)) - 1]


class Clock:
    """`time` for the client's time limit: an hour passes at once when the server holds a request.

    So a time limit ends exactly the requests that get no answer, however slow the machine is. The hour passes at the
    second reading, because the first may be the one that sets the limit.
    """

    def __init__(self, server: FakeOpenAI) -> None:
        self._server, self._passed, self._readings = server, 0, 0

    def monotonic(self) -> float:
        """Seconds."""
        if self._server.held > self._passed:
            self._readings += 1
            if self._readings == 2:
                self._passed, self._readings = self._passed + 1, 0
        return time.monotonic() + 3600.0 * self._passed

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeOpenAI

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the client or the script broke are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, raw)
        reply = self.server.fake.next_reply(request)
        if reply.status != 200:
            error = {"message": reply.error, "type": "scripted", "code": reply.error_code, "param": None}
            self._send(json.dumps({"error": error}).encode(), reply.status, headers=reply.headers)
        elif reply.trouble and reply.trouble != "cut stream":
            self._trouble(reply)
        elif request.body.get("stream"):
            self._stream(reply, bool((request.body.get("stream_options") or {}).get("include_usage")))
        else:
            self._send(json.dumps(_completion(reply)).encode(), headers=reply.headers)

    def _trouble(self, reply: Reply) -> None:
        whole = json.dumps(_completion(reply)).encode()
        match reply.trouble:
            case "hang":
                self.server.fake.held += 1
                self.server.fake.release.wait()
                self.close_connection = True
            case "drip":
                self._head(200, {"Content-Length": str(len(whole)), "Content-Type": "application/json"})
                for index in range(len(whole) - 1):
                    self.wfile.write(whole[index : index + 1])
                    self.wfile.flush()
                    if index == 5:
                        self.server.fake.held += 1
                    if self.server.fake.release.wait(0.02):
                        break
                self.server.fake.release.wait()
                self.close_connection = True
            case "cut":
                self._head(200, {"Content-Length": str(len(whole)), "Content-Type": "application/json"})
                self.wfile.write(whole[: len(whole) // 2])
                self.wfile.flush()
                self._break()
            case "reset":
                self._break()
            case "html":
                self._send(b"<html><body>Welcome to the proxy</body></html>", content_type="text/html")
            case "not json":
                self._send(b'{"id": "x", "choices": [')
            case "no choices":
                self._send(json.dumps({**_completion(reply), "choices": []}).encode())
            case "null choices":
                self._send(json.dumps({**_completion(reply), "choices": None}).encode())

    def _break(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _stream(self, reply: Reply, with_usage: bool) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        self.close_connection = True
        for number, chunk in enumerate(_chunks(reply, with_usage)):
            if reply.trouble == "cut stream" and number == 2:
                self._break()
                return
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(
        self,
        body: bytes,
        status: int = 200,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._head(status, {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content}
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(reply.tool_calls)
        ]
    return message


def _finish(reply: Reply) -> str:
    return reply.finish or ("tool_calls" if reply.tool_calls else "stop")


def _completion(reply: Reply) -> dict[str, Any]:
    completion: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "scripted",
        "choices": [{"index": 0, "message": _message(reply), "finish_reason": _finish(reply)}],
    }
    if reply.usage is not None:
        completion["usage"] = _usage(reply.usage)
    return completion


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _chunks(reply: Reply, with_usage: bool) -> list[dict[str, Any]]:
    """The reply in small pieces, as servers stream it: arguments come a few characters at a time."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    content = reply.content or ""
    deltas += [{"content": content[start : start + 7]} for start in range(0, len(content), 7)]
    for index, (name, arguments) in enumerate(reply.tool_calls):
        head = {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": "" if isinstance(arguments, str) else arguments},
        }
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 5]}}]}
            for start in range(0, len(arguments), 5)
            if isinstance(arguments, str)
        ]
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    chunks = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(reply)}]})
    if with_usage and reply.usage is not None:
        chunks.append({**base, "choices": [], "usage": _usage(reply.usage)})
    return chunks
