"""The offline planner: rules in place of a language model, so that the same graph runs with no key and no network.

It is deterministic. The language work is done by `reason/language`: which asks a message holds (`dialogue/`), what a
search is for (`plan_request.py`, inside `plan_search`). Here each ask becomes a call, one a time: the planner is
asked again after each tool, sees in the turn's log what is done, and continues with the next ask. It is a stand-in
for a language model and is named so wherever results are shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.tools import BaseTool
from pydantic import JsonValue

from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.graphs.planners.remarks import refused_text, remark_text, unavailable_text
from r2seg_agent.graphs.planners.replies import declines, which_of_choice, which_of_reply
from r2seg_agent.graphs.planners.turn_log import Called, Logged, Replied, last_asked, log_of_turn
from r2seg_agent.reason.language.dialogue import (
    Ask,
    Describe,
    Explain,
    Find,
    Include,
    Intent,
    Locate,
    Remark,
    Same,
    SetAlpha,
    Show,
    Summarize,
    Undo,
    Which,
    Widen,
    read_asks,
)
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.referents import table_of
from r2seg_agent.tools.state import SearchState

OFFLINE_PLANNER_NAME = "offline planner (a stand-in for a language model)"

MAX_EACH = 4
"""Findings that one ask shows or locates one by one; more are described together."""
_SAID_AGAIN: Mapping[str, type[Describe | Locate | Explain | Show]] = {
    "describe_findings": Describe,
    "locate_finding": Locate,
    "explain_candidate": Explain,
    "show_slices": Show,
}
"""What "and the second one?" repeats."""


_OfWhich = Describe | Locate | Explain | Show | Same


@dataclass(frozen=True)
class _Wanted:
    tool: str
    args: Mapping[str, JsonValue]


class OfflinePlanner:
    """Turns the user's message into tool calls by rules."""

    name = OFFLINE_PLANNER_NAME
    kind: PlannerKind = "offline"

    def __init__(
        self,
        search: SearchState | None = None,
        store: ArtifactStore | None = None,
        history: Sequence[AnyMessage] = (),
    ) -> None:
        self._search, self._store, self._history = search, store, history

    def reading(self, search: SearchState, store: ArtifactStore, history: Sequence[AnyMessage]) -> OfflinePlanner:
        """This planner, looking at `search` and at the whole messages of the graph."""
        return OfflinePlanner(search, store, history)

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """The next call by rules; with none left, the sentence that is left (`messages` are not looked at)."""
        offered = {tool.name for tool in tools}
        if self._search is None or self._store is None:
            return PlannerReply(call=None)
        if offered == {"plan_search"}:  # a single search: the message is its request
            wanted: _Wanted | str = _Wanted("plan_search", {"targets": [self._search.message]})
        elif "plan_search" not in offered:
            return PlannerReply(call=None)
        else:
            wanted = _Turn(self._search, self._store, self._history, offered).next()
        if isinstance(wanted, str):
            return PlannerReply(call=None, text=wanted, call_format="none")
        call = ToolCall(name=wanted.tool, args=dict(wanted.args), id=wanted.tool)
        return PlannerReply(call=call, call_format="rules")


class _Turn:
    """The open turn: its asks, what was done for them, and what comes next."""

    def __init__(
        self, search: SearchState, store: ArtifactStore, history: Sequence[AnyMessage], offered: set[str]
    ) -> None:
        self._search, self._offered = search, offered
        self._table = table_of(search, store)
        self._log = deque(log_of_turn(history))
        self._repeats = _SAID_AGAIN.get(last_asked(history, tuple(_SAID_AGAIN)), Describe)
        turn = search.turns[-1] if search.turns else None
        self._message = search.message if turn is None else turn.text
        # What a message asks for is read as things stood when it came; whom it means, as things stand now.
        before = search
        if turn is not None and turn.before is not None:
            before = SearchState.model_validate_json(store.json(turn.before))
        unchanged = before.targets == search.targets and before.focus == search.focus
        asks = read_asks(self._message, self._table if unchanged else table_of(before, store))
        if turn is not None and turn.index == 1 and before.targets:
            # The search was planned by hand and is finished by now: the message only says so.
            asks = tuple(ask for ask in asks if not isinstance(ask.intent, Find))
        self._asks = deque(asks)

    def next(self) -> _Wanted | str:
        """The next call; a sentence (or "") where nothing is left to call."""
        sentences: list[str] = []
        while self._asks:
            ask = self._asks.popleft()
            wanted = self._wanted(self._as_things_stand(ask))
            if isinstance(wanted, str):
                sentences.append(wanted)
                continue
            due = self._due(ask, wanted, sentences)
            if due is not None:
                return due
        return " ".join(dict.fromkeys(sentences))

    def _due(self, ask: Ask, wanted: Sequence[_Wanted], sentences: list[str]) -> _Wanted | None:
        """The first call of `ask` that was not made yet; None when all were made."""
        for call in wanted:
            called = self._take(call.tool, may_ask=isinstance(ask.intent, _OfWhich))
            if called is None:
                if call.tool in self._offered:
                    return call
                sentences.append(unavailable_text(call.tool, self._table))
                return None
            if called.error:
                sentences.append(refused_text(called.error))
            while self._log and isinstance(self._log[0], Replied):
                reply = self._log.popleft()
                assert isinstance(reply, Replied)
                self._asks.extendleft(reversed(self._after_reply(ask, called, reply)))
                return None
        return None

    def _take(self, tool: str, *, may_ask: bool) -> Called | None:
        """The next logged call of `tool`, or of the question about whom it means; what was called before it belongs
        to asks that read otherwise by now."""
        fit = (tool, "ask_which") if may_ask else (tool,)
        if not any(isinstance(logged, Called) and logged.tool in fit for logged in self._log):
            return None
        while True:
            logged: Logged = self._log.popleft()
            if isinstance(logged, Called) and logged.tool in fit:
                return logged

    def _after_reply(self, ask: Ask, called: Called, reply: Replied) -> list[Ask]:
        """What an ask has become by the user's answer to a question about it."""
        if declines(reply.text):
            return [Ask(Remark("thanks"), reply.text)]
        intent = ask.intent
        if isinstance(intent, Find):
            # Without a reading the image itself was confirmed, and the words stand as they were.
            reading = self._search.turns[-1].reading if self._search.turns else None
            return [Ask(Find(reading or intent.phrase), "")]
        if isinstance(intent, _OfWhich):
            which = which_of_choice(reply.choice) or which_of_reply(reply.text, intent.which, self._table)
            if which is not None:
                return [Ask(replace(intent, which=which), "")]
        return list(read_asks(reply.text, self._table))

    def _as_things_stand(self, ask: Ask) -> Intent:
        """The ask with what its words refer to now: after "find …", "show it" means what was found."""
        now = [again.intent for again in read_asks(ask.typed, self._table)] if ask.typed else []
        return next((intent for intent in now if type(intent) is type(ask.intent)), ask.intent)

    def _wanted(self, intent: Intent) -> Sequence[_Wanted] | str:
        """The calls that serve `intent`, or the sentence that answers it."""
        match intent:
            case Find(phrase):
                return [_Wanted("plan_search", {"targets": [phrase]})]
            case Widen(target):
                searched = [row.number for row in self._table.targets if row.rounds]
                return [_Wanted("widen_search", {"target": target or (searched or [1])[-1]})]
            case Include(organs, target):
                number = target or max(1, len(self._table.targets))
                return [_Wanted("include_organs", {"target": number, "organs": list(organs)})]
            case SetAlpha(alpha):
                return [_Wanted("change_alpha", {"alpha": alpha})]
            case Undo():
                return [_Wanted("undo_turn", {})]
            case Summarize():
                return [_Wanted("summarize_session", {})]
            case Remark(topic, _):
                return [_Wanted("summarize_session", {})] if topic == "alpha" else remark_text(intent, self._table)
            case Same(which):
                return self._wanted(self._repeats(which))
            case Describe(which) | Locate(which) | Explain(which) | Show(which):
                return self._about(intent, which)

    def _about(self, intent: Describe | Locate | Explain | Show, which: Which) -> Sequence[_Wanted] | str:
        if which.unsure:
            return [_Wanted("ask_which", {"kind": which.kind, "numbers": list(which.numbers)})]
        numbers = which.numbers
        match intent:
            case Describe():
                return [_Wanted("describe_findings", {"findings": list(numbers)})]
            case Locate() if 0 < len(numbers) <= MAX_EACH:
                return [_Wanted("locate_finding", {"finding": number}) for number in numbers]
            case Locate():
                return [_Wanted("describe_findings", {"findings": list(numbers)})]
            case Explain() if which.candidate:
                return [_Wanted("explain_candidate", {"candidate": which.candidate})]
            case Explain() if numbers:
                return [_Wanted("explain_candidate", {"candidate": f"{which.kind} {n}"}) for n in numbers[:MAX_EACH]]
            case Explain():
                return [_Wanted("explain_candidate", {"candidate": "rejected"})]
            case Show():
                return self._pictures(intent)

    def _pictures(self, show: Show) -> Sequence[_Wanted]:
        plane = show.plane or "axial"
        role = "rejected" if show.which.kind == "rejected" else "finding"
        if show.region or not show.which.numbers:
            return [_Wanted("show_slices", {"finding": 0, "target": show.target or 0, "plane": plane})]
        numbers = show.which.numbers[:MAX_EACH]
        return [_Wanted("show_slices", {role: number, "plane": plane}) for number in numbers]
