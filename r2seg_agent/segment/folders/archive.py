"""The zip archive of an exported network: its members by name, read once, and written anew for torch.

torch's own reader and Python's may disagree about a forged archive (two members of one name, two directories). torch is
therefore given an archive that was made from the members that were checked.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

MAX_MEMBERS: Final = 20_000
MAX_BYTES: Final = 16 * 2**30
MAX_RATIO: Final = 4


class UnsafeModelError(ValueError):
    """A model file holds what a network does not need; the message says what."""


def read_members(data: bytes) -> tuple[str, dict[str, bytes]]:
    """The folder that all members lie in, and their bytes by path below it.

    Raises `UnsafeModelError` for a name that leaves the folder or comes twice, and for more bytes than the file's size
    explains (torch stores members as they are).
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len(infos) > MAX_MEMBERS or sum(i.file_size for i in infos) > min(
                MAX_BYTES, MAX_RATIO * len(data) + 2**20
            ):
                raise UnsafeModelError("it unpacks to more than its size explains")
            names = [info.filename for info in infos]
            for name in names:
                parts = PurePosixPath(name).parts
                if "\\" in name or "\0" in name or name.startswith("/") or ".." in parts or len(parts) < 2:
                    raise UnsafeModelError(f"it holds the member {shown(name)}, which lies outside its folder")
            roots = {name.partition("/")[0] for name in names}
            if len(roots) != 1 or len(set(names)) != len(names):
                raise UnsafeModelError("its members lie in several folders, or one comes twice")
            (root,) = roots
            return root, {info.filename.partition("/")[2]: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is no whole zip archive ({error})") from error


def write_members(root: str, members: Mapping[str, bytes]) -> io.BytesIO:
    """The archive for torch."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
    held.seek(0)
    return held


def shown(value: object) -> str:
    """What a stranger wrote, safe to print."""
    text = ascii(value)
    text = text[1:-1] if isinstance(value, str) else text
    return f"`{text}`" if len(text) <= 80 else f"`{text[:77]}…`"


def words(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())
