"""`provider:model` to a planner: what is refused before anything is sent, and where keys go and do not go."""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_openai import FakeOpenAI, Reply, call
from helpers.scripted import no_sleep
from langchain_core.messages import AnyMessage, HumanMessage

from r2seg_agent.errors import InputError, MissingDependencyError, PlannerRefusedError
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.planners import choose
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.choose import PROVIDERS, choose_planner
from r2seg_agent.graphs.planners.settings import PlannerSettings, load_settings
from r2seg_agent.graphs.planners.telemetry import TRACING_VARIABLES, telemetry_off, untraced, untraced_steps
from r2seg_agent.tools.plan_search import plan_search

KEY = "sk-secret-0123456789abcdefghij"
LOCAL = "http://127.0.0.1:9/v1"
ASKED: list[AnyMessage] = [HumanMessage("find a liver lesion")]


def _model(planner: Planner) -> ChatModelPlanner:
    assert isinstance(planner, ChatModelPlanner)
    planner.retrier.sleep = no_sleep
    return planner


def _settings_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int = 0o600) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    path.chmod(mode)
    monkeypatch.setenv("R2SEG_SETTINGS", str(path))
    return path


def test_offline_is_the_rules() -> None:
    assert choose_planner("offline").kind == "offline"


@pytest.mark.parametrize("spec", ["", "gpt-4o", "openai:", ":gpt", "bedrock:x", "offline:x", "openai", "OPENAI:x"])
def test_an_unknown_planner_names_what_is_allowed(spec: str) -> None:
    with pytest.raises(InputError, match="`offline`, or `PROVIDER:MODEL` with openai, anthropic, ollama"):
        choose_planner(spec)


def test_an_address_needs_a_model() -> None:
    with pytest.raises(InputError, match="--base-url needs a language model"):
        choose_planner("offline", base_url=LOCAL)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
def test_a_missing_package_is_named_with_its_extra(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        choose_planner(f"{provider}:m", base_url=LOCAL)
    assert f'pip install "r2seg-agent[{provider}]"' in caught.value.hint


@pytest.mark.parametrize(("provider", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_missing_key_names_the_variable_and_the_file(provider: str, variable: str) -> None:
    pytest.importorskip(f"langchain_{provider}")
    with pytest.raises(InputError, match="needs a key") as caught:
        choose_planner(f"{provider}:m")
    assert variable in caught.value.hint
    assert "settings.toml" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8080", "ftp://host/v1", "http://", "file:///etc/passwd", "http://host/v1?key=x", "https://h/#x", ""],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="no address of a server"):
        choose_planner("openai:m", base_url=address)


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        choose_planner("openai:m", base_url="https://user:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("http://192.168.1.5:8080/v1", True),
        ("http://model-server/v1", True),
        ("https://model-server/v1", False),
        ("http://127.0.0.1:8080/v1", False),
        ("http://localhost:8080/v1", False),
        ("http://[::1]:8080/v1", False),
    ],
)
def test_an_unencrypted_connection_over_a_network_is_warned_about(address: str, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        choose_planner("openai:m", base_url=address)
    assert any("not encrypted" in str(one.message) for one in caught) == warned


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY"])
def test_no_environment_variable_leads_prompts_to_another_server(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://elsewhere.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match=variable):
        choose_planner("openai:m")


def test_a_stated_address_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    monkeypatch.setenv("LANGSMITH_GATEWAY", "http://gateway.example")
    with FakeOpenAI([call("plan_search", targets=["liver lesion"])]) as server:
        planner = _model(choose_planner("openai:m", base_url=server.url))
        assert planner.ask(ASKED, [plan_search], optional=False).call is not None
    assert len(server.requests) == 1


def test_names_say_where_the_model_is() -> None:
    assert choose_planner("openai:m", base_url=LOCAL).name == "openai:m (local server)"
    assert choose_planner("openai:m", base_url="https://host/v1").name == "openai:m (other server)"
    settings = PlannerSettings(keys={"openai": KEY})
    assert choose_planner("openai:m", settings=settings).name == "openai:m"


def test_a_price_is_only_known_where_it_was_stated() -> None:
    assert _model(choose_planner("openai:m", base_url=LOCAL)).price is None
    stated = PlannerSettings(usd_per_million=(1.0, 2.0))
    assert _model(choose_planner("openai:m", base_url=LOCAL, settings=stated)).price == (1.0, 2.0)


def test_a_providers_key_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeOpenAI([call("plan_search", targets=["x"])]) as server:
        _model(choose_planner("openai:m", base_url=server.url)).ask(ASKED, [plan_search], optional=False)
        monkeypatch.setenv("R2SEG_PLANNER_KEY", "server-key-0123456789")
        _model(choose_planner("openai:m", base_url=server.url)).ask(ASKED, [plan_search], optional=False)
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer no-key",
        "Bearer server-key-0123456789",
    ]


def test_the_settings_file_gives_keys_and_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _settings_file(tmp_path, monkeypatch, f'temperature = 0.5\nseed = 3\n[keys]\nopenai = "{KEY}"\n')
    settings = load_settings()
    assert (settings.temperature, settings.seed) == (0.5, 3)
    key = settings.key("openai")
    assert key is not None
    assert key.get_secret_value() == KEY
    monkeypatch.setenv("R2SEG_PLANNER_TEMPERATURE", "none")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    settings = load_settings()
    assert settings.temperature is None
    key = settings.key("openai")
    assert key is not None
    assert key.get_secret_value() == "sk-from-environment"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_keys_that_others_can_read_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    _settings_file(tmp_path, monkeypatch, f'seed = 3\n[keys]\nopenai = "{KEY}"\n', mode)
    with pytest.warns(UserWarning, match="chmod 600") as caught:
        settings = load_settings()
    assert settings.key("openai") is None
    assert settings.seed == 3
    assert all(KEY not in str(one.message) for one in caught)


@pytest.mark.parametrize(
    "text",
    [f'keys = "{KEY}"', f'[keys]\nopenai = "{KEY}', f'[keys]\nopenai = ["{KEY}"]', f'api_key = "{KEY}"', "seed = 'x'"],
)
def test_a_broken_settings_file_is_an_error_that_shows_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    _settings_file(tmp_path, monkeypatch, text)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.hint


def test_a_key_shows_up_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """In no repr, no error, no log line and no reply, even when the server sends it back."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("R2SEG_PLANNER_KEY", KEY)
    shown: list[str] = []
    echo = f"Incorrect API key provided: {KEY}"
    good = call("plan_search", targets=["liver lesion"])
    for script in ([Reply(status=401, error=echo)], [Reply(status=400, error=echo)], [good]):
        with FakeOpenAI(script) as server:
            planner = _model(choose_planner("openai:m", base_url=server.url))
            shown += [repr(planner), repr(planner.model), str(planner.model), repr(planner.retrier)]
            shown += [repr(load_settings()), load_settings().model_dump_json(), repr(planner.model.__dict__)]
            try:
                shown.append(repr(planner.ask(ASKED, [plan_search], optional=False)))
            except PlannerRefusedError as error:
                shown += ["".join(traceback.format_exception(error)), repr(error)]
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}", "or this test proves nothing"
    everything = "\n".join([*shown, caplog.text, *capfd.readouterr()])
    assert KEY not in everything
    assert "[key]" in everything


@pytest.mark.parametrize(
    ("provider", "package"), [("anthropic", "langchain_anthropic"), ("ollama", "langchain_ollama")]
)
def test_the_other_providers_can_be_set_up(provider: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    settings = PlannerSettings(keys={provider: KEY})
    planner = _model(choose_planner(f"{provider}:some-model", settings=settings))
    assert (planner.name, planner.kind) == (f"{provider}:some-model", "model")
    assert KEY not in repr(planner)


def test_tracing_by_langsmith_is_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from langsmith.utils import tracing_is_enabled

    for name in TRACING_VARIABLES:
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_GATEWAY", "true")
    telemetry_off()
    assert not tracing_is_enabled()
    assert "LANGSMITH_GATEWAY" not in os.environ


def test_tracing_is_off_in_a_host_whose_environment_asks_for_it_and_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from langsmith import utils

    for name in ("LANGSMITH_TRACING_V2", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")  # an earlier test of the command line may have set them to false
    utils.get_env_var.cache_clear()
    assert utils.tracing_is_enabled()
    assert untraced(utils.tracing_is_enabled) is False
    assert os.environ["LANGSMITH_TRACING"] == os.environ["LANGCHAIN_TRACING_V2"] == "true"
    monkeypatch.undo()
    utils.get_env_var.cache_clear()


def test_a_named_planner_goes_to_the_providers_own_server_whatever_the_gateway_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANGSMITH_GATEWAY", "true")
    monkeypatch.setenv("LANGSMITH_GATEWAY_API_KEY", "lsv2_somebody")
    for name, field in (("openai", "openai_api_base"), ("anthropic", "anthropic_api_url")):
        pytest.importorskip(f"langchain_{name}")
        planner = _model(choose_planner(f"{name}:some-model", settings=PlannerSettings(keys={name: KEY})))
        assert str(getattr(planner.model, field)).rstrip("/") == PROVIDERS[name].home.rstrip("/")


def test_the_first_tracer_of_langchain_is_an_error_that_says_what_to_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_HANDLER", "langchain")
    with pytest.raises(InputError, match="LANGCHAIN_HANDLER") as caught:
        untraced(lambda: None)
    assert "Unset it" in caught.value.hint


def test_steps_are_untraced_and_their_user_is_not() -> None:
    from langsmith import tracing_context
    from langsmith.utils import tracing_is_enabled

    def steps() -> Iterator[object]:
        yield tracing_is_enabled()
        yield tracing_is_enabled()

    with tracing_context(enabled=True):
        seen = [(step, tracing_is_enabled()) for step in untraced_steps(steps)]
    assert seen == [(False, True), (False, True)]


def test_a_request_is_not_traced_even_inside_a_traced_block() -> None:
    from langsmith import tracing_context
    from langsmith.utils import tracing_is_enabled

    with tracing_context(enabled=True):
        assert tracing_is_enabled()
        assert untraced(tracing_is_enabled) is False


def test_tracing_can_be_allowed_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_ALLOW_TRACING", "1")
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    telemetry_off()
    assert os.environ["LANGSMITH_TRACING"] == "true"


def test_a_model_that_cannot_be_set_up_is_an_error_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **options: Any) -> None:
        raise ValueError(f"bad options {options['api_key'].get_secret_value()}")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", broken)
    with pytest.raises(InputError, match="cannot be set up") as caught:
        choose_planner("openai:m", settings=PlannerSettings(keys={"openai": KEY}))
    assert KEY not in "".join(traceback.format_exception(caught.value))
