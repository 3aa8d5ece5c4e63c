"""Names of files that are not UTF-8 ("M\\xfcller" of an old archive): JSON, tables and ITK cannot hold them.

They come in once, at the door, as a path that everything can hold: through a link of our own in the user's cache, named
by a hash of the place. So a run that is resumed, a worker and a native library all open the same file.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2seg_agent.errors import InputError, readable_text
from r2seg_agent.files import cache_root

_SURROGATE = re.compile("[\ud800-\udfff]")
_MODEL_PREFIX = re.compile(r"[a-z0-9_.-]{2,}:(?=.)")
_MAX_BESIDE = 2000
"""Files beside one with such a name that are linked too: names of labels, voxels of a detached header."""


def utf8_path(text: str) -> str:
    """`text`, a path or an option that holds one (`nnunet:PATH`, `PATH=liver`, `PATH::2`), in UTF-8.

    A name in the other normal form of Unicode (a Mac writes ü as u and ¨) finds the file that has it in the first one.
    What names nothing that exists comes back with `�` in place of the bytes, for the caller's own error.

    Raises:
        InputError: the link cannot be made.
    """
    if text.isascii():
        return text
    text = _as_stored(text)
    while _SURROGATE.search(text):
        start = 0 if Path(text).is_absolute() else _prefix_length(text)
        parts = text[start:].split("/")
        n = next(i for i, part in enumerate(parts) if _SURROGATE.search(part))
        folder = "".join(f"{part}/" for part in parts[:n])
        name = next((name for name in _names(parts[n]) if os.path.lexists(folder + name)), None)
        if name is None:
            return readable_text(text)
        linked = _link(Path(folder + name))
        text = "/".join([text[:start] + str(linked) + parts[n][len(name) :], *parts[n + 1 :]])
    return text


def utf8_paths(value: Any) -> Any:
    """`value` with every text and path in it, also in mappings and sequences, as by `utf8_path`."""
    if isinstance(value, str):
        return utf8_path(value)
    if isinstance(value, Path):
        return Path(utf8_path(str(value)))
    if isinstance(value, Mapping):
        return {readable_text(key) if isinstance(key, str) else key: utf8_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(utf8_paths(item) for item in value) if type(value) in (list, tuple) else value
    return value


def _as_stored(text: str) -> str:
    """`text` with each component that is not there in the form of Unicode in which it is."""
    start = 0 if Path(text).is_absolute() else _prefix_length(text)
    parts = text[start:].split("/")
    for n, part in enumerate(parts):
        folder = "".join(f"{part}/" for part in parts[:n])
        if not part or any(os.path.lexists(folder + name) for name in _names(part)):
            continue
        try:
            there = {unicodedata.normalize("NFC", name): name for name in os.listdir(folder or ".")}
        except OSError:
            break
        same = {name: there.get(unicodedata.normalize("NFC", name)) for name in _names(part)}
        name, stored = next(((name, stored) for name, stored in same.items() if stored is not None), (part, None))
        if stored is None:
            break
        parts[n] = stored + part[len(name) :]
    return text[:start] + "/".join(parts)


def _prefix_length(text: str) -> int:
    match = None if os.path.lexists(text) else _MODEL_PREFIX.match(text)
    return match.end() if match else 0


def _names(part: str) -> list[str]:
    """A component of a path, and what it may be without the rest of an option: `a=liver`, `a::2`, `a#3d_fullres`."""
    ends = sorted({len(part), *(match.start() for match in re.finditer("=|::|#", part))}, reverse=True)
    return [part[:end] for end in ends if end]


def _link(path: Path) -> Path:
    """A link to `path`, whose last component is not UTF-8; the folders above it are."""
    path = Path(os.path.abspath(path))
    folder = _links_folder() / hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
    if _SURROGATE.search(str(folder)):
        raise InputError(
            f"`{path}` is no name in UTF-8, and neither is the folder for links, `{folder}`.",
            "Rename the file or folder, or set R2SEG_CACHE to a folder with a plain name.",
        )
    wanted = [path]
    if not path.is_dir():
        beside = os.listdir(path.parent)
        wanted += [path.parent / name for name in beside if len(beside) <= _MAX_BESIDE]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for target in wanted:
            link = folder / _plain(target.name)
            if os.path.lexists(link) and os.readlink(link) == str(target):
                continue
            part = link.with_name(f".{link.name}.{os.getpid()}")
            part.symlink_to(target)
            part.replace(link)
    except OSError as error:
        raise InputError(
            f"`{path}` is no name in UTF-8, and no link to it can be made: {error.strerror or error}.",
            "Rename the file or folder.",
        ) from error
    return folder / _plain(path.name)


def _plain(name: str) -> str:
    """The name in UTF-8; two names never become one."""
    if not _SURROGATE.search(name):
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:6]
    stem, dot, suffix = _SURROGATE.sub("_", name).partition(".")
    return f"{stem}_{digest}{dot}{suffix}"


def _links_folder() -> Path:
    cache = cache_root() / "names"
    if not _SURROGATE.search(str(cache)):
        return cache
    own = Path(tempfile.gettempdir(), f"r2seg-names-{os.getuid()}")
    own.mkdir(mode=0o700, exist_ok=True)
    status = own.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise InputError(f"`{own}` belongs to somebody else.", "Set R2SEG_CACHE to a folder with a plain name.")
    return own
