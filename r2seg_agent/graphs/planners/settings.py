"""Settings of the planner's language model: from the environment, or from a file that only its owner can read.

The file is TOML, at `settings.toml` in the user's configuration folder for r2seg-agent (R2SEG_SETTINGS names another):

    temperature = 0.0
    [keys]
    openai = "…"

Environment variables win over the file: R2SEG_PLANNER_TEMPERATURE and so on, and the providers' own OPENAI_API_KEY and
ANTHROPIC_API_KEY.
"""

from __future__ import annotations

import os
import stat
import tomllib
import warnings
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from r2seg_agent.errors import InputError
from r2seg_agent.graphs.planners.retry import Backoff

SERVER = "server"
"""The name of the key for a server that --base-url names."""


class PlannerSettings(BaseSettings):
    """How a language model is asked. None switches a parameter off, for servers that refuse it."""

    model_config = SettingsConfigDict(
        env_prefix="R2SEG_PLANNER_", frozen=True, extra="forbid", env_parse_none_str="none"
    )

    temperature: float | None = Field(default=0.0, ge=0.0, le=2.0)
    seed: int | None = 0
    """Sent where the client supports it; few servers promise the same answer for it."""
    max_tokens: int | None = Field(default=2048, ge=16, le=100_000)
    timeout_s: float = Field(default=120.0, gt=0.0, le=3600.0)
    """For one whole answer."""
    call_format: Literal["native", "json_schema", "json_text"] | None = None
    """The way of asking for a call; found out by trying when it is not set."""
    stream: bool = False
    base_url: str | None = None
    """The server's address; --base-url wins."""
    proxy: str | None = Field(default=None, pattern=r"^(https?|socks5h?)://[^\s?#@]+$")
    """A proxy for the way to the server. Those of the environment (HTTPS_PROXY) are not used."""
    usd_per_million: tuple[float, float] | None = None
    """Input and output price of the model, for the trace. None is built in: list prices change without notice."""
    backoff: Backoff = Backoff()
    keys: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """By provider: `openai`, `anthropic`, `ollama`; `server` for the one that --base-url names."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the user's file; no `.env` of the current folder is read."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(read_settings_file()))

    def key(self, provider: str) -> SecretStr | None:
        """The key for `provider`, or for `server`: from its environment variable, else from the settings file."""
        found = os.environ.get(key_variable(provider), "").strip()
        return SecretStr(found) if found else self.keys.get(provider)


def load_settings() -> PlannerSettings:
    """The settings of this user; `InputError` names what is wrong with them, never their values."""
    try:
        return PlannerSettings()
    except ValidationError as error:
        wrong = "; ".join(
            f"`{'.'.join(str(part) for part in problem['loc'])}`: {problem['msg']}" for problem in error.errors()
        )
        # The values may hold a key, so neither they nor pydantic's own text are shown.
        raise InputError(
            f"the planner's settings cannot be used: {wrong}",
            f"They come from R2SEG_PLANNER_… variables and from `{settings_file().name}` (docs/develop/agent.md).",
        ) from None


def key_variable(provider: str) -> str:
    """The environment variable that holds the key."""
    return "R2SEG_PLANNER_KEY" if provider == SERVER else f"{provider.upper()}_API_KEY"


def settings_file() -> Path:
    """R2SEG_SETTINGS, else `settings.toml` in the user's configuration folder for r2seg-agent."""
    if configured := os.environ.get("R2SEG_SETTINGS"):
        return Path(configured)
    from platformdirs import user_config_path

    return user_config_path("r2seg-agent") / "settings.toml"


def read_settings_file() -> dict[str, JsonValue]:
    """The settings in the file; its keys are refused, with a warning, when others can read it."""
    path = settings_file()
    try:
        with path.open("rb") as file:
            readable_by_others = bool(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077) and os.name == "posix"
            settings: dict[str, JsonValue] = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # A TOML error may quote the line that holds a key.
        raise InputError(
            f"the settings file `{path.name}` cannot be read ({type(error).__name__})", "Mend it, or move it away."
        ) from None
    if settings.get("keys") and readable_by_others:
        settings.pop("keys")
        warnings.warn(
            f"the keys in `{path.name}` are not used: other users of this machine can read the file; "
            f"run: chmod 600 {path}",
            stacklevel=2,
        )
    return settings
