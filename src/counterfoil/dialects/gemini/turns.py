"""Canonical messages as `systemInstruction` and `contents`.

Rule 1: system and developer messages become the system instruction; neighbours of one role are one turn. Tools' answers
are a turn of their own, because their number must be that of the calls right before it.
Rule 2: a proof goes back only to Google, on the call or the text it came with: the next one in the turn. One that has
none after it goes on an empty text, as Google sends it.
Rule 3: where the model refuses calls without a proof (`Quirks.signed_calls`), the first call of a turn that has none
carries the stand-in that Google documents for calls of another model.

https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/gemini-api/docs/function-calling
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

import msgspec

from counterfoil.core.message import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.gemini.media import MESSAGES, PartBody, audio_part, file_part, image_part
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["CACHE_HINT", "CALL_IDS", "DIALECT", "MEDIA_IN_RESULTS", "STAND_IN", "Turns"]

DIALECT: Final = "gemini"
STAND_IN: Final = "skip_thought_signature_validator"
"""Google's documented value for a call that another model made: its FAQ on thought signatures."""
CALL_IDS: Final = "functionCall.id"
"""In `Quirks.unsupported` where calls have no id."""
MEDIA_IN_RESULTS: Final = "functionResponse.parts"
"""In `Quirks.unsupported` for models that take no media inside a tool's answer (before Gemini 3)."""
CACHE_HINT: Final = "cache_control"

_Media = Image | File | Audio


class Turns:
    """The turns of one request, in the making."""

    def __init__(self, quirks: Quirks, desk: Desk) -> None:
        self._desk = desk
        self._ids = CALL_IDS not in quirks.unsupported
        self._media = MEDIA_IN_RESULTS not in quirks.unsupported
        self._signed = quirks.signed_calls
        self._names: dict[str, str] = {}
        self._turns: list[tuple[str, list[PartBody]]] = []
        self.system: list[PartBody] = []

    @property
    def contents(self) -> list[PartBody]:
        """The entries of `contents`."""
        return [{"role": "model" if kind == "model" else "user", "parts": parts} for kind, parts in self._turns]

    def add(self, messages: Sequence[Message]) -> None:
        """Take these messages. Raises RequestError."""
        for message in messages:
            if message.name:
                self._desk.name("messages.name")
            if message.role in ("system", "developer"):
                self.system += self._instruction(message)
            elif message.role == "assistant":
                self._say("model", [*self._model(message.parts)])
            else:
                self._heard(message.parts)
        if not self._turns:
            raise self._desk.refuse(MESSAGES, "at least one message with content is required beside the system prompt")

    def _say(self, kind: str, parts: list[PartBody]) -> None:
        if not parts:
            return
        if self._turns and self._turns[-1][0] == kind:
            self._turns[-1][1].extend(parts)
        else:
            self._turns.append((kind, parts))

    def _instruction(self, message: Message) -> Iterator[PartBody]:
        for part in message.parts:
            if not isinstance(part, Text):
                self._desk.cannot(MESSAGES, "a system message can hold only text")
            elif part.text:
                yield {"text": self._hinted(part).text}

    def _hinted(self, part: Text) -> Text:
        if part.cache is not None:
            self._desk.name(CACHE_HINT)
        return part

    def _heard(self, parts: Sequence[Part]) -> None:
        """What the user and the tools say. Media that a tool's answer cannot hold follows it."""
        results = [part for part in parts if isinstance(part, ToolResult)]
        more: list[PartBody] = []
        self._say("results", [self._result(result, more) for result in results])
        others = [part for part in parts if not isinstance(part, ToolResult)]
        self._say("user", [*more, *(body for part in others if (body := self._part(part)) is not None)])

    def _model(self, parts: Sequence[Part]) -> Iterator[PartBody]:
        """What the model said, each proof where it belongs."""
        proofs: deque[str] = deque()
        called = False
        for part in parts:
            if isinstance(part, Reasoning):
                if part.origin == ORIGIN:
                    if part.text:
                        yield {"text": part.text, "thought": True}
                    if part.signature:
                        proofs.append(part.signature)
                continue
            body = self._part(part)
            if body is None:
                continue
            proof = proofs.popleft() if proofs and isinstance(part, Text | ToolCall) else None
            if proof is None and isinstance(part, ToolCall) and not called and self._signed:
                proof = STAND_IN
            called = called or isinstance(part, ToolCall)
            yield body if proof is None else {**body, "thoughtSignature": proof}
        for proof in proofs:
            yield {"text": "", "thoughtSignature": proof}

    def _part(self, part: Part) -> PartBody | None:
        """One part; None when it says nothing that can be sent."""
        match part:
            case Text():
                return {"text": self._hinted(part).text} if part.text else None
            case Refusal():
                return {"text": part.text} if part.text else None
            case Reasoning() | RedactedReasoning():
                return None
            case Image() | File() | Audio():
                return self._medium(part)
            case ToolCall():
                return self._call(part)
            case ToolResult():
                raise self._desk.refuse(MESSAGES, "only the user's side can answer a tool call")
            case Opaque():
                return self._opaque(part)
            case _:
                assert_never(part)

    def _medium(self, part: _Media) -> PartBody:
        match part:
            case Image():
                if part.cache is not None:
                    self._desk.name(CACHE_HINT)
                return image_part(part, self._desk)
            case File():
                if part.cache is not None:
                    self._desk.name(CACHE_HINT)
                return file_part(part, self._desk)
            case Audio():
                return audio_part(part)
            case _:
                assert_never(part)

    def _call(self, call: ToolCall) -> PartBody:
        if call.cache is not None:
            self._desk.name(CACHE_HINT)
        self._names[call.id] = call.name
        said = call.arguments if call.arguments.strip() else "{}"
        try:
            msgspec.json.decode(said, type=dict)
        except UNREADABLE:
            reason = f"the arguments of tool call {call.id!r} are not a JSON object"
            raise self._desk.refuse(MESSAGES, reason) from None
        named = {"id": call.id} if call.id and self._ids else {}
        return {"functionCall": {**named, "name": call.name, "args": msgspec.Raw(said.encode())}}

    def _result(self, result: ToolResult, more: list[PartBody]) -> PartBody:
        if result.cache is not None:
            self._desk.name(CACHE_HINT)
        name = self._names.get(result.call_id)
        if name is None:
            raise self._desk.refuse(MESSAGES, f"a tool's answer names a call, {result.call_id!r}, that nobody made")
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        media = [self._medium(part) for part in result.parts if isinstance(part, Image | File | Audio)]
        for part in result.parts:
            if isinstance(part, Opaque):
                self._desk.cannot(f"messages.{part.kind}", "a tool's answer can hold only text and media")
        body: PartBody = {"id": result.call_id} if result.call_id and self._ids else {}
        body |= {"name": name, "response": _response("\n".join(texts), failed=result.is_error)}
        if media and self._media:
            body["parts"] = media
        else:
            more += media
        return {"functionResponse": body}

    def _opaque(self, part: Opaque) -> PartBody | None:
        if part.dialect != DIALECT:
            self._desk.cannot(f"messages.{part.kind}", "only the provider it comes from knows this part")
            return None
        return msgspec.json.decode(part.raw, type=dict[str, msgspec.Raw])  # type: ignore[return-value]  # Raw is an object


def _response(text: str, *, failed: bool) -> object:
    """`response`, which must be an object: a tool's own, or its text under the key Google documents."""
    if failed:
        return {"error": text}
    try:
        msgspec.json.decode(text, type=dict)
    except UNREADABLE:
        return {"output": text}
    return msgspec.Raw(text.encode())
