"""`python -m r2seg_agent.evals.planner`: the accuracy of a planner on the key, as Markdown and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from r2seg_agent.evals.planner.key import Case, load
from r2seg_agent.evals.planner.offline import answer_offline
from r2seg_agent.evals.planner.score import Answer, Verdict, judge, markdown, rate, wilson


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 whatever the accuracy is: the eval measures, tests decide."""
    options = _parser().parse_args(arguments)
    cases = _chosen(load(), options.half, options.per_category)
    planner: Callable[[Case], Answer] = answer_offline
    verdicts: list[Verdict] = []
    for i, case in enumerate(cases, 1):
        verdicts.append(judge(case, planner(case)))
        if sys.stderr.isatty():
            print(f"\r{i} of {len(cases)}", end="\n" if i == len(cases) else "", file=sys.stderr, flush=True)
    table = markdown(verdicts)
    print(table)
    for verdict in verdicts:
        if verdict.case.half == "tuned" and not verdict.exact:
            print(f"\n{verdict.case.id}: {verdict.case.request!r}\n  {_said(verdict.answer)}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "planner-eval.md").write_text(table + "\n", encoding="utf-8")
        text = json.dumps(_as_json(options.planner, verdicts), indent=1, ensure_ascii=False)
        (options.out / "planner-eval.json").write_text(text + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m r2seg_agent.evals.planner", description=__doc__)
    parser.add_argument("--planner", default="offline", help="offline (default)")
    parser.add_argument("--half", choices=("held_out", "tuned", "both"), default="both")
    parser.add_argument("--per-category", type=int, metavar="N", help="only the first N of each category and half")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write planner-eval.md and planner-eval.json there")
    return parser


def _chosen(cases: Sequence[Case], half: str, per_category: int | None) -> list[Case]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    chosen = []
    for case in cases:
        seen[case.category, case.half] += 1
        if half in ("both", case.half) and (per_category is None or seen[case.category, case.half] <= per_category):
            chosen.append(case)
    return chosen


def _said(answer: Answer) -> str:
    if answer.failure is not None:
        return f"failed: {answer.failure}"
    if answer.question is not None:
        return f"asked: {answer.question}"
    return "; ".join(f"{p.target} side {p.laterality} in {', '.join(p.anchors)}" for p in answer.plans)


def _as_json(planner: str, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Answers are given for the tuned half alone: what the held-out half got wrong stays unread."""
    halves = {}
    for half in ("held_out", "tuned"):
        exact, targets = rate(verdicts, half), rate(verdicts, half, targets=True)
        halves[half] = {
            "n": exact.n,
            "exact": exact.right,
            "exact_interval_95": wilson(*exact),
            "targets": targets.right,
            "targets_interval_95": wilson(*targets),
        }
    return {
        "planner": planner,
        "halves": halves,
        "cases": [
            {"id": v.case.id, "exact": v.exact, "targets": v.targets}
            | ({"answer": _said(v.answer)} if v.case.half == "tuned" else {})
            for v in verdicts
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
