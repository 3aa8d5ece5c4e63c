"""A pseudo-terminal with an emulator behind it: runs a command as a person would and keeps what they see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

from studies.pages.terminal_picture import Row, rows_of

COLUMNS, ROWS = 100, 40
HISTORY_LINES = 100_000
QUIET_SECONDS = 0.25
"""A program that has been still for so long, with its prompt on the screen, waits for a line."""


class _Screen(pyte.HistoryScreen):
    """Answers the terminal's questions (where is the cursor, what are you) as a terminal does."""

    def __init__(self, columns: int, rows: int, reply_to: int) -> None:
        super().__init__(columns, rows, history=HISTORY_LINES)
        self._reply_to = reply_to

    def write_process_input(self, data: str) -> None:
        os.write(self._reply_to, data.encode())


class Terminal:
    """One command in a terminal of its own. Linux and macOS.

    `environment` replaces the whole environment of the command, so that a recording does not depend on who makes it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        columns: int = COLUMNS,
        rows: int = ROWS,
        folder: Path | None = None,
    ) -> None:
        """Start `command` in `folder` (default: here)."""
        self.raw = b""
        self.status: int | None = None
        pid, self._fd = pty.fork()
        if pid == 0:
            if folder is not None:
                os.chdir(folder)
            os.execvpe(command[0], list(command), dict(environment))
        self.pid = pid
        self._screen = _Screen(columns, rows, self._fd)
        self._stream = pyte.ByteStream(self._screen)
        self._size(columns, rows)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()
        os.close(self._fd)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def line(self, text: str) -> None:
        """Type a line and Enter."""
        self.type(text + "\r")

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window; the program gets SIGWINCH."""
        self._screen.resize(rows, columns)
        self._screen.cursor.y = min(self._screen.cursor.y, rows - 1)  # pyte leaves it outside a smaller screen
        self._screen.cursor.x = min(self._screen.cursor.x, columns - 1)
        self._size(columns, rows)

    def wait_for(self, pattern: str, seconds: float = 60.0) -> None:
        """Until something on the screen fits the regular expression. Raises `TimeoutError` with the screen."""
        self._until(lambda: re.search(pattern, self.screen()) is not None, f"`{pattern}`", seconds)

    def wait_still(self, prompts: Sequence[str], seconds: float = 300.0) -> None:
        """Until the program is still and the cursor's line begins with one of `prompts`."""
        begins = tuple(prompt.rstrip() for prompt in prompts)

        def waits() -> bool:
            line = self._screen.display[self._screen.cursor.y]
            return line.startswith(begins) and not self._read(QUIET_SECONDS)

        self._until(waits, f"one of {', '.join(begins)}", seconds)

    def wait_end(self, seconds: float = 60.0) -> int:
        """Until the program has ended; its exit status."""
        self._until(lambda: self.status is not None, "the end", seconds)
        assert self.status is not None
        return self.status

    def screen(self) -> str:
        """What stands on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def cells(self) -> list[Row]:
        """All that was ever shown and not wiped out again, cell by cell."""
        return rows_of(self._screen)

    def transcript(self) -> str:
        """All that was ever shown and not wiped out again, as text."""
        return "\n".join("".join(cell.data for cell in row).rstrip() for row in self.cells())

    def _until(self, reached: Callable[[], bool], what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._read(0.05)
            if reached():
                return
            if time.monotonic() > end or self.status is not None:
                raise TimeoutError(f"waited for {what}; status {self.status}; the screen shows:\n{self.screen()}")

    def _read(self, seconds: float) -> bool:
        """Feed what came to the emulator; True when something came."""
        if self.status is not None or not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            data = b""
        if not data:
            self._reap()
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def _reap(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def plain_environment(**more: str) -> dict[str, str]:
    """The environment of a recording: what the program needs, nothing about the one who records."""
    kept = ("PATH", "HOME", "R2SEG_CACHE", "TOTALSEG_WEIGHTS_PATH", "OMP_NUM_THREADS", "PYTHONPATH")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    always = {"LANG": "C.UTF-8", "PYTHONUTF8": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    return always | found | more


def r2seg_command(*arguments: str) -> list[str]:
    """`r2seg` with these arguments, by this interpreter."""
    return [sys.executable, "-m", "r2seg_agent", *arguments]
