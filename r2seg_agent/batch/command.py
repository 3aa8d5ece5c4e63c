"""The command that runs one case of a batch alone, with the same result."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from r2seg_agent.batch.row import Job
from r2seg_agent.batch.worker import THREADS
from r2seg_agent.runs.declaration import RunOption
from r2seg_agent.runs.options import OPTIONS, PROCESS_OPTIONS, RunOptions

NOT_REPEATED = PROCESS_OPTIONS | {"segmenter"} | {name for name, o in OPTIONS.items() if "find" not in o.cli.verbs}
"""Options without a flag in the command: `segmenter` is always named, the others are no options of `find`."""


def find_command(job: Job) -> str:
    """`r2seg find …` for a POSIX shell, with every option that is not the default; "" for a job that `find` cannot do
    (a calibration's scoring, or gates that were set from Python).

    With as many threads as the worker: the rounding of networks depends on how their sums are split over threads.
    """
    options, plain = job.options, RunOptions(segmenter=job.options.segmenter)
    if options.reject == "score" or options.gates != plain.gates:
        return ""
    words = ["r2seg", "find", job.request, "--image", job.case.image, "--segmenter", options.segmenter]
    for name, option in OPTIONS.items():
        value = getattr(options, name)
        if name not in NOT_REPEATED and value != getattr(plain, name):
            words += _words(option, value)
    threads = os.environ.get("OMP_NUM_THREADS", THREADS["OMP_NUM_THREADS"])
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"


def _words(option: RunOption, value: object) -> list[str]:
    if isinstance(value, bool):
        return [option.flag if value else option.cli.negation]
    if isinstance(value, Mapping):
        return [word for name, path in value.items() for word in (option.flag, f"{name}={path}")]
    return [option.flag, _text(value)]


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value) if not isinstance(value, Path) else value.as_posix()
