"""Retries with back-off for a language model's server, and what its failures mean for the person at the keyboard.

The SDKs' own retries are off, so that requests are counted truly. Errors are distinguished by HTTP status and by the
names of their classes, since every SDK (openai, anthropic, ollama, httpx) has types of its own.
"""

from __future__ import annotations

import contextvars
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

from r2seg_agent.errors import BudgetError, PlannerRefusedError, PlannerUnavailableError
from r2seg_agent.frozen import Frozen
from r2seg_agent.graphs.planners.connection import AnswerTooLargeError

T = TypeVar("T")

STOP_POLL_S = 0.1
"""How soon a wait for an answer notices that it is to stop."""
SAME_BROKEN_ANSWERS = 3
"""An answer that breaks the protocol in the same way so often is not the connection's doing: another form may work."""
MAX_ERROR_CHARS = 300
"""Characters of a server's own words in our messages."""

Kind = Literal["again", "form", "refused", "cut", "unknown"]
"""again: may succeed later; form: this way of asking is not understood; refused: the key, the model or the account;
cut: the reply was cut off or withheld; unknown: anything else."""

_CONNECTION_NAMES = frozenset(
    {
        "APIConnectionError",
        "APITimeoutError",
        "ConnectionError",
        "ModelConnectionError",
        "ModelTimeoutError",
        "TimeoutError",
        "TimeoutException",
        "TransportError",
    }
)
_CUT_NAMES = frozenset({"LengthFinishReasonError", "ContentFilterFinishReasonError", "OpenAIRefusalError"})
_BROKEN_NAMES = frozenset({"APIError", "APIResponseValidationError", "JSONDecodeError"})
_BROKEN_TYPES = (TypeError, ValueError, KeyError, IndexError, AttributeError)
"""What the clients raise on replies that are not what the protocol says."""
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|key|lsv2|gsk|xai|AIza)[-_][\w*.\-]{6,}|\bAIza[\w-]{10,}|\bBearer\s+\S+", re.IGNORECASE
)


_CONTEXT_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|(?:maximum|available) context (?:length|size)|prompt is too long"
    r"|exceeds?\b[^.]{0,60}\bcontext[ _](?:length|size|window|limit)"
    r"|context[ _](?:length|size|window)[^.]{0,40}\bexceed"
    r"|reduce the length of the (?:messages|prompt|input)|longer than the (?:maximum )?model(?:'s)? (?:context|length)"
    r"|inputs?\W{0,2} (?:length|tokens?)[^.]{0,60}\b(?:exceed|must be)|too many (?:input )?tokens"
    r"|max_(?:model|seq)_len",
    re.IGNORECASE,
)
"""How servers say that a conversation is too long: OpenAI, vLLM, llama.cpp, SGLang, TGI, Anthropic have no one code."""

FORM_ADVICE = (
    "Check the model's name and --base-url (with /v1 for OpenAI-compatible servers). Where the server names a "
    "parameter, switch it off in the settings file (docs/develop/agent.md: temperature, seed, max_tokens)."
)


@dataclass(frozen=True)
class Failure:
    """What one failed request means. `wait_s` is what the server asked to wait (Retry-After)."""

    kind: Kind
    what: str
    status: int | None = None
    wait_s: float | None = None
    broken: bool = False
    """Whether an answer came that is not in the protocol."""


class Backoff(Frozen):
    """How often and how long to try: waits of `first_s`, doubled each time up to `most_s`, jittered by ±`jitter`."""

    attempts: int = 5
    first_s: float = 1.0
    most_s: float = 30.0
    jitter: float = 0.25
    total_s: float = 180.0
    """Waiting that would pass this sum is not begun: the planner counts as unavailable at once."""


class FormError(Exception):
    """The server or the client does not understand this way of asking; another format may work."""


class CutError(Exception):
    """The reply was cut off or withheld before it was whole."""


class StoppedError(Exception):
    """The wait was given up because somebody asked to stop."""


@dataclass
class Retrier:
    """Sends requests with retries. `name` is the model's, for messages; `secrets` never appear in them.

    Once `stop` is set no wait continues, neither for an answer nor for the next try.
    """

    name: str
    backoff: Backoff = field(default_factory=Backoff)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=lambda: random.Random(0), repr=False)
    timeout_s: float = 120.0
    requests: int = 0
    stop: threading.Event | None = None

    def send(self, call: Callable[[], T]) -> T:
        """The result of `call`, tried again where that may help; `requests` counts every try.

        Raises `FormError` and `CutError` for the caller, `PlannerRefusedError` where trying again changes nothing and
        `PlannerUnavailableError` when all tries failed; `BudgetError` (resumable) once `stop` is set.
        """
        waited, broken = 0.0, list[Failure]()
        for attempt in range(1, self.backoff.attempts + 1):
            self.requests += 1
            try:
                return within(self.timeout_s, call, self.stop)
            except NotImplementedError:
                self.requests -= 1
                raise FormError("not implemented by this model's client") from None
            except StoppedError:
                raise self._stopped() from None
            except CutError:
                raise
            except Exception as error:
                failure = judge(error, self.secrets, self.timeout_s)
            broken = [*broken, failure] if failure.broken and failure in (broken or [failure]) else []
            if failure.kind == "form" or len(broken) == SAME_BROKEN_ANSWERS:
                raise FormError(failure.what)
            if failure.kind == "cut":
                raise CutError(failure.what)
            if failure.kind == "refused":
                raise PlannerRefusedError(f"the server of `{self.name}` refused: {failure.what}", _advice(failure))
            wait = self._wait(attempt, failure)
            if failure.kind == "unknown" or attempt == self.backoff.attempts or waited + wait > self.backoff.total_s:
                raise self._unavailable(attempt, failure, wait)
            if self.stop is None:
                self.sleep(wait)
            elif self.stop.wait(wait):
                raise self._stopped()
            waited += wait
        raise AssertionError("the loop above returns or raises")

    def _stopped(self) -> BudgetError:
        return BudgetError(f"stopped by you while waiting for `{self.name}`", "`r2seg resume RUN` asks it again.")

    def _wait(self, attempt: int, failure: Failure) -> float:
        if failure.wait_s is not None:
            return failure.wait_s
        step = min(self.backoff.most_s, self.backoff.first_s * 2.0 ** (attempt - 1))
        return step * (1.0 + self.backoff.jitter * (2.0 * self.rng.random() - 1.0))

    def _unavailable(self, attempt: int, failure: Failure, wait: float) -> PlannerUnavailableError:
        tries = f"{attempt} request{'s' if attempt != 1 else ''} failed"
        asked = f"; it asks to wait {wait:.0f} s" if failure.wait_s is not None else ""
        return PlannerUnavailableError(
            f"the language model `{self.name}` cannot be reached: {tries}, the last with: {failure.what}{asked}",
            "Nothing is lost: `r2seg resume RUN` continues from the last step when the server is back, and with "
            "`--planner offline` without a model.",
        )


def judge(error: BaseException, secrets: tuple[str, ...] = (), timeout_s: float | None = None) -> Failure:
    """What an exception of a client means; its text is scrubbed of `secrets` and of whatever looks like a key."""
    names = {cls.__name__ for cls in type(error).__mro__}
    status = _status(error)
    text = scrub(str(error), secrets) or type(error).__name__
    if _is_too_large(error):
        return Failure("cut", text)
    refused = status in (400, 413, 422, 500)
    if "ContextOverflowError" in names or (refused and _CONTEXT_OVERFLOW.search(str(error))):
        return Failure("refused", text, 413)
    if status is not None and status >= 300:
        return Failure(_kind_of_status(status, text), f"HTTP {status}, {text}", status, _retry_after(error))
    if names & _CUT_NAMES:
        return Failure("cut", text)
    if names & {"TimeoutError", "TimeoutException", "APITimeoutError", "ModelTimeoutError"}:
        limit = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        return Failure("again", f"no whole answer {limit}")
    if names & _CONNECTION_NAMES:
        return Failure("again", f"no connection ({text})")
    if type(error).__name__ in _BROKEN_NAMES or isinstance(error, _BROKEN_TYPES):
        return Failure("again", f"a reply that is not in the protocol ({type(error).__name__}: {text})", broken=True)
    return Failure("unknown", f"{type(error).__name__}: {text}")


def scrub(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` on one line, shortened, without `secrets` and without what looks like a key."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "[key]")
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[: MAX_ERROR_CHARS - 2]} …"


def within(seconds: float, call: Callable[[], T], stop: threading.Event | None = None) -> T:
    """The result of `call`; `TimeoutError` after `seconds` of wall-clock time, `StoppedError` once `stop` is set.

    The clients' own time-outs count from byte to byte, so a server that drips could hold a run for ever. The thread of
    a call that is given up ends with its connection; it keeps neither the run nor the process waiting.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            done.append(context.run(call))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="r2seg-model-request", daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
        if stop is not None and stop.is_set():
            raise StoppedError
        thread.join(left if stop is None else min(left, STOP_POLL_S))
    if thread.is_alive():
        raise TimeoutError(f"no whole answer in {seconds:g} s")
    if failed:
        raise failed[0]
    return done[0]


def _is_too_large(error: BaseException | None) -> bool:
    """Clients wrap what a connection raises."""
    while error is not None:
        if isinstance(error, AnswerTooLargeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and status > 0:
            return status
    return None


def _kind_of_status(status: int, text: str) -> Kind:
    if status == 429 and "insufficient_quota" in text:
        return "refused"
    if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
        return "again"
    return "form" if status in (400, 405, 415, 422, 501) else "refused"


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = str(headers.get(name) or "").strip()
        if re.fullmatch(r"\d{1,9}(?:\.\d+)?", value):
            return float(value) * scale
        if value and name == "retry-after":
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (TypeError, ValueError):
                return None
    return None


def _advice(failure: Failure) -> str:
    match failure.status:
        case 301 | 302 | 303 | 307 | 308:
            return "The server sends requests on to another address, which is not followed: state it with --base-url."
        case 401 | 403:
            return "Check the key (environment or settings file, docs/develop/agent.md), then `r2seg resume RUN`."
        case 404:
            return "Check the model's name and --base-url (with /v1 for OpenAI-compatible servers)."
        case 429:
            return "The account has no quota left; use another model or `--planner offline`."
        case 413:
            return "The conversation is too long for this server; start a new one, or use another model."
        case _:
            return FORM_ADVICE
