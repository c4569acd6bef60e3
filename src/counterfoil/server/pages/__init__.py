"""The page a person finds at `/`: what this is, and how to use it.

Rule 1: one file, no scripts, nothing loaded from elsewhere.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import Final

import msgspec

from counterfoil.server.asgi import Request, respond
from counterfoil.server.door import Found
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["home"]

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "vary": "accept",
}
_PAGE: Final = Template((files(__name__) / "home.html").read_text(encoding="utf-8"))
_SHOWN: Final = 100
"""Models on the page; the rest are a number."""

_NO_MODELS: Final = (
    "<p>No models yet: write <code>models:</code> into the configuration, or install the local model with "
    "<code>counterfoil local install</code>.</p>"
)


_GEMINI: Final = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
_DOORS: Final = (
    ("OpenAI", "/v1", ("/chat/completions", "/responses", "/completions", "/embeddings", "/models")),
    ("Anthropic", "", ("/v1/messages", "/v1/messages/count_tokens")),
    ("Gemini", "", tuple(f"/v1beta/models/MODEL:{method}" for method in _GEMINI)),
    ("Azure", "", ("/openai/deployments/MODEL/chat/completions", "/openai/deployments/MODEL/embeddings")),
    ("Cohere", "", ("/v2/rerank",)),
)
"""Whose clients can be pointed here, what they take for a base URL beyond the origin, and what is answered."""


async def home(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /`: the page, or the same as JSON for whoever asks for JSON."""
    keys_needed = state.access.mode == "required"
    if not keys_needed:
        state.access.admit(request, spends=False)
    names = () if keys_needed else tuple(public.name for public in state.names.names())
    origin = f"http://{_host(request)}"
    base_url = f"{origin}/v1"
    if _wants_json(request.header(b"accept")):
        facts = {
            "service": "counterfoil",
            "base_url": base_url,
            "models": None if keys_needed else names,
            "keys": state.access.mode,
            "base_urls": {whose.lower(): origin + base for whose, base, _ in _DOORS},
            "links": {"models": "/v1/models", "metrics": "/metrics", "live": "/health/live", "ready": "/health/ready"},
        }
        await respond(request, 200, msgspec.json.encode(facts), headers=_HEADERS)
        return
    page = _PAGE.substitute(
        base_url=escape(base_url),
        doors="\n".join(
            f"<tr><td>{whose}</td><td><code>{escape(origin + base)}</code></td><td>{_codes(paths)}</td></tr>"
            for whose, base, paths in _DOORS
        ),
        model=escape(names[0] if names else "MODEL"),
        shell_key="$COUNTERFOIL_KEY" if keys_needed else "any",
        key="YOUR-GATEWAY-KEY" if keys_needed else "any",
        models=_list(names, keys_needed=keys_needed),
        ready=_ready(gateway, state),
    )
    await respond(request, 200, page.encode(), "text/html; charset=utf-8", _HEADERS)


def _codes(paths: tuple[str, ...]) -> str:
    return " ".join(f"<code>{escape(path)}</code>" for path in paths)


def _host(request: Request) -> str:
    """The address the reader used, so that the snippets work where they are pasted."""
    host = request.header(b"host")
    if host and all(letter.isalnum() or letter in ".-:[]_" for letter in host):
        return host
    server = request.scope.get("server") or ("127.0.0.1", 4000)
    return f"{server[0]}:{server[1]}"


def _wants_json(accept: str) -> bool:
    accept = accept.lower()
    return "application/json" in accept and "text/html" not in accept


def _list(names: tuple[str, ...], *, keys_needed: bool) -> str:
    if keys_needed:
        return "<p>This gateway needs a key. <code>GET /v1/models</code> with your key lists the models.</p>"
    if not names:
        return _NO_MODELS
    more = f"<li>and {len(names) - _SHOWN} more</li>" if len(names) > _SHOWN else ""
    return "<ul>" + "".join(f"<li><code>{escape(name)}</code></li>" for name in names[:_SHOWN]) + more + "</ul>"


def _ready(gateway: Gateway, state: State) -> str:
    if gateway.draining:
        return "shutting down"
    return "ready" if state.health().ok else "not ready: the books cannot be written"
