"""The command that runs one case of a batch alone, with the same result."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from r2seg_agent.batch.row import PROCESS_OPTIONS, Job
from r2seg_agent.batch.worker import THREADS
from r2seg_agent.runs.options import RunOptions

SAID_OTHERWISE = {"channels", "gates", "overlays", "score", "segmenter"}
"""`channels` has a form of its own, `segmenter` is always named; the others are no options of `find`."""


def find_command(job: Job) -> str:
    """`r2seg find …` for a POSIX shell, with every option that is not the default; "" for a job that `find` cannot do
    (a calibration's scoring, or gates that were set from Python).

    With as many threads as the worker: networks round otherwise when their sums are shared out otherwise.
    """
    options, plain = job.options, RunOptions(segmenter=job.options.segmenter)
    if options.reject == "score" or options.gates != plain.gates:
        return ""
    words = ["r2seg", "find", job.request, "--image", job.case.image, "--segmenter", options.segmenter]
    saved = options.model_dump(mode="python", exclude={*PROCESS_OPTIONS, *SAID_OTHERWISE})
    for name, value in saved.items():
        if value == getattr(plain, name):
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, _text(value)]
    words += _channels(options.channels)
    threads = os.environ.get("OMP_NUM_THREADS", THREADS["OMP_NUM_THREADS"])
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"


def _channels(channels: Mapping[str, str]) -> list[str]:
    return [word for name, path in channels.items() for word in ("--channel", f"{name}={path}")]


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value) if not isinstance(value, Path) else value.as_posix()
