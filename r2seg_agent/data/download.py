"""Large files over HTTP: continued where they were cut off, from stated hosts alone, every failure in plain words.

A file grows under the name that the caller states; beside it lies a note with the server's validator (ETag or
Last-Modified). A later call asks for the rest (`Range`, `If-Range`): a server whose file has changed sends all of it
again. Proxies and certificates are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). What is sent is the
address of the file and the name of this program, nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import ValidationError

from r2seg_agent.errors import InputError, MissingDependencyError, R2SegError, RunFailedError
from r2seg_agent.files import write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.version import __version__

Wait = Callable[[float], None]
"""Lets that many seconds pass."""
BytesProgress = Callable[[int, int | None], None]
"""Called with the bytes that are there and those of the whole file (None: the server does not say)."""

REDIRECTS: Final = 10
ATTEMPTS: Final = 5
"""Tries in a row that bring no new byte."""
ATTEMPTS_IN_ALL: Final = 50
LONGEST_WAIT_S: Final = 120.0
"""A server that asks for a longer pause is not waited for."""
STALLED_S: Final = 60.0
"""A connection that brings nothing for so long counts as cut off."""


class Source(NamedTuple):
    """One file on a server. `hosts`: the only ones that are asked, each with its subdomains. `page` is for people."""

    url: str
    hosts: tuple[str, ...]
    limit_bytes: int
    page: str = ""


class _Note(Frozen):
    """What is known about an unfinished file: for `If-Range`, and whether it is whole."""

    url: str
    validator: str | None
    total: int | None


class _Try(NamedTuple):
    """How one request ended: with the whole file, or cut off for a reason, to be tried again after a pause."""

    done: bool
    reason: str = ""
    pause_s: float | None = None


def download(
    source: Source, path: Path, progress: BytesProgress, wait: Wait = time.sleep, stalled_s: float = STALLED_S
) -> None:
    """Write the file of `source` to `path`; what is there of it already is kept and continued.

    Raises:
        InputError: an address that is no HTTP address or of a host that is not allowed, or `path` cannot be written.
        MissingDependencyError: the server refuses, has no such file, sends too much, or cannot be reached.
        RunFailedError: the disk is full.
    """
    _check_address(source.url, source, None)
    timeout = httpx.Timeout(30.0, read=stalled_s)
    headers = {"User-Agent": f"r2seg-agent/{__version__}", "Accept-Encoding": "identity"}
    with httpx.Client(timeout=timeout, headers=headers, follow_redirects=False) as client:
        in_vain, ended = 0, _Try(done=False)
        for _ in range(ATTEMPTS_IN_ALL):
            before = _size(path)
            if before and (note := _note(path, source.url)) is not None and note.total == before:
                progress(before, before)
                return
            with _disk_errors(path):
                ended = _one_try(client, source, path, progress)
            if ended.done:
                return
            in_vain = 0 if _size(path) > before else in_vain + 1
            if in_vain >= ATTEMPTS or (ended.pause_s or 0.0) > LONGEST_WAIT_S:
                break
            wait(2.0 ** max(0, in_vain - 1) if ended.pause_s is None else ended.pause_s)
    there = _size(path)
    kept = f" {there / 1e6:.1f} MB are kept: the same command goes on from there." if there else ""
    raise MissingDependencyError(
        f"the download from {_host(source.url)} does not succeed: {ended.reason}.",
        f"Run the same command again later.{kept} Behind a proxy set HTTPS_PROXY; without a network use `--from`.",
    )


def forget(path: Path) -> None:
    """Delete an unfinished or wrong file and its note."""
    path.unlink(missing_ok=True)
    _note_path(path).unlink(missing_ok=True)


def _one_try(client: httpx.Client, source: Source, path: Path, progress: BytesProgress) -> _Try:
    note, there = _note(path, source.url), _size(path)
    if there and (note is None or note.validator is None):  # nobody can say whether the rest would fit
        forget(path)
        there = 0
    asked = {"Range": f"bytes={there}-", "If-Range": note.validator} if there and note and note.validator else {}
    try:
        with _answer(client, source, asked) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                forget(path)
                return _Try(done=False, reason="the server has another file than before", pause_s=0.0)
            if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                return _refused(answer, source)
            return _received(answer, source, path, there, progress)
    except httpx.TimeoutException:
        return _Try(done=False, reason="the server does not answer, or stopped sending")
    except httpx.ProxyError as error:
        return _Try(done=False, reason=f"the proxy refuses ({error})")
    except httpx.TransportError as error:
        return _Try(done=False, reason=f"the connection fails or breaks off ({str(error) or type(error).__name__})")


@contextmanager
def _answer(client: httpx.Client, source: Source, asked: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer to a GET, redirects followed to hosts of the source alone."""
    url = source.url
    for _ in range(REDIRECTS + 1):
        with client.stream("GET", url, headers=asked) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            target = urljoin(url, answer.headers["Location"])
        _check_address(target, source, url)
        url = target
    raise MissingDependencyError(
        f"{_host(source.url)} redirects more than {REDIRECTS} times", f"Look at {source.page or source.url}."
    )


def _received(answer: httpx.Response, source: Source, path: Path, there: int, progress: BytesProgress) -> _Try:
    """Write what the server sends: the rest of the file (206), or all of it."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise MissingDependencyError(
            f"{answer.url.host} sends the file compressed, which was not asked for", "Use another mirror with `--from`."
        )
    begin, total = _extent(answer)
    if begin not in (0, there):
        forget(path)
        return _Try(done=False, reason="the server sends another part than it was asked for", pause_s=0.0)
    if (total or 0) > source.limit_bytes:
        raise _too_large(source, total)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = _Note(url=source.url, validator=_validator(answer), total=total)
    if begin == 0:
        path.unlink(missing_ok=True)
        write_text_atomic(_note_path(path), note.model_dump_json())
    with path.open("ab") as file:
        progress(begin, total)
        for block in answer.iter_raw():  # as they arrive: httpx loses an unfinished block of a stated size
            file.write(block)
            if file.tell() > source.limit_bytes:
                file.close()
                forget(path)
                raise _too_large(source, None)
            progress(file.tell(), total)
        size = file.tell()
    if total is not None and size != total:
        return _Try(done=False, reason=f"the server sent {size} of {total} bytes")
    write_text_atomic(_note_path(path), note.model_copy(update={"total": size}).model_dump_json())
    return _Try(done=True)


def _extent(answer: httpx.Response) -> tuple[int, int | None]:
    """First byte of what the answer holds, and the size of the whole file."""
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(answer: httpx.Response) -> str | None:
    """What `If-Range` takes: a strong ETag, else the date of the file."""
    tag = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    date = answer.headers.get("Last-Modified")
    return None if date is None else str(date)


def _refused(answer: httpx.Response, source: Source) -> _Try:
    """A pause for an overloaded server; the error for one that will not send the file."""
    status, host = answer.status_code, answer.url.host
    if status in (408, 425, 429) or status >= 500:
        busy = "asks for fewer requests" if status == httpx.codes.TOO_MANY_REQUESTS else "is out of order"
        return _Try(done=False, reason=f"the server {busy} (HTTP {status})", pause_s=_pause_s(answer))
    where = f" Its page is {source.page}." if source.page else ""
    by_hand = "download the files there in a browser, and fetch with `--from FOLDER`"
    if status in (401, 403):
        raise MissingDependencyError(
            f"{host} refuses the file (HTTP {status}): it is gated, or needs an account.",
            f"Accept the conditions on the model's page, {by_hand}.{where}",
        )
    if status in (404, 410):
        raise MissingDependencyError(
            f"{host} has no such file (HTTP {status}): `{source.url}`.",
            f"Its authors may have moved it: {by_hand}, or name a mirror with `--from URL`.{where}",
        )
    raise MissingDependencyError(f"{host} answers HTTP {status} for `{source.url}`.", f"Try `--from`.{where}")


def _pause_s(answer: httpx.Response) -> float | None:
    """`Retry-After` in seconds, given as a number or a date; None where there is none."""
    stated = answer.headers.get("Retry-After", "")
    if stated.isdigit():
        return float(stated)
    try:
        return max(0.0, parsedate_to_datetime(stated).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _check_address(url: str, source: Source, previous: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InputError(f"`{url}` is no address of a file on a server", "An address begins with https:// or http://.")
    if previous is not None and urlsplit(previous).scheme == "https" and parts.scheme != "https":
        raise MissingDependencyError(
            f"{_host(previous)} redirects to an unencrypted address, `{parts.hostname}`", "Use another mirror."
        )
    if not any(parts.hostname == host or parts.hostname.endswith(f".{host}") for host in source.hosts):
        raise MissingDependencyError(
            f"{_host(previous or url)} redirects to `{parts.hostname}`, which is none of the hosts of this model: "
            f"{', '.join(source.hosts)}",
            "Nothing was installed. A login page of your network? Otherwise name a mirror with `--from URL`.",
        )


def _too_large(source: Source, total: int | None) -> R2SegError:
    size = "more" if total is None else f"{total / 1e6:.0f} MB"
    return MissingDependencyError(
        f"{_host(source.url)} sends {size}, at most {source.limit_bytes / 1e6:.0f} MB are expected: another file.",
        f"Look at {source.page or source.url}." + " Nothing was installed.",
    )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"cannot write `{path.name}` into the cache: {error.strerror}", "Set R2SEG_CACHE to a folder of yours."
        ) from error
    except OSError as error:
        raise RunFailedError(
            f"cannot write `{path.name}` into the cache: {error.strerror or error}",
            "Check the free space of the disk, then run again: the download is continued.",
        ) from error


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _note(path: Path, url: str) -> _Note | None:
    try:
        note = _Note.model_validate_json(_note_path(path).read_bytes())
    except (OSError, ValidationError):
        return None
    return note if note.url == url else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
