"""`make_graph` and `as_tool`: the search inside somebody else's LangGraph graph or agent.

A graph of the host gives messages and gets messages and a `Report`; a question to the user is an `interrupt`. A model
of the host gives a request in words, and nothing else: scan and options are the program's.

    host ─► search ─┬─► (report) ─► host
              ▲     └─► ask (interrupt) ─┐
              └──────────────────────────┘

A run of its own does the work, in the workspace, with its own checkpoints: those of the host hold messages, the run's
id and the report. No step of a run reaches the host's callbacks and tracers, nor the other way round.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict, Unpack, cast

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ConfigDict, Field

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import BudgetError, InputError, R2SegError
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.planners.choose import PlannerChoice
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.progress import Progress, silent
from r2seg_agent.report.models import Report
from r2seg_agent.runs import api
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.option_types import SearchFields
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import prepare, without_paths
from r2seg_agent.runs.public import Scan, scan_of, settings
from r2seg_agent.runs.session import MAX_MESSAGE_CHARS, Session
from r2seg_agent.runs.signature import with_option_signature
from r2seg_agent.store.artifacts import recipe_sha256
from r2seg_agent.store.runs import RunFolder

NAME = "r2seg"
"""The graph's name, and the name on its messages."""
TOOL_NAME = "find_lesions"
TOOL_DESCRIPTION = (
    "Search the medical scan that this program has opened for lesions. Takes one request in plain words, such as "
    "'find the lung nodule' or 'any lesions in liver or kidneys?', and returns what was found, with places, sizes and "
    "how certain it is. If the answer is a question, call again with a request that answers it. "
    "Research software, not a medical device."
)

_QUOTED_PATH = re.compile(r"`[^`]*[/\\][^`]*`")


class GraphInput(TypedDict):
    """What the host gives: the last message of the user is the request."""

    messages: Annotated[list[AnyMessage], add_messages]


class GraphOutput(TypedDict):
    """What the host gets: the answer as a message, and the report."""

    messages: Annotated[list[AnyMessage], add_messages]
    report: Report | None


class OpenQuestion(TypedDict):
    """A question that waits for the user: the run that asks it, and how many it has asked."""

    run: str
    question: str
    choices: list[str]
    asked: int


class EmbeddedState(GraphInput, GraphOutput):
    """The graph's own state besides: the open question, and the user's reply to it."""

    r2seg_open: OpenQuestion | None
    r2seg_reply: str | None


EmbeddedGraph = CompiledStateGraph[EmbeddedState, None, GraphInput, GraphOutput]


@with_option_signature
@environment_kept()
def make_graph(
    scan: Scan,
    *,
    spacing_mm: Sequence[float] | None = None,
    origin_lps_mm: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    planner: PlannerChoice = "offline",
    checkpointer: BaseCheckpointSaver[str] | None = None,
    progress: Progress = silent,
    **options: Unpack[SearchFields],
) -> EmbeddedGraph:
    """A compiled LangGraph graph over `scan`: a node of a graph of your own, or a graph by itself.

    In: `messages`; the last one of the user is the request. Out: `messages` with the answer, the findings table and the
    disclaimer, and `report`. Where the search has a question, the graph interrupts with {"question", "choices"}; resume
    it with `Command(resume="the answer")`. That needs a checkpointer: the host's, or `checkpointer` here.

    Each invocation is one search; the same request in the same thread is the same run. Reports come back from a
    checkpoint without their masks: `Report.of_run(WORKSPACE / "runs" / report.run_id)` has them.

    `scan`, `spacing_mm`, `origin_lps_mm`, `direction`, `planner` and `progress` are as in `find`. Raises `InputError`
    for options that cannot be used; a search raises as `find`.
    """
    chosen, used = settings(planner, {**options})
    searcher = _Searcher(scan_of(scan, spacing_mm, origin_lps_mm, direction), chosen, used, progress)

    def search(state: EmbeddedState, config: RunnableConfig) -> Command[Literal["ask", "__end__"]]:
        """Begin a search, or continue it with the user's answer, up to its next question or its end."""
        waiting, reply = state.get("r2seg_open"), state.get("r2seg_reply")
        if waiting is None or reply is None:
            thread = str(config.get("configurable", {}).get("thread_id", ""))
            found = searcher.begin(_request(state["messages"]), thread)
        else:
            found = searcher.answer(waiting, reply)
        if isinstance(found, Report):
            answer = AIMessage(found.summary(), name=NAME)
            update = {"messages": [answer], "report": found, "r2seg_open": None, "r2seg_reply": None}
            return Command(goto="__end__", update=update)
        return Command(goto="ask", update={"r2seg_open": found, "r2seg_reply": None})

    def ask(state: EmbeddedState) -> dict[str, object]:
        """Put the question to the user. `interrupt` starts this node again, so nothing stands before it."""
        waiting = state["r2seg_open"]
        assert waiting is not None
        reply = str(interrupt({"question": waiting["question"], "choices": waiting["choices"]}))
        return {"r2seg_reply": reply, "messages": [AIMessage(waiting["question"], name=NAME), HumanMessage(reply)]}

    graph: StateGraph[EmbeddedState, None, GraphInput, GraphOutput] = StateGraph(
        EmbeddedState, input_schema=GraphInput, output_schema=GraphOutput
    )
    graph.add_node("search", search)
    graph.add_node("ask", ask)
    graph.add_edge(START, "search")
    graph.add_edge("ask", "search")
    return graph.compile(checkpointer=checkpointer, name=NAME)


class LesionRequest(BaseModel):
    """What a model may pass: words."""

    model_config = ConfigDict(extra="forbid")

    request: str = Field(
        description="What to find, in plain words.",
        min_length=1,
        max_length=MAX_MESSAGE_CHARS,
        examples=["find a cyst"],
    )


@with_option_signature
@environment_kept()
def as_tool(
    scan: Scan,
    *,
    spacing_mm: Sequence[float] | None = None,
    origin_lps_mm: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    planner: PlannerChoice = "offline",
    name: str = TOOL_NAME,
    description: str = TOOL_DESCRIPTION,
    progress: Progress = silent,
    **options: Unpack[SearchFields],
) -> StructuredTool:
    """A LangChain tool over `scan`, for an agent of your own.

    A model passes a request in words and nothing else: no path, no option, no address. It gets the answer, the findings
    table, warnings and the disclaimer as text; the artifact of the tool's message is the `Report`. What cannot be
    searched comes back as an error text without paths. One search at a time.

    `scan`, `spacing_mm`, `origin_lps_mm`, `direction`, `planner` and `progress` are as in `find`.
    """
    chosen, used = settings(planner, {**options})
    searcher = _Searcher(scan_of(scan, spacing_mm, origin_lps_mm, direction), chosen, used, progress)

    def run(request: str) -> tuple[str, Report]:
        try:
            report = searcher.find(request)
        except R2SegError as error:
            raise ToolException(_for_a_model(error.message, searcher)) from error
        return report.summary(), report

    return StructuredTool.from_function(
        run,
        name=name,
        description=description,
        args_schema=LesionRequest,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


@dataclass
class _Searcher:
    """One scan with its options and loaded models. Models serve one search at a time."""

    scan: str | ScanInMemory
    options: RunOptions
    planner: Planner | None
    progress: Progress
    models: LoadedModels = field(default_factory=LoadedModels)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @environment_kept()
    def find(self, request: str) -> Report:
        """A whole search; a question ends it with the outcome `needs_user`."""
        with self.lock:
            return api.run_find(
                request, self.scan, self.options, self.progress, planner=self.planner, models=self.models
            ).report

    @environment_kept()
    def begin(self, request: str, thread: str) -> Report | OpenQuestion:
        """A new search, up to its first question or its end. Runs of the host's threads stay apart."""
        options = self.options.model_copy(update={"interactive": True})
        with self.lock:
            planner = self.planner or api.planner_of(options)
            prepared = prepare(self.scan, options, self.progress, self.models, request=request)
            run_id = prepared.run_id(request)
            if thread:
                run_id = recipe_sha256({"run": run_id, "thread": thread})[:12]
            folder = RunFolder(options.workspace, run_id)
            session = Session(
                folder,
                "find",
                self.scan,
                options,
                prepared,
                planner,
                anew=True,
                request=request,
                progress=self.progress,
            )
            with session:
                return _driven(session, request, asked=0)

    @environment_kept()
    def answer(self, waiting: OpenQuestion, reply: str) -> Report | OpenQuestion:
        """Continue the run that asked."""
        with self.lock:
            session = api.reopen(
                waiting["run"],
                self.options.workspace,
                self.progress,
                image=self.scan,
                planner=self.planner,
                models=self.models,
                changes={"interactive": True, "store": self.options.store},
            )
            with session:
                return _driven(session, reply, asked=waiting["asked"])


def _driven(session: Session, text: str, asked: int) -> Report | OpenQuestion:
    """Say `text`, then the session's next question or its report."""
    for _ in session.say(text):
        pass
    question = session.question
    if question is None:
        return session.write().report
    choices = [choice.text for choice in question.choices]
    if asked >= api.MAX_QUESTIONS:
        raise BudgetError(
            f"{question.question} (asked {asked} times without a usable answer)",
            f"Choices: {', '.join(choices)}. Begin again with a request that names one.",
        )
    return OpenQuestion(
        run=session.id,
        question=question.question,
        choices=choices,
        asked=asked + 1,
    )


def _for_a_model(message: str, searcher: _Searcher) -> str:
    """An error message without paths: those that were given, and whatever stands in backquotes and has a slash."""
    return _QUOTED_PATH.sub("(a path)", without_paths(message, str(searcher.scan), searcher.options))


def _request(messages: Sequence[AnyMessage]) -> str:
    """The words of the last message of the user. Raises `InputError` where there are none."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            text = str(cast(Any, message).text).strip()
            if text:
                return text
            break
    raise InputError(
        "there is no request: the messages hold no text of a user",
        'Give {"messages": [HumanMessage("find the lung nodule")]}.',
    )
