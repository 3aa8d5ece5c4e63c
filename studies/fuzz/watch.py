"""What a process under test may not do: write outside its own folder. Noted by an audit hook, which sees Python's own
calls; what compiled libraries write is found by looking at the folders around afterwards.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_CHANGES = frozenset(
    {
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.truncate",
        "os.chmod",
        "shutil.rmtree",
    }
)
_LINKS = ("os.symlink", "os.link")
_STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"})
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DEVICES = ("/dev/", "/proc/self/")


class Watch:
    """Notes writes outside of `allowed`, connections and new processes while `on`; `seen` is what was noted."""

    def __init__(self, allowed: Path) -> None:
        self.allowed = str(allowed.resolve())
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(_of(flags) & _WRITE)
            if writes:
                self._note(event, path)
        elif event in _CHANGES:
            for path in args[:2] if event == "os.rename" else args[1:2] if event in _LINKS else args[:1]:
                self._note(event, path)
        elif event in _STARTS:
            self.seen.append(event)

    def _note(self, event: str, path: object) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str | os.PathLike):
            return
        full = os.path.abspath(path)
        if not full.startswith((self.allowed, *_DEVICES)):
            self.seen.append(f"{event} {full}")


def _of(flags: object) -> int:
    return flags if isinstance(flags, int) else 0
