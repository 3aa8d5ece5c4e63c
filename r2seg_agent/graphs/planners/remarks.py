"""What the offline planner says where no tool is called. Plain sentences; every number in them is on the table."""

from __future__ import annotations

from r2seg_agent.reason.language.dialogue import Remark, Table
from r2seg_agent.report.format import plural
from r2seg_agent.tools import CARDS
from r2seg_agent.tools._runtime import ToolCard

CAN_DO = (
    "You can ask for a lesion in an organ (“find the pancreatic lesion”), then “how big is it?”, “where exactly?”, "
    "“show me the slice”, “why did you reject the second one?”, “look wider”, “include the duodenum”, “what about the "
    "liver?”, “use alpha 0.01”, “undo that” and “what did you do so far?”."
)
_FIXED = {
    "thanks": "You are welcome.",
    "greeting": f"Hello. {CAN_DO}",
    "bye": "Leave with /quit or Ctrl-D; the session is kept.",
    "help": CAN_DO,
    "diagnosis": (
        "I cannot tell what it is or what to do about it: this is research software, not a medical device. I can say "
        "how big it is, where it lies and why it was kept."
    ),
    "level": "Say which level, for example “use alpha 0.01”: smaller is stricter, larger keeps more.",
    "organ": "I measure findings, not organs. Ask for a lesion in it, or for the size of a finding by its number.",
    "exclude": (
        "I do not take anything out of a search that was done: what is kept is decided by the test. Start a search "
        "that leaves it out, for example “find lesions in the kidneys but not on the left”, or say “undo that”."
    ),
    "export": (
        "`/export` writes the report, the masks and the pictures; `--mask-format same`, given at the start, writes "
        "the masks in the format of the scan, as DICOM SEG for DICOM."
    ),
}
MAX_QUOTED = 60


def remark_text(remark: Remark, table: Table) -> str:
    """The answer to something that needs no tool."""
    if remark.topic == "missing":
        return f"No finding fits “{remark.text}”. {_findings(table)}"
    if remark.topic == "unknown":
        return f"I did not understand “{_cut(remark.text)}”. {CAN_DO}"
    return _FIXED[remark.topic]


def unavailable_text(tool: str, table: Table) -> str:
    """Why `tool` is not open now, and what is."""
    card = CARDS.get(tool, ToolCard())
    if not table.targets and not card.before_search:
        return "Nothing was searched yet. Say what to look for, for example “find the lung nodule”."
    return card.unavailable.format(findings=_findings(table), rejected=_rejected(table))


def refused_text(error: str) -> str:
    """A tool's refusal, for the user."""
    return f"That is not possible: {error.strip().rstrip('.')}."


def _findings(table: Table) -> str:
    if not table.findings:
        return f"Nothing was found so far. {_rejected(table)}"
    shown = "; ".join(f"{row.number}: {row.name}, {row.place}" for row in table.findings[:6])
    more = f" and {len(table.findings) - 6} more" if len(table.findings) > 6 else ""
    return f"Findings: {shown}{more}."


def _rejected(table: Table) -> str:
    n = len(table.rejected)
    if not n:
        return "No candidate was proposed either."
    return f"{plural(n, 'candidate')} {'was' if n == 1 else 'were'} rejected; ask why."


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"
