"""What is mended in a chat provider's reply before a chat client reads it: the repair table.

Rule 1: the tables are the law. A JSON value that no row names is carried as it came, byte for byte and in order.
Rule 2: every row cites the fact that asks for it: WIRE.md, or a folder of recorded cases.
Rule 3: a row that finds nothing to mend touches nothing, so that a frame in order keeps its bytes.
Rule 4: nothing here knows who the provider is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from counterfoil.dialects.openai_chat.endings import END_REPAIRS
from counterfoil.dialects.openai_chat.splice import (
    ASSISTANT,
    EMPTY,
    NO_CHOICES,
    NULL,
    CallWork,
    ChoiceWork,
    FrameWork,
    Progress,
    Repair,
    has_object,
    is_empty,
    members_of,
    opened_by,
)
from counterfoil.dialects.schema import Fields, encode, text_of
from counterfoil.framing.sse import is_text

__all__ = [
    "BLOCK_REPAIRS",
    "CALL_REPAIRS",
    "CHOICE_REPAIRS",
    "FRAME_REPAIRS",
    "MEMBER_REPAIRS",
    "REPAIRS",
    "WHOLE_CALL_REPAIRS",
    "WHOLE_CHOICE_REPAIRS",
    "WHOLE_REPAIRS",
    "Block",
]

_BESIDE: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})
"""Members that belong to the frame they are in: they say nothing when the frame itself is not carried."""
_SAYS_NOTHING: Final = frozenset({"index", "finish_reason", "native_finish_reason", "delta"})
"""Members of a choice that say nothing once it has finished."""
_NOTE_OF_REPLY: Final = ("service_tier", "system_fingerprint")
"""Members of a frame that speak of the reply, for a usage frame that we write from nothing."""


class Block:
    """What is written for one frame: comment lines, and one line of data. A new one holds nothing yet."""

    __slots__ = ("comments", "data", "raw")

    def __init__(self, raw: bytes, data: bytes) -> None:
        self.raw = raw
        self.data = data
        self.comments: list[bytes] = []

    def written(self) -> bytes:
        """Blocks of their own for comments and data, LF line ends, no other lines."""
        said = b"".join([line + b"\n" for line in self.comments]) + b"\n" if self.comments else b""
        return said + b"data: " + self.data + b"\n\n" if self.data else said


# --- Blocks: what is not JSON ------------------------------------------------------------------------------------


def _comments(block: Block, progress: Progress) -> None:
    if b":" in block.raw:
        block.comments = [line for line in block.raw.splitlines() if line[:1] == b":" and is_text(line)]


def _one_line(block: Block, progress: Progress) -> None:
    if b"\n" in block.data:
        # A line end is white space in JSON; inside a string it cannot stand.
        block.data = block.data.replace(b"\n", b" ")


def _written_anew(block: Block, progress: Progress) -> None:
    """Mended by writing: `Block.written` knows no other line end and no other line."""


BLOCK_REPAIRS: Final[tuple[Repair[Block], ...]] = (
    Repair("line ends", "CR LF and CR become LF", "WIRE.md 2 (CRLF), 3; openai.chat/perplexity", _written_anew),
    Repair("event lines", "`event:` and other lines are left out", "WIRE.md 2 (event names), 3; groq", _written_anew),
    Repair(
        "comments",
        "a comment inside a frame becomes a block of its own before it",
        "WIRE.md 3 (Dify loses usage otherwise); openai.chat/openrouter",
        _comments,
    ),
    Repair(
        "encoding",
        "in a frame that is mended, bytes that are not UTF-8 become U+FFFD; a comment of such bytes is left out",
        "WHATWG event stream (never seen; the client would read them so)",
        _written_anew,
    ),
    Repair(
        "empty data", "a `data:` line without a value is left out", "clients read it as JSON and crash", _written_anew
    ),
    Repair("one line", "data over several lines becomes one", "WIRE.md 2 (never seen; allowed by SSE)", _one_line),
)


# --- Choices -----------------------------------------------------------------------------------------------------


def _choice_index(choice: ChoiceWork, progress: Progress) -> None:
    if is_empty(choice.values.get("index")):
        choice.put("index", msgspec.Raw(encode(choice.number)))


def _delta_missing(choice: ChoiceWork, progress: Progress) -> None:
    if choice.part is None and is_empty(choice.values.get("delta")):
        choice.put_part((members_of(choice.values, "message") or {}) if choice.number in progress.news else {})
        if choice.number not in progress.news:
            choice.drop("message")


def _role(choice: ChoiceWork, progress: Progress) -> None:
    if choice.part is None or choice.number in progress.begun:
        return
    if is_empty(choice.part.get("role")):
        choice.put_part(opened_by("role", ASSISTANT, choice.part))


def _role_repeated(choice: ChoiceWork, progress: Progress) -> None:
    if choice.part is not None and choice.number in progress.begun and text_of(choice.part.get("role")):
        choice.put_part({key: value for key, value in choice.part.items() if key != "role"})


def _finish_missing(choice: ChoiceWork, progress: Progress) -> None:
    said = choice.values.get("finish_reason")
    if said is None or (bytes(said) != b"null" and not text_of(said)):
        choice.put("finish_reason", NULL)


def _finish_repeated(choice: ChoiceWork, progress: Progress) -> None:
    if choice.number in progress.finished and bytes(choice.values["finish_reason"]) != b"null":
        choice.put("finish_reason", NULL)


CHOICE_REPAIRS: Final[tuple[Repair[ChoiceWork], ...]] = (
    Repair("choice index", "a choice without index is the first", "published schema (required)", _choice_index),
    Repair(
        "delta",
        "a missing or null `delta` becomes the choice's `message`; a `message` that repeats the deltas is left out",
        "published schema (required); GCWing/OpenBitFun#792 (MiniMax ends with the whole message)",
        _delta_missing,
    ),
    Repair(
        "role",
        "the first frame of each choice says its role",
        "WIRE.md 3 (openai-node crashes, LangChain.js counts nothing); openai.chat/cloudflare, litellm-proxy",
        _role,
    ),
    Repair(
        "role repeated",
        "only the first frame of a choice says its role",
        "WIRE.md 2; the openai helpers join strings of deltas (`assistantassistant`); openai.chat/openrouter, zai",
        _role_repeated,
    ),
    Repair(
        "finish key",
        "a choice without `finish_reason`, or with an empty one, says null",
        "published schema (required); openai.chat/xai, zai, cloudflare, cerebras",
        _finish_missing,
    ),
    Repair(
        "finish repeated",
        "a choice finishes once; a later finish becomes null",
        "WIRE.md 2 (finish_reason twice), 3; openai.chat/openrouter, avian, together",
        _finish_repeated,
    ),
)


# --- Tool deltas -------------------------------------------------------------------------------------------------


def _call_index(delta: CallWork, progress: Progress) -> None:
    if delta.said_index() != delta.call.index:
        delta.put(opened_by("index", msgspec.Raw(encode(delta.call.index)), delta.values))


def _call_identity(delta: CallWork, progress: Progress) -> None:
    identity, name, call = text_of(delta.values.get("id")), delta.name(), delta.call
    if identity and call.id_told:
        delta.put({key: value for key, value in delta.values.items() if key != "id"})
    if name and call.name_told and delta.function is not None:
        delta.put_function({key: value for key, value in delta.function.items() if key != "name"})
    call.id_told, call.name_told = call.id_told or bool(identity), call.name_told or bool(name)


def _arguments(delta: CallWork, progress: Progress) -> None:
    said = delta.function.get("arguments") if delta.function else None
    if delta.function is None or said is None or bytes(said)[:1] == b'"':
        return
    text = "" if bytes(said) == b"null" else bytes(said).decode("utf-8", "replace")
    delta.put_function({**delta.function, "arguments": msgspec.Raw(encode(text))})


_ARGUMENTS: Final[Repair[CallWork]] = Repair(
    "arguments",
    "arguments that are a JSON value become its text; null becomes the empty text",
    "published schema (string); openai.chat/writer, openrouter",
    _arguments,
)
CALL_REPAIRS: Final[tuple[Repair[CallWork], ...]] = (
    Repair(
        "tool index",
        "a tool delta without index, or with one that another call has, gets its call's own",
        "WIRE.md 3 (two calls never share an index); mistral.chat/mistral",
        _call_index,
    ),
    Repair("tool id and name", "only the first delta of a call says its id and name", "WIRE.md 3", _call_identity),
    _ARGUMENTS,
)


# --- Frames ------------------------------------------------------------------------------------------------------


def _error(frame: FrameWork, progress: Progress) -> None:
    frame.drop("error")


def _x_groq(frame: FrameWork, progress: Progress) -> None:
    inside = members_of(frame.values, "x_groq")
    if inside is None or inside.pop("usage", None) is None:
        return
    if inside:
        frame.put("x_groq", msgspec.Raw(encode(inside)))
    else:
        frame.drop("x_groq")


def _spent(choice: ChoiceWork, finished: set[int]) -> bool:
    """Whether a choice had finished before this frame and says nothing more in it."""
    if choice.number not in finished:
        return False
    said = (value for key, value in choice.values.items() if key not in _SAYS_NOTHING)
    more = (value for key, value in (choice.part or {}).items() if key != "role")
    return all(bytes(value) in EMPTY for value in (*said, *more))


def _beside_spent_choice(frame: FrameWork, progress: Progress) -> None:
    if frame.choices and all(_spent(choice, frame.repeated) for choice in frame.choices):
        frame.speaks = False


def _without_choice(frame: FrameWork, progress: Progress) -> None:
    """A frame that says nothing of a choice is not carried: usage goes to our last frame, the rest to the next one."""
    if frame.speaks:
        return
    frame.held = True
    if has_object(frame.values, "usage"):
        progress.hold(progress.last, {**frame.values, "choices": NO_CHOICES, "usage": NULL})
    else:
        progress.hold(progress.pending, {key: value for key, value in frame.values.items() if key not in _BESIDE})


def _usage(frame: FrameWork, progress: Progress) -> None:
    if frame.held:
        return
    if has_object(frame.values, "usage"):
        for key in _NOTE_OF_REPLY:
            if not is_empty(frame.values.get(key)):
                progress.hold(progress.last, {key: frame.values[key]})
    if not progress.facts.usage_asked:
        frame.drop("usage")
    elif (said := frame.values.get("usage")) is None or bytes(said) != b"null":
        frame.put("usage", NULL)


def _identity(frame: FrameWork, progress: Progress) -> None:
    if frame.held:
        return
    progress.identify(frame.values)
    for key, value in progress.identity_said:
        said = frame.values.get(key)
        if said is None or bytes(said) != value:
            frame.put(key, progress.identity[key])


def _pending(frame: FrameWork, progress: Progress) -> None:
    if frame.held or not progress.pending:
        return
    taken: Fields = {}
    for key, value in list(progress.pending.items()):
        said = frame.values.get(key)
        if is_empty(said):
            taken[key] = progress.release(key)
        elif said is not None and bytes(said) == bytes(value):
            progress.release(key)
    if taken:
        frame.values = {**taken, **frame.values, **taken}
        frame.changed = True


MEMBER_REPAIRS: Final[tuple[Repair[FrameWork], ...]] = (
    Repair(
        "usage key",
        "asked: `usage` is null in every frame but the last; not asked: no frame has it",
        "WIRE.md 3; openai.chat/groq, databricks, perplexity, deepseek, xai",
        _usage,
    ),
    Repair(
        "one identity",
        "`id`, `object`, `created` and `model` are the same in every frame: id and time as the provider's first frame "
        "says them, ours where it does not; the model as the client named it",
        "DESIGN 4.4.2; azure.chat/azure-openai (empty first), openai.chat/avian (two ids), perplexity (object)",
        _identity,
    ),
)
"""The rows that mend most frames of most streams."""
FRAME_REPAIRS: Final[tuple[Repair[FrameWork], ...]] = (
    Repair(
        "error beside choices",
        "what the frame's choices say is carried; the error becomes a frame of its own at the end",
        "WIRE.md 2 (errors in a 200 stream), 3; openai.chat/openrouter",
        _error,
    ),
    Repair("x_groq.usage", "the copy of the usage inside `x_groq` is left out", "WIRE.md 1 (Groq)", _x_groq),
    Repair(
        "usage beside choices",
        "a frame whose choices have all finished and say nothing more is taken for a frame without choices",
        "WIRE.md 3 (LangChain.js counts it twice); openai.chat/litellm-proxy, openrouter",
        _beside_spent_choice,
    ),
    Repair(
        "frame without choices",
        "with usage it becomes our last frame; without, its values open the next frame (`choices: []` is the mark of "
        "the usage frame, and null or missing choices crash clients)",
        "WIRE.md 1 (Azure), 2 (empty choices at start), 3 (Dify; 8 of 37 clients crash); azure.chat/azure-openai",
        _without_choice,
    ),
    *MEMBER_REPAIRS,
    Repair(
        "frame without choices, unpacked",
        "the values of a frame without choices open this one",
        "WIRE.md 2 (empty choices at start); azure.chat/azure-openai (prompt_filter_results)",
        _pending,
    ),
)


# --- Whole replies -----------------------------------------------------------------------------------------------


def _whole_role(choice: ChoiceWork, progress: Progress) -> None:
    if choice.part is not None and is_empty(choice.part.get("role")):
        choice.put_part(opened_by("role", ASSISTANT, choice.part))


def _whole_usage(frame: FrameWork, progress: Progress) -> None:
    if progress.settled is None:
        frame.drop("usage")
    else:
        frame.put("usage", progress.settled)


WHOLE_CALL_REPAIRS: Final = (_ARGUMENTS,)
WHOLE_CHOICE_REPAIRS: Final[tuple[Repair[ChoiceWork], ...]] = (
    Repair("message role", "a message without role is the assistant's", "published schema (required)", _whole_role),
)
WHOLE_REPAIRS: Final[tuple[Repair[FrameWork], ...]] = (
    Repair("whole x_groq.usage", "the copy of the usage inside `x_groq` is left out", "WIRE.md 1 (Groq)", _x_groq),
    Repair(
        "whole usage",
        "the usage object is the settled one; where nobody knows, there is none",
        "DESIGN 4.4 (the client's number is the ledger's)",
        _whole_usage,
    ),
    Repair(
        "whole identity",
        "id and time as the provider says them, ours where it does not; the model as the client named it",
        "DESIGN 4.4.2",
        _identity,
    ),
)

REPAIRS: Final[tuple[Repair[Any], ...]] = (
    *BLOCK_REPAIRS,
    *CHOICE_REPAIRS,
    *CALL_REPAIRS,
    *FRAME_REPAIRS,
    *END_REPAIRS,
    *WHOLE_CHOICE_REPAIRS,
    *WHOLE_REPAIRS,
)
"""Every row, in the order in which they are applied. The docs print it."""
