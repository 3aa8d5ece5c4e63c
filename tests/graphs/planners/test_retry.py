"""Back-off: how often, how long, and which failures are worth another try. No test waits long."""

from __future__ import annotations

import random
import threading
import time
import traceback
from email.utils import formatdate

import pytest

from r2seg_agent.errors import BudgetError, PlannerRefusedError, PlannerUnavailableError
from r2seg_agent.graphs.planners.retry import Backoff, CutError, FormError, Retrier, judge, scrub, within

KEY = "sk-proj-abcdefghijklmnop0123456789"


class HttpError(Exception):
    """An SDK's error: a status and a response with headers."""

    def __init__(self, status: int, text: str = "no", **headers: str) -> None:
        super().__init__(text)
        self.status_code = status
        self.response = type("Response", (), {"headers": {k.replace("_", "-"): v for k, v in headers.items()}})()


class APIConnectionError(Exception):
    """As the SDKs call it."""


class LengthFinishReasonError(Exception):
    """As openai calls it."""


def _failing(*errors: BaseException) -> tuple[list[float], Retrier, list[int]]:
    left, slept, asked = list(errors), list[float](), list[int]()
    retrier = Retrier(name="m", backoff=Backoff(attempts=4), sleep=slept.append, secrets=(KEY,))

    def call() -> str:
        asked.append(1)
        if left:
            raise left.pop(0)
        return "answer"

    retrier.call = call  # type: ignore[attr-defined]
    return slept, retrier, asked


@pytest.mark.parametrize(
    "error",
    [HttpError(429), HttpError(500), HttpError(503), HttpError(529), HttpError(408), APIConnectionError("refused"),
     ConnectionResetError("reset"), TimeoutError("slow"), ValueError("no choices"), TypeError("null choices")],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_counted(error: Exception) -> None:
    slept, retrier, asked = _failing(error, error)
    assert retrier.send(retrier.call) == "answer"  # type: ignore[attr-defined]
    assert len(asked) == retrier.requests == 3
    assert len(slept) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    slept, retrier, asked = _failing(HttpError(status))
    with pytest.raises(PlannerRefusedError, match=f"HTTP {status}") as caught:
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    assert (len(asked), slept) == (1, [])
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_an_empty_account_is_not_a_rate_limit() -> None:
    _, retrier, asked = _failing(HttpError(429, "insufficient_quota"))
    with pytest.raises(PlannerRefusedError, match="quota"):
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 405, 422, 501])
def test_a_form_that_is_not_understood_is_left_to_the_caller(status: int) -> None:
    _, retrier, _ = _failing(HttpError(status))
    with pytest.raises(FormError):
        retrier.send(retrier.call)  # type: ignore[attr-defined]


def test_an_answer_cut_off_is_left_to_the_caller() -> None:
    _, retrier, _ = _failing(LengthFinishReasonError("max"))
    with pytest.raises(CutError):
        retrier.send(retrier.call)  # type: ignore[attr-defined]


def test_tries_are_bounded_and_the_run_stays_resumable() -> None:
    slept, retrier, asked = _failing(*[HttpError(500)] * 9)
    with pytest.raises(PlannerUnavailableError, match="4 requests failed") as caught:
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    assert (len(asked), len(slept)) == (4, 3)
    assert caught.value.exit_status == 4
    assert "r2seg resume" in caught.value.hint


def test_waits_grow_with_jitter_and_are_the_same_for_the_same_seed() -> None:
    waits = []
    for _ in range(2):
        slept, retrier, _ = _failing(*[HttpError(500)] * 3)
        retrier.rng = random.Random(5)
        retrier.send(retrier.call)  # type: ignore[attr-defined]
        waits.append(slept)
    assert waits[0] == waits[1]
    assert all(0.75 * 2.0**i <= wait <= 1.25 * 2.0**i for i, wait in enumerate(waits[0]))
    assert waits[0] != [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"retry_after": "7"}, 7.0), ({"retry_after_ms": "1500"}, 1.5), ({"retry_after": "soon"}, None), ({}, None)],
)
def test_the_server_says_how_long_to_wait(headers: dict[str, str], expected: float | None) -> None:
    assert judge(HttpError(429, **headers)).wait_s == expected


def test_a_date_says_how_long_to_wait() -> None:
    wait = judge(HttpError(429, retry_after=formatdate(time.time() + 30, usegmt=True))).wait_s
    assert wait is not None
    assert 25 < wait <= 31


def test_a_server_that_asks_for_too_long_a_wait_ends_the_tries_at_once() -> None:
    slept, retrier, asked = _failing(HttpError(429, retry_after="7200"))
    with pytest.raises(PlannerUnavailableError, match="asks to wait 7200 s"):
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    assert (len(asked), slept) == (1, [])


def test_an_unknown_error_is_not_repeated() -> None:
    _, retrier, asked = _failing(RuntimeError("strange"))
    with pytest.raises(PlannerUnavailableError, match="RuntimeError: strange"):
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_that_a_server_echoes_stands_in_no_error(status: int) -> None:
    _, retrier, _ = _failing(*[HttpError(status, f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}")] * 9)
    with pytest.raises((PlannerUnavailableError, FormError)) as caught:
        retrier.send(retrier.call)  # type: ignore[attr-defined]
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(retrier)
    assert KEY not in shown
    assert "[key]" in str(caught.value)


@pytest.mark.parametrize("text", ["sk-ant-api03-AbCdEf0123456789", "Bearer abc.def.ghi", "AIzaSyA0123456789abcdef"])
def test_whatever_looks_like_a_key_is_masked(text: str) -> None:
    assert scrub(f"bad: {text} !") == "bad: [key] !"


def test_a_long_error_is_cut_to_one_short_line() -> None:
    assert len(scrub("x\n" * 5000)) <= 300
    assert "\n" not in scrub("x\n" * 5000)


def test_a_call_that_never_ends_is_given_up_by_the_clock() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: release.wait(20))
    release.set()


def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(KeyError):
        within(5.0, lambda: {}["missing"])


def test_a_stop_ends_the_wait_for_an_answer() -> None:
    release, stop = threading.Event(), threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(BudgetError, match="stopped by you while waiting for `m`"):
        Retrier(name="m", stop=stop, timeout_s=60.0).send(lambda: release.wait(60))
    release.set()


def test_a_stop_ends_the_wait_before_the_next_try() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    retrier = Retrier(name="m", stop=stop, backoff=Backoff(first_s=60.0, most_s=60.0))

    def refuse() -> None:
        raise APIConnectionError("no route")

    with pytest.raises(BudgetError, match="stopped by you"):
        retrier.send(refuse)
    assert retrier.requests == 1
