"""The list of models, in the shape of whoever asks.

Rule 1: a name is listed as it can be asked for. What nobody knows of a model (its limits, its age) is not said.
Rule 2: nobody is waited for: providers' own lists are as they are known.

Shapes: https://platform.openai.com/docs/api-reference/models, https://platform.claude.com/docs/en/api/models/list,
https://ai.google.dev/api/models
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.driver.listing import Listed
from counterfoil.driver.resolve import PublicName
from counterfoil.server.asgi import Request, respond
from counterfoil.server.door import Found
from counterfoil.server.doors import check_name
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["list_models", "show_model"]

_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
"""What Gemini's clients may call of a model here. Which of it the model can do is seen when it is asked."""


async def list_models(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /v1/models`: the names that can be asked for, and how the providers' own lists fare; all on one page."""
    state.access.admit(request, spends=False)
    lists = () if gateway.catalogue is None else gateway.catalogue.lists()
    shape = _SHAPES.get(found.dialect.name, _openai_list)
    await respond(request, 200, msgspec.json.encode(shape(state.names.listed(lists), lists, state.since)))


async def show_model(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /v1/models/NAME`: one of them, or 404 with the nearest names."""
    state.access.admit(request, spends=False)
    name = found.place.model or ""
    check_name(name)
    route = state.names.resolve(name)
    shape = _ONE.get(found.dialect.name, _openai)
    public = PublicName(route.name, route.deployments[0].provider.name)
    await respond(request, 200, msgspec.json.encode(shape(public, state.since)))


def _openai(public: PublicName, since: int) -> dict[str, object]:
    return {"id": public.name, "object": "model", "created": since, "owned_by": public.owner}


def _openai_list(names: Sequence[PublicName], lists: Sequence[Listed], since: int) -> dict[str, object]:
    answer: dict[str, object] = {"object": "list", "data": [_openai(public, since) for public in names]}
    if lists:
        answer["counterfoil"] = {"listings": [_listing(one) for one in lists]}
    return answer


def _anthropic(public: PublicName, since: int) -> dict[str, object]:
    created = datetime.fromtimestamp(since, UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": public.name, "display_name": public.name, "created_at": created}


def _anthropic_list(names: Sequence[PublicName], lists: Sequence[Listed], since: int) -> dict[str, object]:
    return {
        "data": [_anthropic(public, since) for public in names],
        "has_more": False,
        "first_id": names[0].name if names else None,
        "last_id": names[-1].name if names else None,
    }


def _gemini(public: PublicName, since: int) -> dict[str, object]:
    return {
        "name": f"models/{public.name}",
        "displayName": public.name,
        "supportedGenerationMethods": _METHODS,
    }


def _gemini_list(names: Sequence[PublicName], lists: Sequence[Listed], since: int) -> dict[str, object]:
    return {"models": [_gemini(public, since) for public in names]}


_ONE: Final[Mapping[str, Callable[[PublicName, int], dict[str, object]]]] = {
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
}
_SHAPES: Final[Mapping[str, Callable[[Sequence[PublicName], Sequence[Listed], int], dict[str, object]]]] = {
    "anthropic_messages": _anthropic_list,
    "gemini": _gemini_list,
}
"""By dialect; every other's clients know OpenAI's."""


def _listing(listed: Listed) -> dict[str, object]:
    return {
        "provider": listed.provider,
        "state": listed.state,
        "models": len(listed.models),
        "left_off": listed.left_off,
        "problem": listed.problem,
    }
