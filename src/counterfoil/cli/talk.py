"""A chat client of the standard library: enough for a person at a terminal, and no dependency.

Rule: what the gateway says is passed on, never interpreted: its errors have the words that help.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode

__all__ = ["GatewayClient", "Refused", "Reply"]

_CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 300.0
_LINE: Final = 8 << 20
_BODY: Final = 1 << 20


class Refused(Exception):
    """The gateway, or the provider behind it, answered with an error: its own words.

    `spoken`: the error came in the dialect. False: what answers there is no gateway.
    """

    def __init__(self, message: str, *, spoken: bool = True) -> None:
        super().__init__(message)
        self.spoken = spoken


class Reply:
    """A reply that streams. Iterate over its text; `usage` and `attempt` are known when it has ended."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.attempt = response.headers.get("x-counterfoil-attempt", "")
        self.usage: Mapping[str, Any] | None = None
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[str]:
        """Pieces of visible text. Raises Refused for an error frame, or a stream that was cut."""
        try:
            for line in iter(lambda: self._response.readline(_LINE), b""):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    self.ended = True
                    return
                yield from self._frame(data)
        except (OSError, http.client.HTTPException) as error:
            raise Refused(f"the connection to the gateway broke ({type(error).__name__})") from error
        raise Refused("the reply was cut")

    def _frame(self, data: bytes) -> Iterator[str]:
        frame = _object(data)
        if "error" in frame:
            raise Refused(_words(frame))
        self.usage = frame.get("usage") or self.usage
        for choice in frame.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                yield text


class GatewayClient:
    """Speaks OpenAI chat to `url` (`http://host:port/v1`), showing `key` where one is given."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise CommandError(
                f"{url!r} is not a gateway's URL.", "Write one like http://127.0.0.1:4000/v1", code=ExitCode.USAGE
            )
        self.url = url.rstrip("/")
        self._parts = parts
        self._key = key

    def models(self) -> list[str]:
        """The names it lists. Raises OSError where nobody answers, Refused where the answer is an error."""
        connection = self._connection(_CONNECT_SECONDS)
        try:
            response = self._send(connection, "GET", "/models", None)
            answer = _object(response.read(_BODY))
            if response.status != 200 or not isinstance(answer.get("data"), list):
                words = _words(answer)
                raise Refused(words or "it does not list models as a gateway does", spoken=bool(words))
            return [str(model["id"]) for model in answer["data"] if isinstance(model, dict) and "id" in model]
        finally:
            connection.close()

    def chat(self, model: str, messages: list[dict[str, str]]) -> Reply:
        """Ask for a stream. Raises OSError and Refused as `models` does."""
        connection = self._connection(_SILENCE_SECONDS)
        try:
            body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
            response = self._send(connection, "POST", "/chat/completions", msgspec.json.encode(body))
            if response.status != 200:
                raise Refused(_words(_object(response.read(_BODY))) or f"HTTP {response.status}")
        except BaseException:
            connection.close()
            raise
        return Reply(connection, response)

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=seconds)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            return connection.getresponse()
        except http.client.HTTPException as error:
            raise Refused(f"what answers there does not speak HTTP ({type(error).__name__})", spoken=False) from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else ""
