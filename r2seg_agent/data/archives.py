"""Archives of the package registry, by name: downloaded by pip, checked by sha256, kept in the cache.

`--require-hashes` checks the archive before anything in it is looked at; proxies, mirrors and certificates set up for
pip work here too. Nothing is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from r2seg_agent.data.catalog import Package
from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.files import cache_root, file_sha256

DOWNLOAD_TIMEOUT_S = 900


def package_archive(name: str, package: Package) -> Path:
    """The archive of distribution `name`, from the cache or from the package registry, its sha256 checked.

    Raises `MissingDependencyError` when the download or its hash fails.
    """
    folder = cache_root() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    # Wheels spell the dashes of a distribution's name as underscores.
    for spelled in sorted({name.lower(), name.lower().replace("-", "_")}):
        for path in folder.glob(f"{spelled}-{package.version}*"):
            if file_sha256(path) == package.sha256:
                return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", scratch, "--requirement", str(requirements)]
        if package.format == "sdist":
            # pip asks an sdist for its metadata; the environment's own setuptools and numpy serve for that.
            command += ["--no-build-isolation", "--no-binary", ":all:"]
        else:
            command += ["--only-binary", ":all:"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise MissingDependencyError(
                f"downloading {name}=={package.version} took over {DOWNLOAD_TIMEOUT_S} s", "Check the network."
            ) from error
        found = [p for p in Path(scratch).iterdir() if p != requirements and p.is_file()]
        if done.returncode != 0 or len(found) != 1:
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:] or ["no reason given"]
            raise MissingDependencyError(
                f"pip could not download {name}=={package.version} ({package.mb} MB): {last[0]}",
                "Check the network and pip's settings, then run the same command again.",
            )
        if file_sha256(found[0]) != package.sha256:
            raise MissingDependencyError(
                f"the download of {name}=={package.version} has the wrong sha256", "Try again."
            )
        final = folder / found[0].name.lower()
        os.replace(found[0], final)
        return final
