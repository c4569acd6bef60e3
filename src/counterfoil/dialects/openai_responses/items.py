"""What one item of a reply has said so far, and what it says more.

Rule 1: a text comes as deltas, again in the event that ends it, again in the whole item, and again in the whole
response. It is said once: by the first of them that has it.
Rule 2: the parts of an item are told apart by the numbers that its events give them, which need not be their places in
the whole item (openai.responses/bedrock-mantle numbers a message's only part 1).
Rule 3: an item that only this dialect knows (a built-in tool, a custom tool's call) comes out once, complete, word for
word, under its own type.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.event import (
    Event,
    LogprobsGiven,
    OpaqueGiven,
    OutputHidden,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.openai_responses.schema import Item, ItemPart, read, word_of
from counterfoil.dialects.openai_responses.thought import ORIGIN, pack
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = ["ANNOTATION", "CLIENT_CALLS", "FUNCTION_CALL", "MESSAGE", "REASONING", "ItemState"]

MESSAGE: Final = "message"
REASONING: Final = "reasoning"
FUNCTION_CALL: Final = "function_call"
ANNOTATION: Final = "annotation"

CLIENT_CALLS: Final = frozenset(
    {
        FUNCTION_CALL,
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "mcp_approval_request",
    }
)
"""Items that wait for an answer of the client's: the reply stopped for them."""

_TEXT: Final = "text"
_REFUSAL: Final = "refusal"
_THOUGHT: Final = "thought"
_SUMMARY: Final = "summary"
_NO_ARGUMENTS: Final = "{}"
_PARTS_LIMIT: Final = 1_024
"""Parts of one item. A server that begins more is not sending a reply."""
_ENTRIES: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NULL: Final = msgspec.Raw(b"null")


class ItemState:
    """One item. Every method appends to `events`; all raise `ValueError` for what no reply holds."""

    __slots__ = ("_annotations", "_proved", "_said", "argued", "call", "done", "id", "kind")

    def __init__(self, kind: str, item_id: str, call: int) -> None:
        self.kind = kind
        self.id = item_id
        self.call = call
        """The number of a function call; -1 for every other item."""
        self.argued = False
        self.done = False
        self._said: dict[str, list[int]] = {}
        """The parts of each kind that said something, by their numbers, in the order they came."""
        self._annotations = 0
        self._proved = False

    def start(self, item: Item, events: list[Event]) -> None:
        """The item begins. What it already holds is said when it is done."""
        if self.call >= 0:
            events.append(ToolCallStarted(self.call, word_of(item.call_id) or self.id, word_of(item.name)))
        elif self.kind != MESSAGE:
            events.append(OutputHidden())  # reasoning, shown as a summary, or an item that comes when whole

    def text(self, part: int, text: str, events: list[Event], *, whole: bool = False) -> None:
        """More text, or all of it."""
        if self._more(_TEXT, part, text, whole):
            events.append(TextDelta(text))

    def refusal(self, part: int, text: str, events: list[Event], *, whole: bool = False) -> None:
        if self._more(_REFUSAL, part, text, whole):
            events.append(RefusalDelta(text))

    def thought(self, part: int, text: str, events: list[Event], *, whole: bool = False) -> None:
        """Reasoning in the model's own words."""
        self._reason(_THOUGHT, part, text, events, whole)

    def summary(self, part: int, text: str, events: list[Event], *, whole: bool = False) -> None:
        """Reasoning as its maker sums it up."""
        self._reason(_SUMMARY, part, text, events, whole)

    def arguments(self, text: str, events: list[Event], *, whole: bool = False) -> None:
        if self.call < 0 or not text or (whole and self.argued):
            return
        self.argued = True
        events.append(ToolArgumentsDelta(self.call, text))

    def annotation(self, raw: msgspec.Raw, events: list[Event]) -> None:
        """A citation, said as it came up."""
        if given(raw):
            self._annotations += 1
            events.append(OpaqueGiven(ANNOTATION, msgspec.Raw(bytes(raw))))

    @staticmethod
    def logprobs(raw: msgspec.Raw, events: list[Event]) -> None:
        """Log probabilities in chat's shape, which is the one that crosses: a list of tokens under `content`."""
        if bytes(raw) in (b"", b"null", b"[]"):
            return
        entries = [_as_chat(entry) for entry in _ENTRIES.decode(raw)]
        events.append(LogprobsGiven(msgspec.Raw(encode({"content": entries, "refusal": None}))))

    def finish(self, item: Item, raw: msgspec.Raw, events: list[Event]) -> None:
        """The whole item: whatever of it has not been said."""
        if self.done:
            return
        self.done = True
        match self.kind:
            case "message":
                self._finish_message(_parts(item.content), events)
            case "reasoning":
                for kind, parts in ((_SUMMARY, _parts(item.summary)), (_THOUGHT, _parts(item.content))):
                    for place, part in self._unsaid(kind, list(enumerate(parts))):
                        self._reason(kind, place, part.text or "", events, whole=True)
                self._prove(word_of(item.encrypted_content), events)
            case "function_call":
                self.arguments(item.arguments or _NO_ARGUMENTS, events, whole=True)
            case _:
                events.append(OpaqueGiven(self.kind, msgspec.Raw(bytes(raw))))

    def close(self, events: list[Event]) -> None:
        """The reply is over: a call nobody gave arguments has none."""
        if self.call >= 0 and not self.argued:
            self.arguments(_NO_ARGUMENTS, events)

    def _finish_message(self, parts: list[ItemPart], events: list[Event]) -> None:
        texts = [(place, part) for place, part in enumerate(parts) if part.text]
        for place, part in self._unsaid(_TEXT, texts):
            self.text(place, part.text or "", events, whole=True)
            self.logprobs(part.logprobs, events)
        refusals = [(place, part) for place, part in enumerate(parts) if part.refusal]
        for place, part in self._unsaid(_REFUSAL, refusals):
            self.refusal(place, part.refusal or "", events, whole=True)
        notes = [note for part in parts for note in part.annotations or ()]
        for note in notes[self._annotations :]:
            self.annotation(note, events)

    def _unsaid(self, kind: str, parts: list[tuple[int, ItemPart]]) -> list[tuple[int, ItemPart]]:
        """The parts of a kind that no event has said, by their numbers where these are places, else by their order."""
        said = self._said.get(kind, [])
        if len(said) >= len(parts):
            return []
        places = {place for place, _ in parts}
        if places.issuperset(said):
            return [(place, part) for place, part in parts if place not in said]
        return [(-1 - place, part) for place, part in parts[len(said) :]]

    def _prove(self, encrypted: str, events: list[Event]) -> None:
        if not encrypted or self._proved:
            return
        self._proved = True
        proof = pack(self.id, encrypted)
        spoken = _THOUGHT in self._said or _SUMMARY in self._said
        events.append(ReasoningSigned(proof, origin=ORIGIN) if spoken else RedactedReasoningGiven(proof, origin=ORIGIN))

    def _reason(self, kind: str, part: int, text: str, events: list[Event], whole: bool) -> None:
        before = len(self._said.get(kind, ()))
        if not self._more(kind, part, text, whole):
            return
        if 0 < before < len(self._said[kind]):
            text = "\n\n" + text  # each part is a paragraph
        events.append(ReasoningDelta(text))

    def _more(self, kind: str, part: int, text: str, whole: bool) -> bool:
        """Whether `text` is news: a delta always, a whole text when nothing was said of its part."""
        if not text:
            return False
        said = self._said.setdefault(kind, [])
        if part in said:
            return not whole
        if len(said) >= _PARTS_LIMIT:
            raise ValueError("too many parts")
        said.append(part)
        return True


def _parts(raw: msgspec.Raw) -> list[ItemPart]:
    """The entries of a list; none of what is no list."""
    if not given(raw):
        return []
    try:
        parts = read(raw, tuple[msgspec.Raw, ...])
        if len(parts) <= _PARTS_LIMIT:  # each is looked for among those that were said
            return [read(part, ItemPart) for part in parts]
    except UNREADABLE:
        said = msgspec.json.decode(raw)
        if isinstance(said, str):
            return [ItemPart("output_text", said)]
        raise
    raise ValueError("too many parts")


def _as_chat(entry: dict[str, msgspec.Raw]) -> dict[str, object]:
    """One token's entry with the key that chat demands and a delta leaves out."""
    told: dict[str, object] = {"bytes": _NULL, **entry}
    if "top_logprobs" in entry:
        told["top_logprobs"] = [{"bytes": _NULL, **other} for other in _ENTRIES.decode(entry["top_logprobs"])]
    return told
