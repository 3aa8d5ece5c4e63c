"""Where a run's state is kept after every step: SQLite in the workspace, or PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError

IN_MEMORY = "memory:"
"""For runs that are done again rather than resumed, such as the cases of a batch."""
BUSY_SECONDS = 30.0
"""How long a locked SQLite database is waited for."""


def _serializer() -> JsonPlusSerializer:
    """Checkpoints hold JSON values and messages: no other type may be built from them (LangGraph's strict mode)."""
    return JsonPlusSerializer(allowed_msgpack_modules=None)


@contextmanager
def checkpoints(workspace: Path, store: str | None = None) -> Iterator[BaseCheckpointSaver[str]]:
    """The checkpoint database: `checkpoints.sqlite` in the workspace, the one at the URL `store`, or memory alone.

    Raises `InputError` for another URL than `postgresql://…`, `MissingDependencyError` without the extra `postgres`,
    `RunFailedError` when the database cannot be opened or is locked for long.
    """
    if store is None:
        with _sqlite(workspace) as saver:
            yield saver
        return
    if store == IN_MEMORY:
        from langgraph.checkpoint.memory import InMemorySaver

        yield InMemorySaver(serde=_serializer())
        return
    if urlsplit(store).scheme not in ("postgresql", "postgres"):
        raise InputError(
            f"`--store` takes a postgresql:// URL, got `{urlsplit(store).scheme or store}`",
            "Leave it out to keep checkpoints in the workspace.",
        )
    with _postgres(store) as saver:
        yield saver


def storage_error(error: BaseException) -> RunFailedError | None:
    """What an error of the checkpoint database means to the person at the keyboard; None for any other error."""
    if isinstance(error, sqlite3.Error):
        return RunFailedError(
            f"the workspace's checkpoint database failed: {error}",
            "Free space, or close what locks `checkpoints.sqlite`, then `r2seg resume` the run.",
        )
    if type(error).__module__.partition(".")[0] in ("psycopg", "psycopg_pool"):
        # The message of a failed connection may quote the URL and its password.
        return RunFailedError(
            f"the PostgreSQL server of `--store` failed ({type(error).__name__})",
            "Check that it runs and that the URL's user may create tables, then `r2seg resume` the run.",
        )
    return None


@contextmanager
def _sqlite(workspace: Path) -> Iterator[BaseCheckpointSaver[str]]:
    connection = None
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(workspace / "checkpoints.sqlite", check_same_thread=False, timeout=BUSY_SECONDS)
        saver = SqliteSaver(connection, serde=_serializer())
        saver.setup()
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        raise RunFailedError(
            f"the workspace's checkpoint database cannot be opened: {error}",
            "Choose another folder with --workspace, or move the damaged `checkpoints.sqlite` away.",
        ) from error
    try:
        yield saver
    finally:
        connection.close()


@contextmanager
def _postgres(url: str) -> Iterator[BaseCheckpointSaver[str]]:
    try:
        import psycopg
        from langgraph.checkpoint.postgres import PostgresSaver
    except ImportError as error:
        raise MissingDependencyError(
            "`--store postgresql://…` needs the extra `postgres`", "pip install 'r2seg-agent[postgres]'"
        ) from error
    with ExitStack() as opened:
        try:
            saver = opened.enter_context(PostgresSaver.from_conn_string(url))
            saver.serde = _serializer()
            with saver._cursor() as cursor:
                cursor.execute("SHOW server_encoding")
                encoding = str(next(iter((cursor.fetchone() or {"": ""}).values())))
            if "UTF8" not in encoding:
                # In SQL_ASCII text comes back as bytes, and checkpoints are not found again.
                raise InputError(
                    f"the database of `--store` has the encoding {encoding}; checkpoints need UTF8",
                    "CREATE DATABASE r2seg ENCODING 'UTF8' TEMPLATE template0;",
                )
            saver.setup()
        except psycopg.Error as error:
            raise storage_error(error) or error from error
        yield saver
