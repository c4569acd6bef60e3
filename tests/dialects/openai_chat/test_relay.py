"""A chat provider's stream reaches a chat client unchanged but for the repair table, and counts once for everybody."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    ReplyFailed,
    ReplyStarted,
    ToolArgumentsDelta,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.openai_chat.repairs import REPAIRS
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.openai_chat.splice import HELD_LIMIT
from counterfoil.dialects.openai_chat.usage import CONVENTION
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.testing.chat import CHAT_SHAPES, ChatReply, ChatShape, Tool
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import settle
from counterfoil.usage.usage import Bucket, Usage
from tests import wire
from tests.dialects.readers import CHAT_READERS, Counted, chunks_of, text_of

LIMIT = 1 << 24
SETTLED = FinalUsage(Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 5}))
UNKNOWN = FinalUsage(None)


def facts(*, asked: bool = True, model: str = "public", streamed: bool = True, choices: int = 1) -> ReplyFacts:
    return ReplyFacts("chatcmpl-ours", 1700000000, model, streamed, asked, choices)


class Relayed(msgspec.Struct, frozen=True):
    """What came out, what the decoder made of what went in, and the numbers that were settled."""

    out: bytes
    events: list[Event]
    final: FinalUsage


def relay(
    data: bytes,
    about: ReplyFacts,
    quirks: Quirks | None = None,
    *,
    shortcuts: bool = True,
    final: FinalUsage | None = None,
) -> Relayed:
    """A whole stream through framing, decoder, relay and settlement, as an attempt does it."""
    quirks = quirks or Quirks()
    framing, decoder = SseFraming(LIMIT), ChatDecoder(True, about.choices, quirks)
    carrier = ChatRelay(about, quirks, shortcuts=shortcuts)
    frames = framing.feed(data)
    rest = framing.close()
    out, events, reading = b"", list[Event](), NO_READING
    for frame in [*frames, *([rest] if rest else [])]:
        said = decoder.feed(frame)
        events += said
        out += carrier.carry(frame, said)
    events += decoder.close()
    for event in events:
        if isinstance(event, UsageReported):
            reading = reading.join(event.report)
        if isinstance(event, ReplyFailed):
            return Relayed(out + carrier.fail(event.failure), events, UNKNOWN)
    if final is None:
        usage = settle(reading, CONVENTION, ended=True).usage if reading.reports else None
        final = FinalUsage(usage, provider_raw=reading.raw[-1] if reading.raw else b"")
    return Relayed(out + carrier.close(final), events, final)


def stream_of(plan: ChatReply) -> bytes:
    return b"".join(step.data for step in plan.script().steps if hasattr(step, "data"))


def frames_of(*chunks: str | Mapping[str, Any]) -> bytes:
    return b"".join(
        b"data: " + (chunk if isinstance(chunk, str) else json.dumps(chunk)).encode() + b"\n\n" for chunk in chunks
    )


def chunk(*choices: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "public"}
    return {**head, "choices": list(choices), **more}


def choice(delta: Mapping[str, Any] | None = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": dict(delta or {}), "finish_reason": finish}


def tool(index: int | None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    at = {} if index is None else {"index": index}
    function = {key: more.pop(key) for key in ("name",) if key in more}
    return {**at, **more, "function": {**function, **({} if arguments is None else {"arguments": arguments})}}


ROLE = choice({"role": "assistant", "content": ""})
TEXT = choice({"content": "tide"})
STOP = choice({}, "stop")
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

# --- every shape, every reader -------------------------------------------------------------------------------------

ODDITIES: Mapping[str, ChatReply] = {
    "plain": ChatReply(),
    "role missing": ChatReply(role="missing"),
    "role every": ChatReply(role="every"),
    "finish twice": ChatReply(finish_times=2),
    "crlf, comments, no end mark": ChatReply(crlf=True, comments=True, done=False),
    "azure": ChatReply(azure=True),
    "two choices": ChatReply(n=2),
    "tools without index": ChatReply(tools=(Tool("tide", '{"port": 4}'), Tool("boats")), tool_deltas="no_index"),
    "tools with repeated id": ChatReply(tools=(Tool("tide", '{"port": 4}'), Tool("boats")), tool_deltas="repeated_id"),
    "parts, reasoning, padding": ChatReply(parts=True, reasoning="Low or high?", obfuscation=True, logprobs=True),
    "everything odd": ChatReply(azure=True, role="every", finish_times=2, crlf=True, comments=True, done=False, n=2),
}


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_every_reader_counts_the_settled_numbers_exactly_once(shape: ChatShape, oddity: str, asked: bool) -> None:
    plan = dataclasses.replace(ODDITIES[oddity], shape=shape)
    quirks = Quirks(usage_per_choice=shape == "per_choice" and plan.n > 1)
    relayed = relay(stream_of(plan), facts(asked=asked, choices=plan.n), quirks)
    chunks = chunks_of(relayed.out)
    usage = relayed.final.usage
    assert relayed.out.endswith(b"data: [DONE]\n\n")
    assert {key: text for key, text in text_of(chunks).items() if text} == text_of(chunks_of_provider(stream_of(plan)))
    assert (usage is None) == (shape == "absent")
    told = asked and usage is not None
    expected = Counted(usage.input_tokens, usage.output_tokens) if told and usage is not None else Counted(None, None)
    assert {name: reader(chunks, asked) for name, reader in CHAT_READERS.items()} == dict.fromkeys(
        CHAT_READERS, expected
    )
    keys = ["usage" in said for said in chunks]
    assert all(keys) if asked else not any(keys)
    assert all(said["usage"] is None for said in chunks[:-1]) if asked else True


def chunks_of_provider(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream as a provider sends it."""
    payloads = [frame.data for frame in SseFraming(LIMIT).feed(data) if frame.data]
    return [json.loads(payload) for payload in payloads if payload.strip() != b"[DONE]"]


@pytest.mark.parametrize("oddity", ODDITIES)
def test_the_official_helper_builds_one_message_of_it(oddity: str) -> None:
    # Mistral's lists of parts are carried as they are; the helper reads text only.
    plan = dataclasses.replace(ODDITIES[oddity], parts=False)
    relayed = relay(stream_of(plan), facts(choices=plan.n))
    state = ChatCompletionStreamState()
    for said in chunks_of(relayed.out):
        state.handle_chunk(ChatCompletionChunk.model_validate(said))
    built = state.current_completion_snapshot
    assert built.usage is not None
    assert relayed.final.usage is not None
    assert built.usage.completion_tokens == relayed.final.usage.output_tokens
    for made in built.choices:
        assert made.message.role == "assistant"
        names = [(call.id, call.function.name) for call in made.message.tool_calls or []]
        assert names == [(f"call_play{at}", tool.name) for at, tool in enumerate(plan.tools)]


# --- the table, row by row -------------------------------------------------------------------------------------------


class Case(msgspec.Struct, frozen=True):
    """Chunks in, chunks out (usage not asked for unless said), and the row that is at work."""

    row: str
    given: tuple[Any, ...]
    wanted: tuple[Any, ...]
    asked: bool = False
    quirks: Quirks = Quirks()
    final: FinalUsage = SETTLED


def usage_frame(**more: Any) -> dict[str, Any]:
    return chunk(usage=USAGE, **more)


LAST = usage_frame()
CASES: Mapping[str, Case] = {
    "a choice without index": Case(
        "choice index", (chunk({"delta": ROLE["delta"], "finish_reason": None}),), (chunk({**ROLE, "index": 0}),)
    ),
    "delta null": Case(
        "delta",
        (chunk(ROLE), chunk({"index": 0, "delta": None, "finish_reason": "stop"})),
        (chunk(ROLE), chunk(STOP)),
    ),
    "delta missing beside a message": Case(
        "delta",
        (chunk({"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}),),
        (
            chunk(
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "a"},
                    "finish_reason": "stop",
                    "delta": {"role": "assistant", "content": "a"},
                }
            ),
        ),
    ),
    "a message that repeats the deltas": Case(
        "delta",
        (
            chunk(ROLE),
            chunk(TEXT),
            chunk(
                {"index": 0, "message": {"role": "assistant", "content": "tide"}, "finish_reason": "stop"},
                object="chat.completion",
            ),
        ),
        (chunk(ROLE), chunk(TEXT), chunk({"index": 0, "finish_reason": "stop", "delta": {}})),
    ),
    "role missing in each choice": Case(
        "role",
        (chunk(TEXT), chunk({**TEXT, "index": 1}), chunk(TEXT)),
        (
            chunk(choice({"role": "assistant", "content": "tide"})),
            chunk(choice({"role": "assistant", "content": "tide"}, index=1)),
            chunk(TEXT),
        ),
    ),
    "role null": Case("role", (chunk(choice({"role": None})),), (chunk(choice({"role": "assistant"})),)),
    "role in every delta": Case(
        "role repeated",
        (chunk(ROLE), chunk(choice({"role": "assistant", "content": "a"}))),
        (chunk(ROLE), chunk(choice({"content": "a"}))),
    ),
    "no finish key": Case("finish key", (chunk({"index": 0, "delta": ROLE["delta"]}),), (chunk(ROLE),)),
    "finish empty": Case("finish key", (chunk({**ROLE, "finish_reason": ""}),), (chunk(ROLE),)),
    "second finish beside something": Case(
        "finish repeated",
        (chunk(ROLE), chunk(STOP), chunk(choice({"content": "late"}, "stop"))),
        (chunk(ROLE), chunk(STOP), chunk(choice({"content": "late"}))),
    ),
    "second finish beside nothing": Case(
        "usage beside choices", (chunk(ROLE), chunk(STOP), chunk(STOP)), (chunk(ROLE), chunk(STOP))
    ),
    "usage beside a choice that says nothing": Case(
        "usage beside choices",
        (chunk(ROLE), chunk(STOP), {**chunk(ROLE), "usage": {"prompt_tokens": 1}, "service_tier": "flex"}),
        (chunk(ROLE, usage=None), chunk(STOP, usage=None), usage_frame(service_tier="flex")),
        asked=True,
    ),
    "no index on tool deltas": Case(
        "tool index",
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(None, "{}", id="a", name="x")]})),
            chunk(choice({"tool_calls": [tool(None, '{"p"', id="b", name="y")]})),
            chunk(choice({"tool_calls": [tool(None, ":1}")]})),
        ),
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(0, "{}", id="a", name="x")]})),
            chunk(choice({"tool_calls": [tool(1, '{"p"', id="b", name="y")]})),
            chunk(choice({"tool_calls": [tool(1, ":1}")]})),
        ),
    ),
    "two calls under one index": Case(
        "tool index",
        (
            chunk(
                choice(
                    {
                        "role": "assistant",
                        "tool_calls": [tool(0, "{}", id="a", name="x"), tool(0, "{}", id="b", name="x")],
                    }
                )
            ),
        ),
        (
            chunk(
                choice(
                    {
                        "role": "assistant",
                        "tool_calls": [tool(0, "{}", id="a", name="x"), tool(1, "{}", id="b", name="x")],
                    }
                )
            ),
        ),
    ),
    "id and name in every tool delta": Case(
        "tool id and name",
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(0, "{", id="a", name="x", type="function")]})),
            chunk(choice({"tool_calls": [tool(0, "}", id="a", name="x")]})),
            chunk(choice({"tool_calls": [tool(0, "", id="new each time")]})),
        ),
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(0, "{", id="a", name="x", type="function")]})),
            chunk(choice({"tool_calls": [tool(0, "}")]})),
            chunk(choice({"tool_calls": [tool(0, "")]})),
        ),
    ),
    "arguments as an object, and null": Case(
        "arguments",
        (
            json.dumps(
                chunk(choice({"role": "assistant", "tool_calls": [tool(0, "OBJECT", id="a", name="x")]}))
            ).replace('"OBJECT"', '{"depth":1.0}'),
            chunk(choice({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "y", "arguments": None}}]})),
        ),
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(0, '{"depth":1.0}', id="a", name="x")]})),
            chunk(choice({"tool_calls": [tool(1, "", id="b", name="y")]})),
        ),
    ),
    "an error beside choices": Case(
        "error beside choices",
        (chunk(ROLE), chunk(TEXT, error={"code": 400, "message": "Enough."})),
        (chunk(ROLE), chunk(TEXT), {"error": ...}),
    ),
    "usage inside x_groq": Case(
        "x_groq.usage",
        (
            chunk(ROLE, x_groq={"id": "r"}),
            chunk(STOP, x_groq={"id": "r", "usage": USAGE}),
            chunk(x_groq={"usage": USAGE}),
        ),
        (chunk(ROLE, x_groq={"id": "r"}), chunk(STOP, x_groq={"id": "r"})),
    ),
    "azure's head": Case(
        "frame without choices, unpacked",
        (
            {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [1]},
            chunk(ROLE, usage=None),
            chunk(STOP, usage=None),
            chunk(usage=USAGE, latency_checkpoint={"a": 1}),
        ),
        (
            {"prompt_filter_results": [1], **chunk(ROLE, usage=None)},
            chunk(STOP, usage=None),
            usage_frame(latency_checkpoint={"a": 1}),
        ),
        asked=True,
    ),
    "choices null and choices missing": Case(
        "frame without choices",
        (chunk(ROLE), {**chunk(), "choices": None}, {"id": "chatcmpl-1", "model": "m", "note": "kept"}, chunk(STOP)),
        (chunk(ROLE), {"note": "kept", **chunk(STOP)}),
    ),
    "usage of one choice before the other has finished": Case(
        "frame without choices",
        (
            chunk(ROLE, {**ROLE, "index": 1}),
            chunk(STOP),
            chunk(usage=USAGE, timings={"n": 1}),
            chunk({**STOP, "index": 1}),
            chunk(usage=USAGE, timings={"n": 2}),
        ),
        (
            chunk(ROLE, {**ROLE, "index": 1}, usage=None),
            chunk(STOP, usage=None),
            chunk({**STOP, "index": 1}, usage=None),
            usage_frame(timings={"n": 2}),
        ),
        asked=True,
    ),
    "usage on every frame, not asked": Case(
        "usage key", (chunk(ROLE, usage=USAGE), chunk(STOP, usage=USAGE)), (chunk(ROLE), chunk(STOP))
    ),
    "usage on the finish frame": Case(
        "usage key",
        (chunk(ROLE), chunk(STOP, usage=USAGE, system_fingerprint="fp")),
        (
            chunk(ROLE, usage=None),
            chunk(STOP, usage=None, system_fingerprint="fp"),
            usage_frame(system_fingerprint="fp"),
        ),
        asked=True,
    ),
    "id, time and model change": Case(
        "one identity",
        (
            chunk(ROLE, model="inner", object="chat.completion"),
            {**chunk(TEXT), "id": "gen-2", "created": 9, "model": "inner"},
            {"choices": [STOP]},
        ),
        (chunk(ROLE), chunk(TEXT), chunk(STOP)),
    ),
    "id empty and time zero": Case(
        "one identity",
        ({**chunk(ROLE), "id": "", "created": 0}, {**chunk(STOP), "id": "late"}),
        (
            {**chunk(ROLE), "id": "chatcmpl-ours", "created": 1700000000},
            {**chunk(STOP), "id": "chatcmpl-ours", "created": 1700000000},
        ),
    ),
    "never a finish": Case(
        "finish supplied",
        (chunk(ROLE), chunk(TEXT), chunk(usage=USAGE)),
        (chunk(ROLE, usage=None), chunk(TEXT, usage=None), chunk(STOP, usage=None), LAST),
        asked=True,
        quirks=Quirks(end="usage"),
    ),
    "never a finish of a tool call": Case(
        "finish supplied",
        (chunk(choice({"role": "assistant", "tool_calls": [tool(0, "{}", id="a", name="x")]})),),
        (
            chunk(choice({"role": "assistant", "tool_calls": [tool(0, "{}", id="a", name="x")]})),
            chunk(choice({}, "tool_calls")),
        ),
        quirks=Quirks(end="done"),
    ),
    "an afterword": Case(
        "afterword",
        (chunk(ROLE), chunk(STOP), chunk(note="kept")),
        (chunk(ROLE), chunk(STOP), chunk(choice(), note="kept")),
    ),
    "an afterword before the usage frame": Case(
        "usage frame",
        (chunk(ROLE), chunk(STOP), chunk(note="kept")),
        (chunk(ROLE, usage=None), chunk(STOP, usage=None), usage_frame(note="kept")),
        asked=True,
    ),
    "nobody knows": Case(
        "usage frame",
        (chunk(ROLE), chunk(STOP)),
        (chunk(ROLE, usage=None), chunk(STOP, usage=None), chunk(usage=None)),
        asked=True,
        final=UNKNOWN,
    ),
    "no end mark": Case("end mark", (chunk(ROLE), chunk(STOP)), (chunk(ROLE), chunk(STOP))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_row_mends_what_it_says_and_nothing_else(name: str) -> None:
    case = CASES[name]
    failed = case.wanted[-1] == {"error": ...}
    relayed = relay(frames_of(*case.given), facts(asked=case.asked), case.quirks, final=case.final)
    chunks = chunks_of(relayed.out)
    assert relayed.out.endswith(b"data: [DONE]\n\n") is not failed
    if failed:
        assert list(chunks.pop()) == ["error"]
        assert chunks == list(case.wanted[:-1])
    else:
        assert chunks == list(case.wanted)


def test_every_row_of_the_table_has_a_case() -> None:
    names = [row.name for row in REPAIRS]
    assert len(set(names)) == len(names)
    shown = {case.row for case in CASES.values()} | BLOCK_ROWS | WHOLE_ROWS
    assert set(names) == shown
    assert all(row.mends and row.cites for row in REPAIRS)


# --- blocks --------------------------------------------------------------------------------------------------------

BLOCK_ROWS = {"line ends", "event lines", "comments", "encoding", "empty data", "one line"}
"""`encoding` and `empty data` have their cases in tests/dialects/test_damaged.py."""
ROLE_JSON = json.dumps(chunk(ROLE)).encode()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b"data: " + ROLE_JSON + b"\r\n\r\n", b"data: " + ROLE_JSON + b"\n\n"),
        (b"event: message\ndata: " + ROLE_JSON + b"\n\n", b"data: " + ROLE_JSON + b"\n\n"),
        (b"id: 4\ndata:" + ROLE_JSON + b"\n\n", b"data: " + ROLE_JSON + b"\n\n"),
        (b": busy\ndata: " + ROLE_JSON + b"\n\n", b": busy\n\ndata: " + ROLE_JSON + b"\n\n"),
        (b": busy\r\n\r\n", b": busy\n\n"),
        (b": \n\n", b": \n\n"),
        (b": \xff\n: busy\n\n", b": busy\n\n"),
        (b"event: ping\n\n", b""),
        (
            b"data: " + ROLE_JSON.replace(b', "object"', b',\ndata: "object"') + b"\n\n",
            b"data: " + ROLE_JSON + b"\n\n",
        ),
        (b"data: [DONE]\n\n", b""),
        (b": last\ndata: [DONE]\n\n", b": last\n\n"),
        (b"data: nonsense\n\n", b""),
    ],
)
def test_a_block_is_one_data_line_or_comments(given: bytes, wanted: bytes) -> None:
    carrier, decoder = ChatRelay(facts(asked=False), Quirks()), ChatDecoder(True, 1, Quirks())
    assert b"".join(carrier.carry(frame, decoder.feed(frame)) for frame in SseFraming(LIMIT).feed(given)) == wanted


# --- what is not repaired ------------------------------------------------------------------------------------------


def test_a_stream_in_order_keeps_its_bytes() -> None:
    plan = ChatReply(
        model="public", obfuscation=True, logprobs=True, comments=True, reasoning="Hm.", tools=(Tool("x"),)
    )
    given = stream_of(plan)
    relayed = relay(given, facts())
    head, _, last = given.removesuffix(b"data: [DONE]\n\n").rstrip().rpartition(b"data: ")
    assert relayed.out.startswith(head)
    assert json.loads(last) == chunks_of(relayed.out)[-1]


@pytest.mark.parametrize("shortcuts", [True, False], ids=["shortcuts", "every row"])
@pytest.mark.parametrize("text", [b"tide", "Flut \u2248".encode(), b"\xff"])
def test_a_frame_that_lacks_only_a_member_keeps_its_bytes_before_it(text: bytes, shortcuts: bool) -> None:
    """White space, numbers as they were written, keys that nobody knows; a byte that is no text is U+FFFD."""
    begun = frames_of(chunk(choice({"role": "assistant", "content": ""}), usage=None))
    frame = json.dumps({**chunk(choice({"content": "TEXT"})), "odd": 0}).encode().replace(b"TEXT", text)
    frame = frame.replace(b'"odd": 0', b'"odd" :  1.50')
    relayed = relay(begun + b"data: " + frame + b" \n\n", facts(), shortcuts=shortcuts).out
    mended = frame.decode("utf-8", "replace").encode()
    assert mended.endswith(b"1.50}")
    assert b"data: " + mended[:-1] + b',"usage":null}\n\n' in relayed


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_shortcuts_change_no_byte(shape: ChatShape, oddity: str, asked: bool) -> None:
    plan = dataclasses.replace(ODDITIES[oddity], shape=shape)
    for model in ("public", plan.model):
        about = facts(asked=asked, choices=plan.n, model=model)
        given = stream_of(plan)
        assert relay(given, about).out == relay(given, about, shortcuts=False).out


NUMBERS = ["1.0", "1", "1e5", "-0", "0.10", "123456789012345678901234567890", "1E-7", "7228414683750928000"]
TEXTS = ['"\\u00e9\\u0000"', '"\\/"', '"é"', '"\\ud83d\\ude00"', '""', '"data: [DONE]"', '"\\"usage\\":null"']
JSON_TEXT = st.recursive(
    st.sampled_from([*NUMBERS, *TEXTS, "null", "true", "false", "[]", "{}"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{" + ",".join(f'"{key}" : {value}' for key, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["k1", "k2", "timings", "provider"]), JSON_TEXT),
    max_size=3,
    unique_by=lambda pair: pair[0],
)
RAW = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f'"{key}": {value}' for key, value in members) + "}"


def _unnamed(values: dict[str, msgspec.Raw], named: set[str]) -> list[tuple[str, bytes]]:
    return [(key, bytes(value)) for key, value in values.items() if key not in named]


TOP_NAMED = {"id", "object", "created", "model", "choices", "usage", "error"}
CHOICE_NAMED = {"index", "delta", "finish_reason"}
DELTA_NAMED = {"role", "tool_calls"}


def _seen(data: bytes) -> list[Any]:
    """Every value that no row names, as bytes and in order, frame by frame."""
    seen: list[Any] = []
    for frame in SseFraming(LIMIT).feed(data):
        if frame.data == b"[DONE]":
            continue
        top = RAW(frame.data)
        choices = [RAW(raw) for raw in msgspec.json.decode(top["choices"], type=list[msgspec.Raw])]
        inside = [(_unnamed(one, CHOICE_NAMED), _unnamed(RAW(one["delta"]), DELTA_NAMED)) for one in choices]
        seen.append((_unnamed(top, TOP_NAMED), inside))
    return seen


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(
        st.tuples(
            MEMBERS,
            MEMBERS,
            MEMBERS,
            st.sampled_from(["", '"role":"assistant",']),
            st.sampled_from(["", ',"finish_reason":null']),
        ),
        min_size=1,
        max_size=5,
    ),
    asked=st.booleans(),
    model=st.sampled_from(["public", "inner"]),
    usage=st.sampled_from(["", ',"usage":null', ',"usage":{"prompt_tokens":1.0}']),
)
def test_a_value_that_no_row_names_is_carried_byte_for_byte_and_in_order(
    frames: list[tuple[Any, ...]], asked: bool, model: str, usage: str
) -> None:
    given = b""
    for top, inside, delta, role, finish in frames:
        one = f'{{"index":0,"delta":{{{role}{_object([("content", chr(34) + "a" + chr(34)), *delta])[1:]}{finish}'
        one += "".join(f', "{key}": {value}' for key, value in inside) + "}"
        head = f'{{"id": "a","object":"chat.completion.chunk","created":5,"model":"{model}", "choices":[{one}]{usage}'
        given += ("data: " + head + "".join(f',"{key}":{value}' for key, value in top) + "}\n\n").encode()
    carrier = ChatRelay(facts(asked=asked), Quirks())
    out = b"".join(carrier.carry(frame, ()) for frame in SseFraming(LIMIT).feed(given))
    assert _seen(out) == _seen(given)


# --- the decoder agrees ----------------------------------------------------------------------------------------------


def said_in(events: list[Event]) -> list[Event]:
    """What the events say of the content. A finish that a quirk supplied has no word of the provider's."""
    kept = [event for event in events if not isinstance(event, ReplyStarted | UsageReported)]
    return [msgspec.structs.replace(event, said="") if isinstance(event, ChoiceFinished) else event for event in kept]


def calls_of(events: list[Event]) -> list[Event]:
    return [event for event in said_in(events) if not isinstance(event, ToolArgumentsDelta) or event.arguments]


@settings(max_examples=200, deadline=None)
@given(
    deltas=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([None, 0, 0, 1, 3]),
                st.sampled_from([None, "a", "b", "c"]),
                st.sampled_from([None, "x", "y"]),
                st.sampled_from([None, "", "{}", '{"p":', "1}"]),
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_tool_calls_keep_the_numbers_that_the_decoder_gives_them(deltas: list[list[tuple[Any, ...]]]) -> None:
    chunks = [chunk(ROLE)]
    for entries in deltas:
        calls = []
        for index, identity, name, arguments in entries:
            named = {key: value for key, value in (("id", identity), ("name", name)) if value is not None}
            calls.append(tool(index, arguments, **named))
        chunks.append(chunk(choice({"tool_calls": calls})))
    relayed = relay(frames_of(*chunks, chunk(choice({}, "tool_calls"))), facts(asked=False))
    again = relay(relayed.out, facts(asked=False))
    assert calls_of(again.events) == calls_of(relayed.events)
    assert again.out == relayed.out
    shortless = relay(frames_of(*chunks, chunk(choice({}, "tool_calls"))), facts(asked=False), shortcuts=False)
    assert shortless.out == relayed.out


# --- failures and whole replies --------------------------------------------------------------------------------------

FAILURE = Failure(FailureKind.PROVIDER_ERROR, "The provider broke off.", Fault.PROVIDER, 502)


def test_a_failure_is_an_error_frame_without_end_mark() -> None:
    carrier = ChatRelay(facts(), Quirks())
    out = carrier.fail(FAILURE)
    (said,) = chunks_of(out)
    assert said["error"]["message"] == FAILURE.message
    assert b"[DONE]" not in out


def test_a_failure_of_a_whole_reply_is_an_error_body() -> None:
    assert json.loads(ChatRelay(facts(streamed=False), Quirks()).fail(FAILURE))["error"]["message"] == FAILURE.message


WHOLE_ROWS = {"message role", "whole x_groq.usage", "whole usage", "whole identity"}


def whole(body: str, final: FinalUsage = SETTLED) -> bytes:
    carrier = ChatRelay(facts(streamed=False, asked=False), Quirks())
    assert carrier.carry(Frame(body.encode(), "", body.encode()), ()) == b""
    return carrier.close(final)


def test_a_whole_reply_has_the_settled_usage_and_the_clients_model_and_is_otherwise_carried() -> None:
    body = (
        '\n\n{"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"inner","cost":1.0,"choices":[{"index":0,'
        '"seed":7228414683750928000,"message":{"content":"\\u00e9","x":1e5},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":7,"completion_tokens":4,"total_tokens":11,"cost":0.10},"x_groq":{"id":"r","usage":{}}}'
    )
    final = FinalUsage(SETTLED.usage, estimated=True, provider_raw=b'{"prompt_tokens":7,"cost":0.10}')
    assert whole(body, final).decode() == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"public","cost":1.0,"choices":[{"index":0,'
        '"seed":7228414683750928000,"message":{"role":"assistant","content":"\\u00e9","x":1e5},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":7,"cost":0.10,"completion_tokens":5,"total_tokens":12,"estimated":true},'
        '"x_groq":{"id":"r"}}'
    )


def test_a_whole_reply_without_identity_gets_ours_and_without_known_usage_has_none() -> None:
    said = json.loads(whole('{"id":"","choices":[],"usage":null}', UNKNOWN))
    assert said == {
        "id": "chatcmpl-ours",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "public",
        "choices": [],
    }


def test_whole_arguments_are_text() -> None:
    message = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": {"p": 1}}}]}
    said = json.loads(whole(json.dumps({"choices": [{"index": 0, "message": message}]})))
    assert json.loads(said["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {"p": 1}


# --- recordings ------------------------------------------------------------------------------------------------------

NEVER_FINISH = {"snowflake": Quirks(end="usage"), "litellm-proxy": Quirks(end="done")}
"""Snowflake finishes no choice, LiteLLM's proxy only the first of several."""
CHATS = ("openai.chat/", "azure.chat/", "mistral.chat/")


def recorded(*, streamed: bool) -> list[Any]:
    """The replies of the chat dialect that were recorded, streamed or whole."""
    if wire.shared() is None:
        return wire.params(*CHATS)
    records = (record for record in wire.records(*CHATS) if record.response.status == 200)
    return [record.id for record in records if (b"data:" in record.response_body[:20_000]) is streamed]


@pytest.fixture(scope="session")
def validator() -> Any:
    directory = wire.shared()
    if directory is None:
        pytest.skip(wire.ABSENT)
    document = json.loads((directory / "spec" / "openai.json").read_text())

    def plain(node: Any) -> Any:
        """OpenAPI's `nullable` in the words of JSON Schema."""
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        made = {key: plain(value) for key, value in node.items() if key != "nullable"}
        return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made

    reference = {"$ref": "#/components/schemas/CreateChatCompletionStreamResponse"}
    return jsonschema.Draft202012Validator({**reference, "components": plain(document["components"])})


def _complaints(validator: Any, chunks: list[dict[str, Any]]) -> set[str]:
    return {
        "/".join("*" if isinstance(step, int) else step for step in error.absolute_path) + ":" + error.validator
        for said in chunks
        for error in validator.iter_errors(said)
    }


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("name", recorded(streamed=True))
def test_a_recorded_stream_comes_out_whole_valid_and_counted_once(name: str, asked: bool, validator: Any) -> None:
    record = wire.read(name)
    given = record.response_body
    numbers = {one.get("index", 0) for said in chunks_of_provider(given) for one in said.get("choices") or []}
    quirks = NEVER_FINISH.get(record.provider, Quirks())
    about = facts(asked=asked, choices=len(numbers) or 1)
    relayed = relay(given, about, quirks)
    chunks = chunks_of(relayed.out)
    theirs = [said for said in chunks_of_provider(given) if said.get("choices")]
    assert relayed.out == relay(given, about, quirks, shortcuts=False).out
    assert text_of(chunks) == text_of(theirs)
    if any(isinstance(event, ReplyFailed) for event in relayed.events):
        assert list(chunks[-1]) == ["error"]
        assert b"[DONE]" not in relayed.out
        return
    usage = relayed.final.usage
    told = asked and usage is not None
    assert sum(bool(said.get("usage")) for said in chunks) == told
    expected = Counted(usage.input_tokens, usage.output_tokens) if told and usage is not None else Counted(None, None)
    assert {key: read(chunks, asked) for key, read in CHAT_READERS.items()} == dict.fromkeys(CHAT_READERS, expected)
    assert {(said["id"], said["created"], said["model"], said["object"]) for said in chunks} == {
        (chunks[0]["id"], chunks[0]["created"], "public", "chat.completion.chunk")
    }
    again = relay(relayed.out, about)
    assert said_in(again.events) == said_in(relayed.events)
    assert again.out == relayed.out
    new = _complaints(validator, chunks) - _complaints(validator, chunks_of_provider(given))
    assert not new


@pytest.mark.parametrize("name", recorded(streamed=False))
def test_a_recorded_whole_reply_is_carried_but_for_its_usage_and_the_models_name(name: str) -> None:
    given = wire.read(name).response_body
    decoder, carrier = ChatDecoder(False, 1, Quirks()), ChatRelay(facts(streamed=False), Quirks())
    frame = Frame(given, "", given)
    assert carrier.carry(frame, decoder.feed(frame)) == b""
    said, was = json.loads(carrier.close(SETTLED)), json.loads(given)
    assert said.pop("usage") == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert said.pop("model") == "public"
    assert said["id"]
    for key in ("usage", "model", "created", "object"):
        was.pop(key, None)
        said.pop(key, None)
    if not was.get("id"):
        was["id"] = said["id"]
    assert said == was


def test_what_is_held_back_for_a_later_frame_has_a_limit() -> None:
    carrier = ChatRelay(facts(), Quirks())
    long = "x" * 400_000
    for number in range(9):
        (frame,) = SseFraming(LIMIT).feed(frames_of(chunk(**{f"note{number}": long})))
        assert carrier.carry(frame, ()) == b""
    assert 800_000 < len(carrier.close(SETTLED)) < HELD_LIMIT + 1_000
