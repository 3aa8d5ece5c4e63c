"""What leaves the machine, caught by a server on loopback, against the list in docs/guide/privacy.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.adversaries import _dicom_like_an_order, _header_like_an_order, _named_like_an_order
from helpers.fake_openai import FakeOpenAI, Reply, Request, call, text
from helpers.scripted import no_sleep
from helpers.small_case import small_options, write_case

from r2seg_agent.errors import R2SegError
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.planners.settings import PlannerSettings
from r2seg_agent.graphs.prompting import STATE_TAG, Picture, planner_messages, planner_prompt, with_pictures
from r2seg_agent.runs.api import open_chat

DOCS = (Path(__file__).parents[2] / "docs" / "guide" / "privacy.md").read_text(encoding="utf-8")
DONE = text("Done.")
CONVERSATION: tuple[tuple[str, tuple[Reply, ...]], ...] = (
    ("find a liver lesion", (call("plan_search", targets=["liver lesion"]), DONE)),
    ("how big is it, and where?", (call("describe_findings", findings=[]), call("locate_finding", finding=1), DONE)),
    ("show me", (call("show_slices", finding=1, plane="axial"), DONE)),
    ("why?", (call("explain_candidate", candidate="t1r1c1"), call("explain_candidate", candidate="t9"), DONE)),
    ("which one?", (call("ask_which", kind="finding", numbers=[1, 2]),)),
    ("1", (call("locate_finding", finding=1), DONE)),
    ("use alpha 0.0001", (call("change_alpha", alpha=0.0001), *[call("widen_search", target=1)] * 2, DONE)),
    ("undo that", (call("undo_turn"), DONE)),
    ("include the spleen", (call("include_organs", target=1, organs=["spleen"]), DONE)),
    ("what did you do so far?", (call("summarize_session"), DONE)),
    ("find a flux capacitor", (call("plan_search", targets=["flux capacitor"]),)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Doe_Jane_19700101")
    write_case(folder)
    return folder


@pytest.fixture(scope="module")
def sent(folder: Path) -> Sequence[Request]:
    """A whole conversation, as it arrived at the server."""
    return _converse(folder, {}, CONVERSATION, stream=False)


def _converse(
    folder: Path, changes: Mapping[str, Any], turns: Sequence[tuple[str, tuple[Reply, ...]]], **settings: Any
) -> Sequence[Request]:
    given = dict(changes)
    image = str(folder / str(given.pop("image", "image.nii.gz")))
    with FakeOpenAI([reply for _, replies in turns for reply in replies]) as server:
        chosen = PlannerSettings(timeout_s=600.0, **settings)
        planner = choose_planner("openai:scripted", base_url=server.url, settings=chosen)
        assert isinstance(planner, ChatModelPlanner)
        planner.retrier.sleep = no_sleep
        with open_chat(
            image, small_options(folder, modality="CT", **{"reject": "paper", **given}), planner=planner
        ) as session:
            for said, _ in turns:
                list(session.say(said))
        return tuple(server.requests)


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            if key not in ("organs_ml", "parameters", "schema"):  # Organs by name; schemas are in the source.
                yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _section(title: str) -> set[str]:
    """The fields that a section of the docs names: every word in backticks."""
    part = DOCS.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    return set(re.findall(r"`([\w-]+)`", part))


def _states(requests: Sequence[Request]) -> list[dict[str, Any]]:
    found = []
    for request in requests:
        for message in request.body["messages"]:
            for state in re.findall(rf"<{STATE_TAG}>\n(.*?)\n</{STATE_TAG}>", str(message.get("content")), re.DOTALL):
                found.append(json.loads(state))
    return found


def test_the_conversation_reached_every_kind_of_tool(sent: Sequence[Request]) -> None:
    called = {c["function"]["name"] for r in sent for m in r.body["messages"] for c in m.get("tool_calls") or ()}
    assert called >= {
        "plan_search", "describe_findings", "locate_finding", "show_slices", "explain_candidate", "change_alpha",
        "widen_search", "undo_turn", "include_organs", "summarize_session",
    }  # fmt: skip


def test_every_field_of_the_request_is_listed(sent: Sequence[Request]) -> None:
    listed = _section("The request")
    for request in sent:
        assert set(request.body) <= listed
        assert set(_keys(request.body["messages"])) <= listed
        assert set(_keys(request.body.get("tools", []))) <= listed
        assert set(request.headers) <= listed


def test_every_field_of_the_state_is_listed_and_nothing_else(sent: Sequence[Request]) -> None:
    states = _states(sent)
    keys = {key for state in states for key in _keys(state)}
    assert keys <= _section("The search state")
    assert _section("The search state") - keys <= {"open_question", "choices"}, "listed, but never sent"


def test_every_field_of_a_result_is_listed(sent: Sequence[Request]) -> None:
    listed = _section("Results of the tools that a model called")
    seen = set()
    for request in sent:
        for message in request.body["messages"]:
            if message["role"] == "tool":
                try:
                    result = json.loads(message["content"])
                except ValueError:  # An error's words, or a result cut at its limit.
                    seen.update(re.findall(r'"(\w+)":', message["content"]))
                    continue
                seen.update(_keys(result))
    assert seen <= listed
    assert len(seen) > 30


def test_only_texts_of_bounded_length_are_sent(sent: Sequence[Request]) -> None:
    for request in sent:
        for message in request.body["messages"]:
            assert message.get("content") is None or isinstance(message["content"], str), "no pictures"
            assert len(message.get("content") or "") < 12_000
        assert len(request.raw) < 60_000


def test_no_path_name_hash_or_run_id_is_sent(sent: Sequence[Request], folder: Path) -> None:
    everything = "\n".join(request.raw.decode() for request in sent)
    for secret in (str(folder), folder.name, "Doe", "19700101", "image.nii", "organs.nii", ".gz", "chat-", "image-0"):
        assert secret not in everything, secret
    assert not re.search(r"\b[0-9a-f]{64}\b", everything)


@pytest.mark.parametrize("prepare", [_dicom_like_an_order, _header_like_an_order, _named_like_an_order])
def test_nothing_of_a_header_is_sent(prepare: Any, tmp_path: Path) -> None:
    folder = tmp_path / "Doe_Jane"
    write_case(folder)
    turns = (("find a liver lesion", (call("plan_search", targets=["liver lesion"]), DONE)),)
    requests = _converse(folder, prepare(folder), turns)
    everything = "\n".join(request.raw.decode() for request in requests)
    for secret in ("Doe", "Jane", "778899", "19700101", "20200101", "IGNORE", "SYSTEM", "assistant:", "series", "1.2."):
        assert secret not in everything, secret
    assert len(requests) >= 2


def test_names_numbers_and_dates_in_the_users_words_are_masked(folder: Path) -> None:
    said = "find a liver lesion. Patient: Jane Doe, MRN 00778899, born 01.02.1970, mail jane@doe.example, /data/doe.nii"
    requests = _converse(folder, {}, ((said, (call("plan_search", targets=["liver lesion"]), DONE)),))
    everything = "\n".join(request.raw.decode() for request in requests)
    for secret in ("Jane", "Doe", "778899", "1970", "doe.example", "doe.nii"):
        assert secret not in everything, secret


def test_a_picture_goes_only_when_it_is_handed_over(folder: Path) -> None:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "png")
    with FakeOpenAI([DONE]) as server:
        planner = choose_planner("openai:scripted", base_url=server.url)
        assert isinstance(planner, ChatModelPlanner)
        with open_chat(
            str(folder / "image.nii.gz"), small_options(folder, modality="CT", reject="paper"), planner=planner
        ) as session:
            messages = planner_messages(session.search, [], [], planner_prompt())
        planner.ask(with_pictures(messages, [Picture("finding 1", buffer.getvalue())]), [], optional=True)
        planner.ask(messages, [], optional=True)
    first, second = (request.body["messages"][-1]["content"] for request in server.requests)
    assert [part["type"] for part in first] == ["text", "text", "image_url"]
    assert first[2]["image_url"]["url"].startswith("data:image/png;base64,")
    assert isinstance(second, str)


SHOW = (
    ("find a liver lesion", (call("plan_search", targets=["liver lesion"]), DONE)),
    ("show me", (call("show_slices", finding=1, plane="axial"), DONE)),
    ("and how big?", (call("describe_findings", findings=[1]), DONE)),
)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_drawn_picture_goes_with_share_images_only(folder: Path, tmp_path: Path, allowed: bool) -> None:
    requests = _converse(folder, {"share_images": allowed, "workspace": tmp_path}, SHOW)
    shown = [request for request in requests if b"image/png" in request.raw]
    assert len(shown) == (1 if allowed else 0), "the question after the picture was drawn, in its own turn"
    (trace,) = tmp_path.rglob("trace.jsonl")
    events = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    pictures = [event["data"]["pictures"] for event in events if event["kind"] == "model_call"]
    assert sum(map(len, pictures)) == len(shown), "the trace says which pictures were shown"
    assert "base64" not in trace.read_text(encoding="utf-8")


def test_a_model_without_eyes_goes_on_with_words(folder: Path, tmp_path: Path) -> None:
    blind = Reply(status=400, error="this model takes no images")
    turns = (SHOW[0], ("show me", (call("show_slices", finding=1, plane="axial"), blind, DONE)), SHOW[2])
    requests = _converse(folder, {"share_images": True, "workspace": tmp_path}, turns)
    assert [b"image/png" in request.raw for request in requests].count(True) == 1
    assert len(requests) == 7


def test_a_refused_run_keeps_its_key_out_of_the_workspace(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key stands in no file of the run: trace, inputs, record, checkpoints, reports."""
    key = "sk-secret-0123456789abcdefghij"
    monkeypatch.setenv("R2SEG_PLANNER_KEY", key)
    turns = (("find a liver lesion", (Reply(status=401, error=f"wrong key {key}"),)),)
    with pytest.raises(R2SegError):
        _converse(folder, {"workspace": tmp_path / "ws"}, turns)
    files = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    assert any(path.name == "trace.jsonl" for path in files)
    assert not [path.name for path in files if key.encode() in path.read_bytes()]
