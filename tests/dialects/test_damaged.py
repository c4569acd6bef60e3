"""Damaged replies that once broke a rule: each was found by `fuzz/decoders.py` and has a name here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from counterfoil.config import Limits
from counterfoil.core.event import Event, TextDelta, ToolArgumentsDelta
from counterfoil.dialects.dialect import Dialect, FinalUsage, Quirks, Relay, ReplyFacts
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.exchange.crossing import Crossing
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.exchange.reply import Reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket, Usage

__all__: list[str] = []

FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
FACTS = ReplyFacts("ours", 1_700_000_000, "house-model", streamed=True, usage_asked=True)
FINAL = FinalUsage(Usage({Bucket.INPUT: 3, Bucket.OUTPUT: 1}))


def relayed(stream: bytes) -> list[dict[str, Any]]:
    """The JSON of what a chat client that asked for usage is written; [DONE] is left out."""
    relay, meter = ChatRelay(FACTS, Quirks()), Meter("attempt", 3)
    reply = Reply(OPENAI_CHAT, meter, streamed=True, choices=1, quirks=Quirks(), limits=Limits())
    out = b"".join(relay.carry(frame, events) for frame, events in [*reply.feed(stream), *reply.close()])
    assert meter.failure is None
    out += relay.close(FINAL)
    blocks = [block.removeprefix(b"data: ") for block in out.split(b"\n\n") if block]
    assert blocks.pop() == b"[DONE]"
    return [msgspec.json.decode(block.decode("utf-8", "replace")) for block in blocks]


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices":[{"index":0,"delta":{"\xee":1}}]}\n\n',
        b'data: {"choices":[{"\xee":1,"delta":{}}]}\n\n',
        b'data: {"\xee":1,"choices":[{"index":0,"delta":{}}]}\n\n',
        b'data: {"id":"c","x_groq":{"\xee":1},"choices":[{"index":0,"delta":{}}]}\n\n',
    ],
    ids=["in a delta", "in a choice", "in the frame", "in x_groq"],
)
def test_a_frame_with_bytes_that_are_not_utf_8_is_mended_like_any_other(frame: bytes) -> None:
    first, *_, last = relayed(frame + FINISH + DONE)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert first["usage"] is None
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 4


def test_usage_in_a_frame_with_bytes_that_are_not_utf_8_is_not_told_twice() -> None:
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}'
    frames = relayed(FINISH + b'data: {"choices":[],"\xee":1,' + usage + b"}\n\n" + DONE)
    assert [frame["usage"] for frame in frames if frame["usage"]] == [frames[-1]["usage"]]


@pytest.mark.parametrize("empty", [b"data: \n\n", b"data:\n\n", b"event: x\ndata:\n\n"])
def test_a_frame_without_data_is_not_carried(empty: bytes) -> None:
    assert relayed(empty + FINISH + empty + DONE) == relayed(FINISH + DONE)


def test_a_time_that_no_integer_holds_is_ours_instead() -> None:
    frame = Frame(b'{"created":1' + b"0" * 6000 + b',"choices":[{"index":0,"delta":{},"finish_reason":null}]}')
    relay = ChatRelay(FACTS, Quirks())
    out = relay.carry(frame, ())
    assert msgspec.json.decode(out.removeprefix(b"data: "))["created"] == FACTS.created


def read_by(name: str, stream: bytes, dialect: Dialect[Any] = OPENAI_CHAT, *, streamed: bool = False) -> ReadReply:
    """What a client of the dialect `name` that asked for events reads of a reply."""
    client = CLIENT_DIALECTS[name]
    meter, facts = Meter("attempt", 3), ReplyFacts("ours", 1_700_000_000, "house-model", True, True)
    reply = Reply(dialect, meter, streamed=streamed, choices=1, quirks=Quirks(), limits=Limits())
    same = dialect is client and streamed
    writer: Relay = client.relay(facts, Quirks()) if same else Crossing(client.encoder(facts))
    out = b"".join(writer.carry(frame, events) for frame, events in [*reply.feed(stream), *reply.close()])
    assert meter.failure is None
    return read_reply([out + writer.close(FINAL)], client, streamed=True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("client", ["openai_chat", "openai_responses", "anthropic_messages", "gemini"])
def test_what_is_carried_on_several_lines_breaks_no_frame(client: str, end: str) -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://tides.example/", "title": "Tides"}}
    tokens = {"content": [{"token": "Noon", "logprob": -0.1, "top_logprobs": []}]}
    message = {"role": "assistant", "content": "Noon", "annotations": [note]}
    choice = {"index": 0, "message": message, "logprobs": tokens, "finish_reason": "stop"}
    body = msgspec.json.format(msgspec.json.encode({"id": "c", "choices": [choice]}), indent=2)
    read = read_by(client, body.replace(b"\n", end.encode()))
    assert read.exit is Exit.COMPLETED
    assert "".join(event.text for event in read.events if isinstance(event, TextDelta)) == "Noon"


@pytest.mark.parametrize("others", ['{"e":null}', "5", '["e"]'])
def test_log_probabilities_of_no_known_shape_stop_no_reply(others: str) -> None:
    tokens = b'{"content":[{"token":"Noon","top_logprobs":' + others.encode() + b"}]}"
    delta = b'data: {"choices":[{"index":0,"delta":{"content":"Noon"},"logprobs":' + tokens + b"}]}\n\n"
    for client in CLIENT_DIALECTS.values():
        if client.operation is OPENAI_CHAT.operation:
            assert read_by(client.name, delta + FINISH + DONE, streamed=True).exit is Exit.COMPLETED


def test_arguments_on_several_lines_do_not_break_a_frame_of_a_gemini_client() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "tide", "arguments": '{\n  "port": "north"\n}'}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    body = msgspec.json.encode({"id": "c", "object": "chat.completion", "choices": [choice]})
    read = read_by("gemini", body)
    assert read.exit is Exit.COMPLETED
    (arguments,) = [event.arguments for event in read.events if isinstance(event, ToolArgumentsDelta)]
    assert msgspec.json.decode(arguments) == {"port": "north"}


def test_a_name_that_is_not_utf_8_hides_no_finish_from_a_gemini_client() -> None:
    candidate = b'{"content":{"parts":[{"text":"Noon."}]},"finishReason":"STOP"}'
    stream = b'data: {"candidates":[' + candidate + b'],"\xe5":1}\r\n\r\n'
    read = read_by("gemini", stream, CLIENT_DIALECTS["gemini"], streamed=True)
    assert read.exit is Exit.COMPLETED


@pytest.mark.parametrize("after", [b"}]", b",", b'{"error":{}}'])
def test_what_follows_a_closed_array_is_no_part_of_it_however_it_comes(after: bytes) -> None:
    dialect, body = CLIENT_DIALECTS["gemini"], b'[{"candidates":[{"finishReason":"STOP"}]}]' + after
    whole = read_reply([body], dialect, streamed=True)
    assert read_reply([body[place : place + 1] for place in range(len(body))], dialect, streamed=True) == whole
    assert whole.exit is Exit.COMPLETED


def test_usage_with_bytes_that_are_not_utf_8_is_mended_like_any_other() -> None:
    client = CLIENT_DIALECTS["gemini.embed"]
    facts = ReplyFacts("ours", 1_700_000_000, "house-model", False, False)
    relay, meter = client.relay(facts, Quirks()), Meter("attempt", 3)
    reply = Reply(client, meter, streamed=False, choices=1, quirks=Quirks(), limits=Limits())
    body = b'{"embeddings":[{"values":[0.5]}],"usageMetadata":{"promptTokenCount":9,"\xed":1}}'
    for frame, events in [*reply.feed(body), *reply.close()]:
        assert relay.carry(frame, events) == b""
    assert msgspec.json.decode(relay.close(FINAL))["embeddings"] == [{"values": [0.5]}]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_what_follows_the_end_mark_is_not_read_however_it_comes(pieces: int) -> None:
    stream = FINISH + DONE + b'data: {"error":{"message":"late"}}\n\n' + b"data: }\n\n"
    size = -(-len(stream) // pieces)
    cut: Sequence[bytes] = [stream[start : start + size] for start in range(0, len(stream), size)]
    read = read_reply(cut, OPENAI_CHAT, streamed=True)
    whole = read_reply([FINISH + DONE], OPENAI_CHAT, streamed=True)
    seen: tuple[Event, ...] = read.events
    assert (seen, read.exit, read.failure) == (whole.events, whole.exit, None)
