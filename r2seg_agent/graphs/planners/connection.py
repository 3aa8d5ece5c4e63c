"""The connection to a language model's server: to the stated address and nowhere else, with a bounded answer.

The clients' own defaults send prompts and keys through whatever proxy the environment names (for an address on this
machine too), follow a server that sends the request on elsewhere, and read an answer of any size into memory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
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
    """The same stream of bytes, given up after `MAX_ANSWER_BYTES`; httpx asks for an object of its own class."""
    base = next(cls for cls in type(stream).__mro__ if cls.__name__ == "SyncByteStream")

    def read(self: Any) -> Iterator[bytes]:
        size = 0
        for part in stream:
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise AnswerTooLargeError(f"the server sends more than {MAX_ANSWER_BYTES} bytes")
            yield part

    return type("BoundedStream", (base,), {"__iter__": read, "close": lambda self: stream.close()})()
