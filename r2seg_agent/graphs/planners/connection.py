"""The connection to a language model's server: to the stated address and nowhere else, with a bounded answer.

The clients' own defaults send prompts and keys through whatever proxy the environment names (for an address on this
machine too), follow a server that sends the request on elsewhere, and read an answer of any size into memory.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

MAX_ANSWER_BYTES: Final = 8 * 2**20
"""Of one whole answer, as sent. The longest that models give are some hundred kilobytes."""


class AnswerTooLargeError(Exception):
    """The server sends more than any answer has, or packed so that its size cannot be told."""


def client_options(timeout_s: float, proxy: str | None) -> dict[str, Any]:
    """Arguments of an httpx client. `proxy` is the one that the user stated; the environment's are not used.

    Certificates are still those of SSL_CERT_FILE and SSL_CERT_DIR: they lead nothing elsewhere.
    """
    options: dict[str, Any] = {
        "trust_env": False,
        "follow_redirects": False,
        "timeout": timeout_s,
        "event_hooks": {"request": [_ask_unpacked], "response": [_bound]},
    }
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        options["verify"] = ssl.create_default_context(cafile=file, capath=folder)
    if proxy is not None:
        options["proxy"] = proxy
    return options


def connect_anthropic(model: BaseChatModel, options: dict[str, Any]) -> None:
    """Give a `ChatAnthropic` its client: it has no argument for one."""
    import anthropic

    made: Any = model
    client = anthropic.Anthropic(**made._client_params, http_client=plain_client(anthropic.DefaultHttpxClient, options))
    made.__dict__["_client"] = client


def plain_client(kind: type[Any], options: dict[str, Any]) -> Any:
    """The HTTP client that the library's own is made of: its own one reads the environment's proxies by itself."""
    return next(cls for cls in kind.__mro__ if cls.__name__ == "Client")(**options)


def _ask_unpacked(request: Any) -> None:
    request.headers["Accept-Encoding"] = "identity"


def _bound(response: Any) -> None:
    """Called by httpx before it reads the answer."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise AnswerTooLargeError("the server packs its answer though it was asked not to")
    stated = response.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > MAX_ANSWER_BYTES:
        raise AnswerTooLargeError(f"the server announces {int(stated)} bytes; at most {MAX_ANSWER_BYTES} are read")
    response.stream = _bounded(response.stream)


def _bounded(stream: Any) -> Any:
    """The same stream of bytes, given up after `MAX_ANSWER_BYTES`."""

    def read() -> Iterator[bytes]:
        size = 0
        for part in stream:
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise AnswerTooLargeError(f"the server sends more than {MAX_ANSWER_BYTES} bytes")
            yield part

    return _stream_of(stream, read)


def arguments_as_text(response: Any) -> None:
    """Called by httpx before it reads an answer in OpenAI's protocol: a call's arguments are JSON as a text there, and
    some servers send the object itself, or the text encoded once more, on which LangChain's client fails.
    """
    stream, lines = response.stream, "event-stream" in response.headers.get("content-type", "")

    def read() -> Iterator[bytes]:
        pending = b""
        for part in stream:
            pending += part
            if lines and b"\n" in part:
                whole, _, pending = pending.rpartition(b"\n")
                yield b"".join(_mended(line) + b"\n" for line in whole.split(b"\n"))
        if pending:
            yield _mended(pending)

    response.stream = _stream_of(stream, read)


def _stream_of(stream: Any, read: Callable[[], Iterator[bytes]]) -> Any:
    """What `read` gives, in the place of `stream`; httpx asks for an object of its own class."""
    base = next(cls for cls in type(stream).__mro__ if cls.__name__ == "SyncByteStream")
    return type("ReadStream", (base,), {"__iter__": lambda self: read(), "close": lambda self: stream.close()})()


def _mended(data: bytes) -> bytes:
    """An answer, or one line of a streamed one, with every call's arguments as text."""
    start = data.find(b"{")
    if b'"tool_calls"' not in data or start < 0:
        return data
    try:
        answer = json.loads(data[start:])
        calls = [
            call["function"]
            for choice in answer["choices"]
            for message in (choice.get("message"), choice.get("delta"))
            for call in (message or {}).get("tool_calls") or ()
        ]
        changed = False
        for function in calls:
            plain = _as_text(function.get("arguments"))
            changed = changed or plain != function.get("arguments")
            function["arguments"] = plain
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return data  # no answer of this protocol: the client says what is wrong
    return data[:start] + json.dumps(answer).encode() if changed else data


def _as_text(arguments: object) -> object:
    if isinstance(arguments, dict | list):
        return json.dumps(arguments)
    if isinstance(arguments, str) and arguments.lstrip().startswith('"'):
        try:
            inner = json.loads(arguments)
        except ValueError:
            return arguments  # a piece of a streamed one
        return inner if isinstance(inner, str) else arguments
    return arguments
