"""`/export`: a conversation's results as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import InputError
from r2seg_agent.files import copy_files

if TYPE_CHECKING:
    from r2seg_agent.cli.conversation.view import ChatView
    from r2seg_agent.runs.session import Session


def export(session: Session, to: Path | None, view: ChatView) -> None:
    """Write report, masks and pictures to the session's own folder, and copy them to the folder `to`; for a name that
    ends in .html, write the whole trace as one page there.

    Raises `InputError` where `to` cannot be written or nothing was searched yet.
    """
    if not session.search.targets:
        raise InputError(
            "nothing was searched yet, so there is nothing to export",
            'Say what to find, for example "find the lung nodule".',
        )
    view.tools.open()
    try:
        written = session.write()
    finally:
        view.tools.close()
    if to is not None and to.suffix.casefold() in (".html", ".htm"):
        from r2seg_agent.trace.html import write_page
        from r2seg_agent.trace.run import open_run

        write_page(open_run(session.folder.workspace, session.id), to)
        view.line(f"{to}: {to.stat().st_size / 1e6:.1f} MB, opens offline in any browser", "dim")
        return
    folder = session.folder.path
    names = (*written.files, "trace.jsonl")
    if to is not None:
        copy_files(folder, to, names, f"`{to}`")
        folder = to
    view.line(f"Files in {folder}: {', '.join(names)}", "dim")
