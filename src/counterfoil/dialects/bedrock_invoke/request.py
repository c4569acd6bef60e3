"""A canonical request as a model's own body. Only Claude's and Nova's are written: Converse speaks for all others.

Rule 1: Claude's body is its own dialect's, without the model and the stream, which are in the path.
Rule 2: what Bedrock's edition of a body lacks is refused, dropped by name, or, where it asks nothing, named.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html,
https://docs.aws.amazon.com/nova/latest/userguide/complete-request-schema.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import File, Image, Message, Part, ToolResult
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.anthropic_messages.request_write import write_request as write_messages
from counterfoil.dialects.bedrock_converse.request import write_request as write_converse
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.schema import encode, fields_of, given

__all__ = ["write_request"]

_VERSION: Final = "bedrock-2023-05-31"
_NOT_IN_THE_BODY: Final = frozenset({"anthropic_version", "model", "stream"})
_ASKS_NOTHING: Final = ("metadata.user_id", "safety_identifier")
_USUAL_TIERS: Final = frozenset({None, "auto", "default", "standard_only"})
_NOVA_FIELDS: Final = frozenset({"messages", "system", "inferenceConfig", "toolConfig"})
_EXTRA: Final = "additionalModelRequestFields"


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    for name, write in _WRITERS.items():
        if name in model:
            return write(request, model, quirks, drop)
    raise RequestError(
        f"Over Bedrock's invoke only bodies of Claude and Nova are written, and {model!r} does not name one. "
        "Leave out `dialect` on the deployment: Converse speaks for every model.",
        param="model",
        code="operation_not_supported",
    )


def _claude(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    desk = Desk(drop)
    if request.user is not None:
        desk.name("user")
    for name in _ASKS_NOTHING:
        if name in request.rest:
            desk.name(name)
    if request.service_tier not in _USUAL_TIERS:
        desk.cannot("service_tier", "Bedrock's invoke has it in a header; Converse can carry it")
    request = msgspec.structs.replace(
        request,
        messages=tuple(_sendable(message, desk) for message in request.messages),
        user=None,
        service_tier=None,
        rest={name: value for name, value in request.rest.items() if name not in _ASKS_NOTHING},
    )
    written = write_messages(request, model, quirks, drop)
    fields = {name: raw for name, raw in fields_of(written.body).items() if name not in _NOT_IN_THE_BODY}
    dropped = tuple(dict.fromkeys(desk.dropped + written.dropped))
    return WrittenRequest(encode({"anthropic_version": _VERSION, **fields}), dropped)


def _sendable(message: Message, desk: Desk) -> Message:
    parts = tuple(part for part in (_brought(part, desk) for part in message.parts) if part is not None)
    return msgspec.structs.replace(message, parts=parts)


def _brought(part: Part, desk: Desk) -> Part | None:
    """A part, where its content is in it (recorded: "URL sources are not supported")."""
    if isinstance(part, ToolResult):
        inner = tuple(found for found in (_brought(one, desk) for one in part.parts) if found is not None)
        return msgspec.structs.replace(part, parts=inner)
    if isinstance(part, Image | File):
        what = "image" if isinstance(part, Image) else "file"
        why = f"Bedrock fetches nothing from the web and keeps no files; send the {what} as base64"
        if part.file_id is not None:
            desk.cannot("messages.file_id", why)
            return None
        if part.url is not None and not part.url.startswith("data:"):
            desk.cannot(f"messages.{what}_url", why)
            return None
    return part


def _nova(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """Converse's body with the maker's own fields at their places in it."""
    desk = Desk(drop)
    written = write_converse(request, model, quirks, drop)
    fields = fields_of(written.body)
    extra = fields_of(fields.pop(_EXTRA)) if _EXTRA in fields else {}
    for name in [name for name in fields if name not in _NOVA_FIELDS]:
        desk.cannot(_CLIENT_NAMES.get(name, name), "Nova's own body has no such field; Converse can carry it")
        del fields[name]
    for name, raw in extra.items():
        fields[name] = _joined(fields.get(name), raw)
    dropped = tuple(dict.fromkeys(written.dropped + desk.dropped))
    return WrittenRequest(encode({"schemaVersion": "messages-v1", **fields}), dropped)


_CLIENT_NAMES: Final[Mapping[str, str]] = {"outputConfig": "response_format", "serviceTier": "service_tier"}


def _joined(before: msgspec.Raw | None, more: msgspec.Raw) -> msgspec.Raw:
    """One object of both, where both are objects; else the later one."""
    if before is None or not given(before) or bytes(before)[:1] != b"{" or bytes(more)[:1] != b"{":
        return more
    return msgspec.Raw(encode({**fields_of(before), **fields_of(more)}))


_WRITERS: Final[Mapping[str, Callable[[ChatRequest, str, Quirks, bool], WrittenRequest]]] = {
    "anthropic.claude": _claude,
    "amazon.nova": _nova,
}
