"""From the arguments of a call to its body and to where it goes.

Rule 1: what is not an option of ours is a field of the request, known or not: it is carried, and a dialect that has no
place for it refuses by name.
Rule 2: None is "not given": a field that is None is left out. `extra_body` is merged last and as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from counterfoil.sdk.errors import invalid, misconfigured
from counterfoil.sdk.node import Node, plain

__all__ = ["RETRIES", "Options", "config_path", "encode_body", "read_options"]

RETRIES: Final = 2
"""How often a failed attempt is made again, where nothing else is said."""
_MOST_RETRIES: Final = 9
_LONGEST: Final = 86_400.0
_TAGS: Final = 16
_TAG_LENGTH: Final = 64
_OURS: Final = frozenset(
    {
        "api_base",
        "api_key",
        "base_url",
        "custom_llm_provider",
        "drop",
        "extra_body",
        "extra_headers",
        "extra_query",
        "fallbacks",
        "max_retries",
        "project",
        "region",
        "tags",
        "timeout",
    }
)


class Options(msgspec.Struct, frozen=True):
    """What a call, or a client for all its calls, says beside the request. None: not said."""

    api_key: str | None = None
    base_url: str | None = None
    provider: str | None = None
    region: str | None = None
    project: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    fallbacks: tuple[str | Mapping[str, Any], ...] | None = None
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    drop: bool | None = None

    def over(self, general: Options) -> Options:
        """These, and `general` for what they leave out. Headers are added up."""
        return Options(
            api_key=self.api_key if self.api_key is not None else general.api_key,
            base_url=self.base_url if self.base_url is not None else general.base_url,
            provider=self.provider if self.provider is not None else general.provider,
            region=self.region if self.region is not None else general.region,
            project=self.project if self.project is not None else general.project,
            timeout=self.timeout if self.timeout is not None else general.timeout,
            max_retries=self.max_retries if self.max_retries is not None else general.max_retries,
            fallbacks=self.fallbacks if self.fallbacks is not None else general.fallbacks,
            headers={**general.headers, **self.headers},
            query={**general.query, **self.query},
            tags=self.tags or general.tags,
            drop=self.drop if self.drop is not None else general.drop,
        )


def read_options(given: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """A call's options, and the fields of its request. Raises BadRequestError."""
    ours = {name: value for name, value in given.items() if name in _OURS and value is not None}
    fields = {name: value for name, value in given.items() if name not in _OURS and value is not None}
    body = ours.get("extra_body")
    if body is not None:
        if not isinstance(body, Mapping):
            raise invalid("`extra_body` is a mapping.", "extra_body")
        fields.update(body)
    addresses = {name: ours[name] for name in ("base_url", "api_base") if name in ours}
    if len(set(map(str, addresses.values()))) > 1:
        raise invalid("`base_url` and `api_base` are one thing: give one of them.", "base_url")
    address = next((str(value) for value in addresses.values()), None)
    return (
        Options(
            api_key=_secret(ours.get("api_key")),
            base_url=address,
            provider=ours.get("custom_llm_provider"),
            region=_word(ours.get("region"), "region"),
            project=_word(ours.get("project"), "project"),
            timeout=_seconds(ours.get("timeout")),
            max_retries=_retries(ours.get("max_retries")),
            fallbacks=_fallbacks(ours.get("fallbacks")),
            headers=_texts(ours.get("extra_headers"), "extra_headers"),
            query=_texts(ours.get("extra_query"), "extra_query"),
            tags=_tags(ours.get("tags")),
            drop=ours.get("drop"),
        ),
        fields,
    )


def config_path(given: str | os.PathLike[str]) -> Path:
    """The configuration that a client names. Raises ConfigurationError where there is no such file."""
    path = Path(given)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise misconfigured(f"{path}: {getattr(error, 'strerror', None) or 'this is no path'}") from error
    return path


def encode_body(model: str, name: str, content: object, streamed: bool, fields: Mapping[str, Any]) -> bytes:
    """The request as JSON: `name` is the field of its content. Raises BadRequestError for what JSON cannot say."""
    body: dict[str, Any] = {"model": model, name: content, **fields}
    if streamed:
        body["stream"] = True
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise invalid(f"The request cannot be written as JSON: {error}") from error


def _written(value: object) -> object:
    """What JSON makes of an object: a reply's part, or anything with pydantic's `model_dump`."""
    if isinstance(value, Node):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", exclude_none=True)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_written)


def _secret(given: object) -> str | None:
    """A secret as text, also from an object that hides it (pydantic's SecretStr)."""
    if given is None:
        return None
    reveal = getattr(given, "get_secret_value", None)
    text = reveal() if callable(reveal) else given
    if not isinstance(text, str) or not text.strip().isascii() or not text.strip().isprintable():
        raise invalid("`api_key` is printable ASCII text.", "api_key")
    return text.strip() or None


def _word(given: object, name: str) -> str | None:
    if given is not None and not isinstance(given, str):
        raise invalid(f"`{name}` is text.", name)
    return given


def _seconds(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= _LONGEST:
        raise invalid(f"`timeout` is a number of seconds, up to {_LONGEST:.0f}.", "timeout")
    return float(given)


def _retries(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_RETRIES:
        raise invalid(f"`max_retries` is a whole number from 0 to {_MOST_RETRIES}.", "max_retries")
    return given


def _fallbacks(given: object) -> tuple[str | Mapping[str, Any], ...] | None:
    if given is None:
        return None
    listed = tuple(given) if isinstance(given, list | tuple) else (given,)
    for one in listed:
        if not isinstance(one, str) and not (isinstance(one, Mapping) and isinstance(one.get("model"), str)):
            raise invalid("`fallbacks` are model names, or mappings with a `model`.", "fallbacks")
    return listed


def _texts(given: object, name: str) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise invalid(f"`{name}` is a mapping of text.", name)
    return {key: str(value) for key, value in given.items()}


def _tags(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    tags = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if len(tags) > _TAGS or not all(map(_is_tag, tags)):
        raise invalid(f"`tags` are up to {_TAGS} texts of up to {_TAG_LENGTH} characters.", "tags")
    return tags


def _is_tag(given: object) -> bool:
    return isinstance(given, str) and 0 < len(given) <= _TAG_LENGTH and given.isprintable()
