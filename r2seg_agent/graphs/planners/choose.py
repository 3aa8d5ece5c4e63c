"""`choose_planner`: from `provider:model` on the command line to a planner, checked before any work starts."""

from __future__ import annotations

import ipaddress
import os
import warnings
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.connection import arguments_as_text, client_options, connect_anthropic, plain_client
from r2seg_agent.graphs.planners.retry import Retrier, scrub
from r2seg_agent.graphs.planners.settings import SERVER, PlannerSettings, key_variable, load_settings, settings_file

OFFLINE = "offline"


class Provider(NamedTuple):
    """A provider of language models. `home` is its own server; `address_variables` would lead its client elsewhere."""

    package: str
    home: str
    needs_key: bool
    address_variables: tuple[str, ...]


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "langchain_openai", "https://api.openai.com/v1", True, ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY")
    ),
    "anthropic": Provider(
        "langchain_anthropic", "https://api.anthropic.com", True, ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL")
    ),
    "ollama": Provider("langchain_ollama", "http://127.0.0.1:11434", False, ()),
}


PlannerChoice = str | BaseChatModel | Planner
"""A name as on the command line, a LangChain chat model, or a planner (`graphs/planner.py`)."""


def planner_from(choice: PlannerChoice, *, base_url: str | None = None) -> Planner:
    """The planner that `choice` names or is.

    A chat model goes through the same protocol as a named one: calls checked against the legal steps, retries on top of
    its own, no tracing. Its server and key are the caller's matter. Raises `InputError` for anything else, and for
    `base_url` with an object, which states its own server; also as `choose_planner`.
    """
    if isinstance(choice, str):
        return choose_planner(choice, base_url=base_url)
    if base_url is not None:
        raise InputError("base_url goes with a planner's name; an object states its own server", "Leave it out.")
    if isinstance(choice, BaseChatModel):
        name = chat_model_name(choice)
        return ChatModelPlanner(model=choice, name=name, retrier=Retrier(name=name))
    if all(hasattr(choice, part) for part in ("name", "kind", "ask")):
        return choice
    raise InputError(
        f"`planner` cannot be a {type(choice).__name__}",
        'Give a name ("offline", "openai:MODEL"), a LangChain chat model, or an object with name, kind and ask.',
    )


def chat_model_name(model: BaseChatModel) -> str:
    """What reports call a chat model that was given as an object: its class, and its model's name where it has one."""
    stated = getattr(model, "model_name", None) or getattr(model, "model", None)
    return f"{type(model).__name__}:{stated}" if isinstance(stated, str) else type(model).__name__


def choose_planner(spec: str, *, base_url: str | None = None, settings: PlannerSettings | None = None) -> Planner:
    """The planner that `spec` names: `offline`, or `provider:model` with openai, anthropic or ollama.

    `base_url` leads to another server that speaks the provider's protocol (`openai` for llama.cpp, vLLM, LM Studio and
    the like). Raises `InputError` for an unknown spec, address or missing key, `MissingDependencyError` for a missing
    package. Nothing is sent yet.
    """
    if spec == OFFLINE:
        from r2seg_agent.graphs.planners.offline import OfflinePlanner

        if base_url is not None:
            raise InputError(
                "--base-url needs a language model; the planner is `offline`.", "Add --planner openai:NAME."
            )
        return OfflinePlanner()
    name, _, model = spec.partition(":")
    if name not in PROVIDERS or not model.strip():
        raise InputError(
            f"unknown planner `{scrub(spec)}`; allowed: `offline`, or `PROVIDER:MODEL` with {', '.join(PROVIDERS)}",
            "Any server that speaks the OpenAI protocol: --planner openai:MODEL --base-url http://127.0.0.1:8080/v1",
        )
    provider = PROVIDERS[name]
    if find_spec(provider.package) is None:
        raise MissingDependencyError(
            f"the planner `{spec}` needs the package `{provider.package.replace('_', '-')}`",
            f'Install it: pip install "r2seg-agent[{name}]"',
        )
    settings = settings or load_settings()
    address = settings.base_url if base_url is None else base_url
    if address is None:
        _refuse_hidden_address(provider)
    else:
        _check_address(address)
    if settings.proxy is not None and address is not None and _is_loopback(urlsplit(address)):
        raise InputError(
            "the settings state a proxy for the planner, and --base-url is an address of this machine",
            "Leave the setting `proxy` (R2SEG_PLANNER_PROXY) out: what goes to a local server stays on the machine.",
        )
    own = address is None or address.rstrip("/") == provider.home.rstrip("/")
    key = _key(name, provider, settings, own=own)
    secrets = (key.get_secret_value(),) if key else ()
    shown = spec if own else f"{spec} ({'local' if _is_loopback(urlsplit(address or '')) else 'other'} server)"
    return ChatModelPlanner(
        model=_chat_model(name, model, address or provider.home, key, settings, own=own),
        name=shown,
        retrier=Retrier(name=shown, backoff=settings.backoff, secrets=secrets, timeout_s=settings.timeout_s),
        call_format=settings.call_format,
        stream=settings.stream,
        # Ollama's client knows no such option.
        bind_options={} if name == "ollama" else {"parallel_tool_calls": False},
        price=settings.usd_per_million,
    )


def _chat_model(
    provider: str, model: str, address: str, key: SecretStr | None, settings: PlannerSettings, *, own: bool
) -> BaseChatModel:
    """The LangChain model. Its own retries are off: ours count."""
    from langchain.chat_models import init_chat_model

    # The address is always stated, so no environment variable can lead a prompt elsewhere.
    options: dict[str, Any] = {"base_url": address}
    if settings.temperature is not None:
        options["temperature"] = settings.temperature
    connection = client_options(settings.timeout_s, settings.proxy)
    if provider == "ollama":
        options |= {"num_predict": settings.max_tokens, "seed": settings.seed}
        options["sync_client_kwargs"] = connection | _bearer(key)
    else:
        options |= {"api_key": key or SecretStr("no-key"), "timeout": settings.timeout_s, "max_retries": 0}
        if settings.max_tokens is not None:
            options["max_tokens"] = settings.max_tokens
    if provider == "openai":
        import openai

        connection["event_hooks"]["response"].append(arguments_as_text)
        options |= {"seed": settings.seed, "stream_usage": settings.stream}
        options["http_client"] = plain_client(openai.DefaultHttpxClient, connection)
        if not own:
            options["use_responses_api"] = False
    try:
        made: BaseChatModel = init_chat_model(model, model_provider=provider, **options)
        if provider == "anthropic":
            connect_anthropic(made, connection)
    except Exception as error:
        secrets = (key.get_secret_value(),) if key else ()
        raise InputError(
            f"the planner `{provider}:{model}` cannot be set up: {scrub(str(error), secrets)}",
            "Check the model's name, --base-url and the settings file (docs/develop/agent.md).",
        ) from None
    return made


def _bearer(key: SecretStr | None) -> dict[str, object]:
    """Always stated: left to itself, Ollama's client sends OLLAMA_API_KEY to any server."""
    return {"headers": {"authorization": f"Bearer {key.get_secret_value() if key else 'no-key'}"}}


def _key(name: str, provider: Provider, settings: PlannerSettings, *, own: bool) -> SecretStr | None:
    """The key to send. A provider's key goes to that provider's own server only."""
    if not own:
        return settings.key(SERVER)
    key = settings.key(name)
    if key is None and provider.needs_key:
        raise InputError(
            f"the planner `{name}` needs a key, and none was found",
            f'Set the environment variable {key_variable(name)}, or write `[keys]` and `{name} = "…"` to the settings '
            f"file {settings_file()} (chmod 600). `--planner offline` needs none.",
        )
    return key


def _refuse_hidden_address(provider: Provider) -> None:
    for variable in provider.address_variables:
        if os.environ.get(variable, "").strip():
            raise InputError(
                f"the environment variable {variable} names another server, which r2seg does not follow silently",
                f"State the server with --base-url, or unset {variable}.",
            )


def _check_address(address: str) -> None:
    """Refuse what is no plain http(s) address; warn where words would travel unencrypted over a network."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(
            "--base-url is no address of a server",
            "Give it as http://127.0.0.1:8080/v1 or https://host/v1, without `?` and `#`.",
        )
    if parts.username or parts.password:
        raise InputError(
            "--base-url holds a user name or password, which would end up in logs",
            f"Put the key into {key_variable(SERVER)} or the settings file instead.",
        )
    if parts.scheme == "http" and not _is_loopback(parts):
        warnings.warn(
            f"the connection to `{parts.hostname}` is not encrypted: what docs/guide/privacy.md lists travels in the "
            "clear; use https where you can",
            stacklevel=3,
        )


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
