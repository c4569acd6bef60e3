"""What a chat model is told once, and can be told again at any time.

Rule 1: every field may change after construction; nothing is computed from a field before a call needs it.
Rule 2: one thing has one field. Its other names are properties, and are taken at construction as well.
Rule 3: a keyword nobody knows goes to `model_kwargs` and so to the provider, which says what it thinks of it.
"""

# ruff: noqa: ANN401 - pydantic's signature
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from pydantic import ConfigDict, Field, SecretStr, model_validator

from counterfoil.driver.deployment import load_table
from counterfoil.providers.provider import Provider
from counterfoil.providers.table import matching
from counterfoil.sdk.names import BASE_URL_VARIABLE

__all__ = ["ChatFields"]

_OTHER_NAMES: Final[Mapping[str, str]] = {
    "model_name": "model",
    "base_url": "api_base",
    "timeout": "request_timeout",
    "stop_sequences": "stop",
    "default_headers": "extra_headers",
}
"""Other names at construction, and the field each means."""
_SENT: Final = (
    "temperature",
    "top_p",
    "top_k",
    "n",
    "max_tokens",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
)
"""Fields that are sent to the model under their own names, where they are set."""
_KEY: Final = "_api_key"


class ChatFields(BaseChatModel):
    """The fields of `ChatCounterfoil`, and what they amount to in a request."""

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    model: str
    """`provider/model`, a bare name that the table knows, a route of the configuration, or a name of the gateway's."""
    api_key: SecretStr | None = None
    """The provider's secret, or the gateway's key. None: the one that the configuration or the environment has."""
    api_keys: dict[str, SecretStr] = Field(default_factory=dict, exclude=True, repr=False)
    """Secrets by provider, for those without a field below."""
    anthropic_api_key: SecretStr | None = None
    azure_api_key: SecretStr | None = None
    cohere_api_key: SecretStr | None = None
    deepseek_api_key: SecretStr | None = None
    gemini_api_key: SecretStr | None = None
    groq_api_key: SecretStr | None = None
    huggingface_api_key: SecretStr | None = None
    mistral_api_key: SecretStr | None = None
    openai_api_key: SecretStr | None = None
    openrouter_api_key: SecretStr | None = None
    replicate_api_key: SecretStr | None = None
    together_ai_api_key: SecretStr | None = None
    xai_api_key: SecretStr | None = None
    api_base: str | None = None
    """The address of a gateway or of another server that speaks the provider's language. Also `base_url`."""
    custom_llm_provider: str | None = None
    """The provider of `model`, when its name does not say it."""
    region: str | None = None
    """Where in a cloud, for providers that are in one (Bedrock, Vertex). None: what the environment says."""
    project: str | None = None
    """The same for a Google Cloud project."""
    organization: str | None = None
    """Sent as `OpenAI-Organization`."""
    config: str | None = None
    """A configuration file: its routes are models here."""
    ledger: str | None = None
    """Where the books are kept. None: what the configuration says, else in the process."""
    streaming: bool = False
    """Whether `invoke` reads a stream too."""
    stream_usage: bool = True
    """Whether a stream's last chunk carries the usage. The ledger has it in any case."""
    stream_options: dict[str, Any] | None = None
    """Sent with a streamed request; its `include_usage` goes before `stream_usage`."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    """How many answers. A stream has one message: the first answer's; its usage is that of all."""
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    max_retries: int | None = None
    """None: the SDK's own number."""
    request_timeout: float | None = None
    """Seconds without a byte of the reply before the call is given up. Also `timeout`."""
    fallbacks: list[str] | None = None
    """Models to ask, in this order, when `model` cannot answer."""
    extra_headers: dict[str, str] | None = None
    extra_body: dict[str, Any] | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Sent with every request as they are."""

    @model_validator(mode="before")
    @classmethod
    def _take(cls, given: Any) -> Any:
        """Other names to their fields; secrets and parameters without a field to where they belong."""
        if not isinstance(given, Mapping):
            return given
        known = {name for field, info in cls.model_fields.items() for name in (field, info.alias) if name}
        taken: dict[str, Any] = {}
        keys = dict(given.get("api_keys") or {})
        further = dict(given.get("model_kwargs") or {})
        for name, value in given.items():
            field = _OTHER_NAMES.get(name, name)
            if field != name and field in given:
                raise ValueError(f"`{name}` and `{field}` are one thing: give one of them")
            if field in known:
                taken[field] = os.fspath(value) if isinstance(value, os.PathLike) else value
            elif name.endswith(_KEY):
                keys[name.removesuffix(_KEY)] = value
            elif name in further:
                raise ValueError(f"`{name}` is given twice: by itself and in `model_kwargs`")
            else:
                further[name] = value
        inside = sorted(further.keys() & known)
        if inside:
            raise ValueError(f"`model_kwargs` holds {inside}, which are fields of their own")
        return {**taken, "api_keys": keys, "model_kwargs": further}

    def __setattr__(self, name: str, value: Any) -> None:
        """A secret that is set later is hidden like one that was given, and a path is its text."""
        if name.endswith(_KEY) and isinstance(value, str):
            value = SecretStr(value)
        super().__setattr__(name, os.fspath(value) if isinstance(value, os.PathLike) else value)

    @property
    def model_name(self) -> str:
        """Another name of `model`."""
        return self.model

    @model_name.setter
    def model_name(self, value: str) -> None:
        self.model = value

    @property
    def base_url(self) -> str | None:
        """Another name of `api_base`."""
        return self.api_base

    @base_url.setter
    def base_url(self, value: str | None) -> None:
        self.api_base = value

    @property
    def timeout(self) -> float | None:
        """Another name of `request_timeout`."""
        return self.request_timeout

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        self.request_timeout = value

    @property
    def stop_sequences(self) -> str | list[str] | None:
        """Another name of `stop`."""
        return self.stop

    @stop_sequences.setter
    def stop_sequences(self, value: str | list[str] | None) -> None:
        self.stop = value

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Secrets are left out: what is loaded finds them in the environment."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `langchain_core.load` finds the class."""
        return ["counterfoil", "langchain"]

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable that stands for each secret in what is saved."""
        own = {"api_key": "COUNTERFOIL_API_KEY"}
        return own | {
            name: name.upper() for name in type(self).model_fields if name.endswith(_KEY) and name != "api_key"
        }

    @property
    def _default_params(self) -> dict[str, Any]:
        """What every request asks for. A streamed one asks for usage, unless it is told not to."""
        params: dict[str, Any] = {"model": self.model, "stream": self.streaming}
        params.update({name: value for name in _SENT if (value := getattr(self, name)) not in (None, [])})
        if self.streaming:
            params["stream_options"] = self._options_of_stream()
        return {**params, **self.model_kwargs}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells one model from another: no secret is among it."""
        where = {"api_base": self.api_base, "custom_llm_provider": self.custom_llm_provider}
        where |= {"region": self.region, "project": self.project, "organization": self.organization}
        known = {name: value for name, value in where.items() if value is not None}
        return {"model_name": self.model, **known, **self._default_params}

    def _options_of_stream(self, asked: bool | None = None, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`stream_options` of a streamed request: the call's own, then the call's `stream_usage` (`asked`), then the
        model's."""
        options = {"include_usage": self.stream_usage, **(self.stream_options or {})}
        if asked is not None:
            options["include_usage"] = asked
        return {**options, **(given or {})}

    def _secret(self, model: str) -> str | None:
        """The secret for `model`, where a field holds it. A provider's own secret never goes to the gateway of the
        environment; to an address that was given it goes when there is no other."""
        provider, name = self._provider(model)
        general = self.api_key
        own = self._own_secret([provider] if provider else [row.name for row in matching(_table(), name)])
        if self.api_base is not None:
            secret = general or own
        elif os.environ.get(BASE_URL_VARIABLE, "").strip() and self.custom_llm_provider is None:
            secret = general
        else:
            secret = own or general
        return secret.get_secret_value() if secret is not None else None

    def _own_secret(self, providers: Iterable[str]) -> SecretStr | None:
        """The secret of the one of `providers` that has one here; None when none has, or several."""
        found = []
        for provider in providers:
            field = f"{provider.replace('-', '_')}{_KEY}"
            own = getattr(self, field, None) if field in type(self).model_fields else None
            found.append(own or self.api_keys.get(provider))
        given = [secret for secret in found if secret is not None]
        return given[0] if len(given) == 1 else None

    def _provider(self, model: str) -> tuple[str | None, str]:
        """The provider as the caller wrote it, and the model's name without it."""
        if self.custom_llm_provider:
            return self.custom_llm_provider, model.removeprefix(f"{self.custom_llm_provider}/")
        provider, slash, name = model.partition("/")
        return (provider, name) if slash else (None, model)


@cache
def _table() -> tuple[Provider, ...]:
    return tuple(load_table().values())
