"""Which of a verb's arguments is the scan and which the request: `find` and `chat` take them in either order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from r2seg_agent.errors import InputError

DICOMWEB = "dicomweb://"


class Given(NamedTuple):
    """The scan and the request, None where it was not given."""

    scan: str | None
    request: str | None


def looks_like_scan(text: str) -> bool:
    """True for a path that exists, a name with the suffix of an image, or a `dicomweb://` address."""
    from r2seg_agent.imaging.files import FORMAT_OF_SUFFIX, file_of, suffix_of

    try:
        file = file_of(text)
    except (OSError, ValueError):  # longer than a file name may be, or with a null character
        return False
    if text.lower().startswith(DICOMWEB) or suffix_of(file) in FORMAT_OF_SUFFIX:
        return True
    try:
        return bool(text.strip()) and Path(text).exists()
    except (OSError, ValueError):  # longer than a file name may be, or with a null character
        return False


def scan_and_request(verb: str, words: Sequence[str], image: str | None) -> Given:
    """Sort the positional arguments `words` of `r2seg VERB` into scan and request; `image` is `--image`.

    With `--image`, one argument is the request, whatever it looks like. Raises `InputError`, which names the
    arguments and shows the three forms, where two arguments are both scans or both requests, or where there are more.
    """
    most = 1 if image is not None else 2
    if len(words) > most:
        besides = f" besides `--image {image}`" if image is not None else ""
        raise InputError(f"too many arguments{besides}: {_quoted(words)}", _forms(verb))
    if image is not None:
        return Given(image, words[0] if words else None)
    scans = [text for text in words if looks_like_scan(text)]
    requests = [text for text in words if text not in scans]
    if len(words) == 2 and len(scans) != 1:
        what = "both are scans" if scans else "neither is a scan (no such file or folder)"
        raise InputError(f"one of {_quoted(words)} must be the scan, the other the request; {what}", _forms(verb))
    return Given(scans[0] if scans else None, requests[0] if requests else None)


def scan_of(verb: str, given: Given) -> str:
    """The scan. Raises `InputError` where none was given."""
    if given.scan is not None:
        return given.scan
    why = "" if given.request is None else f": `{given.request}` is no file or folder, so it is taken for the request"
    raise InputError(f"no scan was given{why}", _forms(verb))


def request_of(verb: str, given: Given) -> str:
    """The request. Raises `InputError` where none was given."""
    if given.request is not None:
        return given.request
    raise InputError(f"no request was given for the scan `{given.scan}`", _forms(verb))


def _forms(verb: str) -> str:
    request = '"find the lung nodule"'
    orders = (f"SCAN {request}", f"{request} SCAN", f"{request} --image SCAN")
    resumed = ("r2seg chat --resume ID",) if verb == "chat" else ()
    return "\n".join((*(f"r2seg {verb} {order}" for order in orders), *resumed))


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"`{text}`" for text in words[:-1]) + f" and `{words[-1]}`" if len(words) > 1 else f"`{words[0]}`"
