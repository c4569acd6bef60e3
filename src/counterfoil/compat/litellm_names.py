"""LiteLLM's way of saying where a call goes, in our words.

Rule 1: pure: names in, the SDK's options out. Only `os.environ/NAME` is looked up, where it is handed in.
Rule 2: what has no meaning here is refused by name. What LiteLLM's router alone needs (weights, its own limits) is left
to it and listed as such.
Source: https://docs.litellm.ai/docs/providers and https://docs.litellm.ai/docs/proxy/configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.driver.deployment import load_table
from counterfoil.providers.table import matching

__all__ = ["Place", "deployment_of", "place_of"]

_SPELLED: Final[Mapping[str, str]] = {
    "azure": "azure-openai",
    "azure_ai": "azure-ai",
    "custom_openai": "openai",
    "dashscope": "alibaba",
    "gemini": "google",
    "hosted_vllm": "vllm",
    "litellm_proxy": "litellm-proxy",
    "lm_studio": "lmstudio",
    "moonshot": "moonshotai",
    "ollama_chat": "ollama",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel-gateway",
    "vertex_ai": "vertex",
}
"""LiteLLM's prefixes that differ from the names of our table."""
_DATED: Final[Mapping[str, str]] = {"azure": "azure-openai-dated"}
"""The same, where an API version is given."""

_OPTIONS: Final[Mapping[str, str]] = {
    "api_base": "base_url",
    "api_key": "api_key",
    "aws_region_name": "region",
    "base_url": "base_url",
    "drop_params": "drop",
    "extra_headers": "extra_headers",
    "headers": "extra_headers",
    "max_retries": "max_retries",
    "tags": "tags",
    "timeout": "timeout",
    "vertex_location": "region",
    "vertex_project": "project",
}
"""`litellm_params` that are options of a call here."""
_ASIDE: Final = frozenset(
    {
        "cooldown_time",
        "input_cost_per_token",
        "max_parallel_requests",
        "order",
        "output_cost_per_token",
        "rpm",
        "tpm",
        "weight",
    }
)
"""`litellm_params` for LiteLLM's own choice among deployments and its own sums; here they decide nothing."""
_FROM_ENVIRONMENT: Final = "os.environ/"


class Place(msgspec.Struct, frozen=True):
    """Where LiteLLM would send a model's name."""

    model: str
    """The name that the provider knows."""
    provider: str | None = None
    """A row of our table; None: the name says none that we know."""
    renamed: bool = False
    """Whether LiteLLM spells the provider otherwise than our table does."""
    spellings: tuple[str, ...] = ()
    """The names under which a secret for this provider may be given."""


def place_of(model: str, provider: str | None = None, *, dated: bool = False) -> Place:
    """Where `model` goes: to `provider`, by its prefix, or by a bare name that one row of the table means.

    `dated`: an API version is given. A prefix that nobody knows is part of the name.
    """
    table = load_table()
    prefix, slash, rest = model.partition("/")
    if provider is not None:
        spelled, name = provider, model.removeprefix(f"{provider}/")
    elif slash and rest and (prefix in _SPELLED or prefix in table):
        spelled, name = prefix, rest
    else:
        rows = [row.name for row in matching(table.values(), model)]
        if len(rows) != 1:
            return Place(model)
        spelled, name = rows[0], model
    row_name = (_DATED if dated else _SPELLED).get(spelled) or _SPELLED.get(spelled, spelled)
    spellings = dict.fromkeys((spelled, row_name, *(said for said, meant in _SPELLED.items() if meant == row_name)))
    return Place(name, row_name, spelled in _SPELLED, tuple(spellings))


def deployment_of(entry: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """One entry of a `model_list` as the SDK's `model` and options. Raises ValueError for what has no meaning here.

    `{"model_name": ..., "litellm_params": {"model": "azure/m", "api_base": ..., "api_key": "os.environ/NAME", ...}}`
    """
    params = {name: value for name, value in entry["litellm_params"].items() if value is not None}
    version = params.pop("api_version", None)
    place = place_of(params.pop("model"), params.pop("custom_llm_provider", None), dated=version is not None)
    unknown = sorted(params.keys() - _OPTIONS.keys() - _ASIDE)
    if unknown:
        raise ValueError(f"`litellm_params` of {entry.get('model_name')!r}: no meaning here for {', '.join(unknown)}")
    options: dict[str, Any] = {"model": place.model, "custom_llm_provider": place.provider}
    for name, value in params.items():
        if name in _OPTIONS:
            options[_OPTIONS[name]] = _value(value, environ)
    if version is not None:
        options["extra_query"] = {"api-version": _value(version, environ)}
    return {name: value for name, value in options.items() if value is not None}


def _value(value: object, environ: Mapping[str, str]) -> object:
    if not isinstance(value, str) or not value.startswith(_FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(_FROM_ENVIRONMENT)
    found = environ.get(name, "").strip()
    if not found:
        raise ValueError(f"the environment variable {name} is not set")
    return found
