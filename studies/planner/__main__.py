"""`python -m studies.planner`: the accuracy of a planner on the key, as Markdown and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from r2seg_agent.errors import BudgetError, MissingDependencyError, R2SegError
from studies.planner.key import Case, load
from studies.planner.offline import answer_offline
from studies.planner.score import Answer, Rate, Verdict, judge, markdown, rate, wilson

OFFLINE = "offline"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 whatever the accuracy is: the eval measures, tests decide."""
    options = _parser().parse_args(arguments)
    cases = _chosen(load(), options.half, options.per_category)
    try:
        verdicts = _ask_all(_planner(options.planner), cases, options.log)
    except R2SegError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 3 if isinstance(error, MissingDependencyError) else 4 if isinstance(error, BudgetError) else 2
    table = markdown(verdicts)
    print(table)
    if options.planner != OFFLINE:
        print("\n" + _effort(verdicts))
    for verdict in verdicts:
        if verdict.case.half == "tuned" and not verdict.exact:
            print(f"\n{verdict.case.id}: {verdict.case.request!r}\n  {_said(verdict.answer)}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "planner-eval.md").write_text(table + "\n", encoding="utf-8")
        text = json.dumps(_as_json(options.planner, verdicts), indent=1, ensure_ascii=False)
        (options.out / "planner-eval.json").write_text(text + "\n", encoding="utf-8")
    return 0


def _planner(spec: str) -> Callable[[Case], Answer]:
    """From `offline` or `provider:model[@base_url]`."""
    if spec == OFFLINE:
        return answer_offline
    from studies.planner.ask import asker  # LangChain loads only for a model

    name, _, base_url = spec.partition("@")
    return asker(name, base_url or None)


def _ask_all(planner: Callable[[Case], Answer], cases: Sequence[Case], log: Path | None) -> list[Verdict]:
    """One verdict per case. A `log` keeps every answer; those that an earlier run left there are not asked again."""
    kept = {}
    if log is not None and log.exists():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        kept = {line["id"]: Answer.model_validate(line["answer"]) for line in lines}
    verdicts = []
    for i, case in enumerate(cases, 1):
        answer = kept.get(case.id) or planner(case)
        if log is not None and case.id not in kept:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"id": case.id, "answer": answer.model_dump(mode="json")}) + "\n")
        verdicts.append(judge(case, answer))
        if sys.stderr.isatty():
            print(f"\r{i} of {len(cases)}", end="\n" if i == len(cases) else "", file=sys.stderr, flush=True)
    return verdicts


def _effort(verdicts: Sequence[Verdict]) -> str:
    """What a model took, and what the user gets where the referee stepped in."""
    answers = [v.answer for v in verdicts]
    served = Rate(sum(v.served for v in verdicts), len(verdicts))
    call_formats = Counter(a.call_format for a in answers).most_common()
    seconds, tokens = median(a.seconds for a in answers), median(a.tokens for a in answers)
    return (
        f"Right for the user, the referee's plans included: {served.right} of {served.n}: {served}. "
        f"No valid call in two: {sum(a.referee for a in answers)}. Calls came as: "
        f"{', '.join(f'{call_format} {n}' for call_format, n in call_formats)}. "
        f"Median {seconds:.1f} s and {tokens:.0f} tokens a request."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.planner", description=__doc__)
    parser.add_argument("--planner", default=OFFLINE, help="offline (default) or provider:model[@base_url]")
    parser.add_argument("--half", choices=("held_out", "tuned", "both"), default="both")
    parser.add_argument("--per-category", type=int, metavar="N", help="only the first N of each category and half")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write planner-eval.md and planner-eval.json there")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep every answer there; go on from it after a break")
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
