"""What a person sees of a turn, by a session that is played: words, questions, refusals, stops, scripts."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

from r2seg_agent.cautions import Caution
from r2seg_agent.cli._picture import Pictures
from r2seg_agent.cli._text import printable
from r2seg_agent.cli._tool_line import describe_call
from r2seg_agent.cli.conversation.input import Leave
from r2seg_agent.cli.conversation.loop import Chat
from r2seg_agent.cli.conversation.view import ChatView
from r2seg_agent.errors import BudgetError, InputError
from r2seg_agent.reason.plan import Choice
from r2seg_agent.runs.session_events import (
    AnswerSentence,
    ModelComment,
    PictureDrawn,
    QuestionAsked,
    ToolFinished,
    ToolStarted,
    TurnEnded,
)


def make_view(*, terminal: bool = False) -> ChatView:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    notes = Console(file=io.StringIO(), width=100, force_terminal=False)
    return ChatView(console, notes, Pictures.name)


def out(view: ChatView) -> str:
    assert isinstance(view.console.file, io.StringIO)
    return view.console.file.getvalue()


def notes(view: ChatView) -> str:
    file = view.tools._notes.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def choices(*texts: str) -> tuple[Choice, ...]:
    return tuple(Choice(kind="concept", text=text) for text in texts)


def finding(number: int, text: str) -> Choice:
    return Choice(kind="finding", text=text, value=str(number))


class PlayedSession:
    """Plays events; keeps what was said to it. Only what the loop uses."""

    def __init__(self, *plays: list[object], turns: int = 0) -> None:
        self.plays = list(plays)
        self.heard: list[str] = []
        self.by_rules: list[bool] = []
        self.question: QuestionAsked | None = None
        self.unfinished = False
        self.id = "chat-1"
        self.context = SimpleNamespace(stop=threading.Event())
        self.planner = SimpleNamespace(kind="offline", name="offline")
        self.search = SimpleNamespace(
            turns=[SimpleNamespace(index=i + 1, text="x", answer="y", undone=False) for i in range(turns)],
            targets=(),
            outcome=None,
            alpha=None,
            focus=None,
        )
        info = SimpleNamespace(info=SimpleNamespace(name="contrast"))
        image, reject = SimpleNamespace(name="image-1"), SimpleNamespace(alpha=0.05)
        source = SimpleNamespace(info=SimpleNamespace(stand_in=False))
        self.prepared = SimpleNamespace(image=image, segmenter=info, reject=reject, source=source)
        self.warnings = [Caution(kind="stand_in_segmenter", text="Segmenter `contrast` is a stand-in.")]

    def report(self) -> SimpleNamespace:
        return SimpleNamespace(findings=(), warnings=tuple(self.warnings))

    def findings(self) -> tuple[()]:
        return ()

    def say(self, text: str, *, by_rules: bool = False) -> Iterator[object]:
        self.heard.append(text)
        self.by_rules.append(by_rules)
        yield from self._play()

    def resume(self) -> Iterator[object]:
        self.heard.append("(resume)")
        self.unfinished = False
        yield from self._play()

    def _play(self) -> Iterator[object]:
        self.question = None
        for event in self.plays.pop(0):
            if isinstance(event, Exception):
                self.unfinished = isinstance(event, BudgetError)
                raise event
            if isinstance(event, QuestionAsked):
                self.question = event
            yield event


class Typed:
    """Lines, then the end."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.questions: list[bool] = []

    def read(self, *, toolbar: str, question: bool) -> str:
        self.questions.append(question)
        if not self.lines:
            raise Leave
        return self.lines.pop(0)


def talk(session: PlayedSession, *lines: str, interactive: bool = True) -> tuple[ChatView, Typed]:
    view, typed = make_view(), Typed(*lines)
    Chat(session, view, interactive=interactive).run(typed)  # type: ignore[arg-type]
    return view, typed


END = TurnEnded("lesions_found", "1 finding.")


def test_sentences_go_to_the_answer_and_tools_to_the_notes() -> None:
    view = make_view()
    events = [
        ToolStarted("locate_organs", {"target": 1}, "referee"),
        ToolFinished("locate_organs"),
        AnswerSentence("Found."),
        END,
    ]
    assert view.follow(events) == END
    assert out(view) == "Found.\n"
    assert notes(view) == "· locate organs, target 1\n"


def test_a_terminal_keeps_one_line_a_tool_with_its_time() -> None:
    view = make_view(terminal=True)
    view.follow([ToolStarted("segment_lesions", {"target": 1}, "planner"), ToolFinished("segment_lesions"), END])
    assert "✓ segment lesions, target 1  0.0 s" in out(view)
    assert notes(view) == ""


def test_a_tool_that_a_resumed_run_ends_is_named_without_a_time() -> None:
    view = make_view(terminal=True)
    view.follow([ToolFinished("segment_lesions"), END])
    assert re.search(r"✓ segment lesions *\n", out(view))


def test_a_remark_stays_until_the_turn_ends_and_goes_past_pythons_streams(capfd: pytest.CaptureFixture[str]) -> None:
    view = make_view(terminal=True)
    view.tools.open()
    view.tools.start("segment_lesions", {"target": 1}, "planner")
    view.tools.remark("finishing this step")
    view.tools.progress("slices", 4, 64)
    assert view.tools._bars is not None
    assert view.tools._bars.tasks[0].fields["counts"] == "finishing this step"
    view.tools.close()
    plain = make_view()
    plain.tools.remark("finishing this step")
    plain.tools.farewell("Left.")
    assert capfd.readouterr().err == "finishing this step\nLeft.\n"


def test_progress_is_drawn_in_the_line_of_the_tool() -> None:
    view = make_view(terminal=True)
    view.tools.open()
    view.tools.start("segment_lesions", {"target": 1}, "planner")
    view.tools.progress("slices", 3, 64, "scale 2")
    assert view.tools._bars is not None
    (task,) = view.tools._bars.tasks
    assert (task.description, task.fields["counts"]) == ("segment lesions, target 1", "slices 3/64 scale 2")
    view.tools.close()
    view.tools.progress("slices", 4, 64)  # after the end: nothing to draw on


def test_a_refused_call_says_why() -> None:
    view = make_view()
    view.follow([ToolStarted("locate_finding", {"finding": 9}, "planner"), ToolFinished("locate_finding", "no 9"), END])
    assert "refused: no 9" in notes(view)


def test_a_finished_tool_leaves_its_result_in_one_line() -> None:
    view = make_view(terminal=True)
    finished = ToolFinished("locate_organs", line="liver 1480 ml, by masks " + "far " * 40)
    view.follow([ToolStarted("locate_organs", {"target": 1}, "referee"), finished, END])
    (line,) = [line for line in out(view).splitlines() if "✓" in line]
    assert "liver 1480 ml, by masks" in line
    assert "…" in line, "it is cut where the terminal ends"


def test_the_models_words_are_labelled() -> None:
    view = make_view()
    view.follow([ModelComment("It looks benign to me."), END])
    assert out(view) == "the model's own words, not a result: It looks benign to me.\n"


def test_nothing_that_was_written_elsewhere_commands_the_terminal_or_is_read_as_markup() -> None:
    view = make_view(terminal=True)
    evil = "[bold]a[/bold]\x1b[2J\x1b]0;title\x07 12\x08\x083 \u202eabc"
    question = QuestionAsked(evil, choices(evil))
    view.follow(
        [
            AnswerSentence(evil),
            ModelComment(evil),
            ToolStarted("t", {"x": evil}, "planner"),
            ToolFinished("t", evil),
            question,
        ]
    )
    shown = out(view)
    assert "[bold]a[/bold] 123 abc" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown
    assert "\x08" not in shown
    assert "\u202e" not in shown


def test_printable_keeps_lines_and_letters() -> None:
    assert printable("Müller\n\t3 µm – 5 ≤ 6") == "Müller\n\t3 µm – 5 ≤ 6"
    assert printable("a\x1b") == "a"
    assert printable("a\r\nb\rc") == "a\nbc"


def test_a_picture_is_shown_with_its_caption(tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    Image.new("RGB", (8, 8), "red").save(path)
    view = make_view()
    view.follow([PictureDrawn(path, "finding 1, axial slice 3"), END])
    assert "finding 1, axial slice 3" in out(view)
    assert "slice.png" in out(view).replace("\n", "")


def test_a_number_answers_a_question_and_words_do_too() -> None:
    asked = QuestionAsked("Which one?", choices("left kidney", "right kidney"))
    session = PlayedSession([asked], [asked], [END])
    view, typed = talk(session, "the kidney", "2", "the left one")
    assert session.heard == ["the kidney", "right kidney", "the left one"]
    assert typed.questions == [False, True, True, False]
    assert "2  right kidney" in out(view)


def test_a_warning_that_comes_up_is_given_once() -> None:
    session = PlayedSession([AnswerSentence("Found."), END], [END])

    def played() -> Iterator[object]:
        session.warnings.append(Caution(kind="stand_in_anchors", text="Anchors `tiny` are a stand-in."))
        yield END

    session.plays[0] = played()  # type: ignore[call-overload]
    view, _ = talk(session, "find it", "how big is it?")
    assert out(view).count("! Anchors `tiny` are a stand-in.") == 1
    assert "Segmenter" not in out(view), "the banner said so"


def test_a_number_that_a_choice_brings_along_stands_once() -> None:
    view = make_view()
    view.question(QuestionAsked("Which?", (finding(3, "left lung " + "far " * 40), finding(4, "right lung"))))
    lines = out(view).splitlines()
    assert lines[1].startswith("  3  left lung")
    assert lines[2].startswith("     far"), "a long choice stays in its column"
    assert lines[3].split() == ["4", "right", "lung"]


def test_a_stopped_turn_is_kept_and_goes_on() -> None:
    session = PlayedSession([AnswerSentence("Looking."), BudgetError("stopped by you")], [AnswerSentence("Done."), END])
    view, typed = make_view(), Typed("find it")
    chat = Chat(session, view, interactive=True)  # type: ignore[arg-type]
    session.search.turns.append(SimpleNamespace(index=1, text="find it", answer="", undone=False))
    chat.run(typed)
    assert "stopped by you" in out(view)
    assert "/continue continues the request, /fork 1 returns" in out(view)
    with pytest.raises(InputError, match="not finished"):
        chat.say("how big is it?")
    chat.run(Typed())  # coming back: it goes on by itself
    assert session.heard == ["find it", "(resume)"]
    assert "Done." in out(view)


def test_errors_end_a_script_and_not_a_conversation() -> None:
    def wrong() -> PlayedSession:
        return PlayedSession(
            [InputError("the level must lie between 0 and 1", "For example 0.01.")], [AnswerSentence("Fine."), END]
        )

    session = wrong()
    view, _ = talk(session, "use alpha 7", "go")
    assert "the level must lie" in out(view)
    assert "For example 0.01." in out(view)
    assert session.heard == ["use alpha 7", "go"]
    with pytest.raises(InputError):
        talk(wrong(), "use alpha 7", "go", interactive=False)


def test_a_bug_is_told_and_the_conversation_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R2SEG_DEBUG", raising=False)
    session = PlayedSession([ZeroDivisionError("division")], [AnswerSentence("Fine."), END])
    view, _ = talk(session, "find it", "go")
    assert "unexpected ZeroDivisionError" in out(view)
    assert "Fine." in out(view)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/plan", "no plan yet"),
        ("/findings", "Nothing was searched yet"),
        ("/rejected", "Nothing was searched yet"),
        ("/show", "nothing was searched yet"),
        ("/show 1 2x", "neither a number nor a plane"),
        ("/alpha", "0.05"),
        ("/alpha 2", "above 0 and below 1"),
        ("/alpha x", "above 0 and below 1"),
        ("/fork x", "not the number of a turn"),
        ("/continue", "Nothing is waiting"),
        ("/export", "nothing was searched yet"),
        ("/help", "/findings"),
        ("/nonsense", "there is no command"),
    ],
)
def test_commands_before_any_search_say_what_is_missing(line: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = PlayedSession()
    monkeypatch.setattr(session, "rejected", lambda: (), raising=False)
    view, _ = talk(session, line)
    assert words in out(view)
    assert session.heard == []


@pytest.mark.parametrize(
    ("line", "said"), [("/undo", "undo that"), ("/wider", "look wider"), ("/alpha 0.01", "use alpha 0.01")]
)
def test_commands_that_are_steps_of_the_conversation(line: str, said: str) -> None:
    session = PlayedSession([END])
    talk(session, line)
    assert session.heard == [said]
    assert session.by_rules == [True]


def test_quit_leaves_the_rest_unread() -> None:
    session = PlayedSession()
    _, typed = talk(session, "/quit", "find it")
    assert typed.lines == ["find it"]


def test_calls_are_described_in_words() -> None:
    assert (
        describe_call("plan_search", {"targets": ["liver lesion", "kidney cyst"]})
        == "plan search, liver lesion, kidney cyst"
    )
    assert len(describe_call("plan_search", {"targets": ["lesion " * 40]})) == 72
    assert describe_call("summarize_session", {}) == "summarize session"
    assert describe_call("ask_which", {"kind": "finding", "numbers": list(range(12))}) == "ask which"
    assert (
        describe_call("show_slices", {"finding": 0, "plane": "axial", "rejected": 2})
        == "show slices, axial, rejected 2"
    )
    assert describe_call("widen_search", {"target": 1, "include": []}) == "widen search, target 1"
