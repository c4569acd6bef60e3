"""The playback provider does what it is told, byte for byte, and its list of what it served is true.

Raw sockets only: nothing here may smooth over what is on the wire.
"""

import asyncio
import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterfoil.testing import (
    CATALOGUE,
    CHAT_SHAPES,
    ChatReply,
    ChatShape,
    Counts,
    Cut,
    Head,
    MessagesReply,
    Pause,
    Playback,
    Request,
    Script,
    Send,
    Stall,
    Tool,
    chat_reply,
    empty_answer,
    error_answer,
    in_turn,
    messages_reply,
    no_answer,
    redirect,
    refusing_stream_options,
    running,
    silent_answer,
)
from counterfoil.testing.link import ClientLeftError, Link

SECONDS = 10.0


class Caller:
    """A client made of one blocking socket."""

    def __init__(self, provider: Playback) -> None:
        self.socket = socket.create_connection(("127.0.0.1", provider.port), timeout=SECONDS)
        self.unread = b""

    def send(self, value: object, path: str = "/v1/chat/completions") -> None:
        body = json.dumps(value).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: play\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def read_upto(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        while mark not in self.unread:
            more = self.socket.recv(65536)
            assert more, f"closed before {mark!r}, after {self.unread!r}"
            self.unread += more
        place = self.unread.index(mark) + len(mark)
        taken, self.unread = self.unread[:place], self.unread[place:]
        return taken

    def read_all(self) -> bytes:
        """Everything until the provider closes."""
        taken, self.unread = self.unread, b""
        while more := self.socket.recv(65536):
            taken += more
        return taken

    def leave(self) -> None:
        self.socket.close()

    def leave_rudely(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextlib.contextmanager
def calling(provider: Playback) -> Iterator[Caller]:
    caller = Caller(provider)
    try:
        yield caller
    finally:
        caller.socket.close()


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running() as started:
        yield started


def unchunked(body: bytes) -> bytes:
    """The payload of a chunked body, which has to be whole."""
    payload = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        payload += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
        if length == 0:
            assert body == b""
            return payload


def reply_of(provider: Playback, script: Script, path: str = "/v1/chat/completions") -> bytes:
    """The whole body of a chunked or measured reply, played on a connection of its own."""
    provider.queue(script)
    with calling(provider) as caller:
        caller.send({"model": "m", "stream": True}, path)
        head = caller.read_upto(b"\r\n\r\n")
        if b"chunked" in head:
            return unchunked(caller.read_upto(b"\r\n0\r\n\r\n"))
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(caller.unread) < length:
            caller.unread += caller.socket.recv(65536)
        return caller.unread


def values_of(body: bytes) -> list[dict[str, Any]]:
    """The JSON of every `data:` line but `[DONE]`."""
    lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


def frame_with_usage(value: dict[str, Any]) -> bool:
    return value.get("usage") is not None


# What is on the wire, per shape


def test_separate_usage_is_one_last_frame_without_choices_and_null_before(provider: Playback) -> None:
    body = reply_of(provider, chat_reply(text="One two", usage=Counts(input=7, output=2)))
    values = values_of(body)
    assert body.endswith(b"data: [DONE]\n\n")
    assert [value["usage"] for value in values[:-1]] == [None] * 4
    assert values[-1]["choices"] == []
    assert values[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert [choice["finish_reason"] for value in values for choice in value["choices"]] == [None, None, None, "stop"]


PLACES: list[tuple[ChatShape, list[bool], bool]] = [
    # shape, which of head / "One" / " two" / finish / afterword carry usage, whether a value is null elsewhere
    ("separate", [False, False, False, False, True], True),
    ("separate_no_nulls", [False, False, False, False, True], False),
    ("finish_chunk", [False, False, False, True], False),
    ("finish_chunk_nulls", [False, False, False, True], True),
    ("every_chunk", [True, True, True, True], False),
    ("every_chunk_and_separate", [True, True, True, True, True], False),
    ("every_chunk_late", [True, True, True, True], False),
    ("repeated", [False, False, False, True, True], False),
    ("x_groq_only", [False, False, False, False], False),
    ("non_empty_choices", [False, False, False, False, True], False),
    ("per_choice", [False, False, False, False, True], False),
    ("absent", [False, False, False, False], False),
]


@pytest.mark.parametrize(("shape", "places", "nulls"), PLACES, ids=[row[0] for row in PLACES])
def test_usage_stands_where_the_shape_says(
    provider: Playback, shape: ChatShape, places: list[bool], nulls: bool
) -> None:
    values = values_of(reply_of(provider, chat_reply(text="One two", shape=shape)))
    assert [frame_with_usage(value) for value in values] == places
    assert {"usage" in value for value in values if not frame_with_usage(value)} <= {nulls}


def test_every_shape_is_tried() -> None:
    assert {row[0] for row in PLACES} == set(CHAT_SHAPES)


def test_running_counts_rise_to_the_truth_and_the_list_follows_them(provider: Playback) -> None:
    script = chat_reply(text="One two three", usage=Counts(input=7, output=9), shape="every_chunk")
    values = values_of(reply_of(provider, script))
    assert [value["usage"]["completion_tokens"] for value in values] == [0, 3, 6, 9, 9]
    provider.queue(script.cut_at(3))
    with calling(provider) as caller:
        caller.send({"stream": True})
        caller.read_all()
    provider.block_until(lambda: provider.served[-1].ended)
    assert provider.served[-1].reported == Counts(input=7, output=6)
    assert provider.served[-1].usage == Counts(input=7, output=9)


def test_databricks_counts_are_null_until_the_finish(provider: Playback) -> None:
    values = values_of(reply_of(provider, chat_reply(text="One two", shape="every_chunk_late")))
    assert [value["usage"]["completion_tokens"] for value in values] == [None, None, None, 2]
    assert [value["usage"]["total_tokens"] for value in values] == [None, None, None, 13]


def test_groq_says_the_same_usage_three_times(provider: Playback) -> None:
    values = values_of(reply_of(provider, chat_reply(text="One two", shape="repeated")))
    assert values[-2]["x_groq"]["usage"] == values[-2]["usage"] == values[-1]["usage"]
    assert values[-1]["choices"] == []


def test_usage_inside_x_groq_alone_counts_as_reported(provider: Playback) -> None:
    values = values_of(reply_of(provider, chat_reply(text="One two", shape="x_groq_only")))
    assert values[-1]["x_groq"]["usage"]["completion_tokens"] == 2
    assert provider.served[-1].reported == Counts(input=11, output=2)


def test_two_choices_each_report_their_own_completion(provider: Playback) -> None:
    script = chat_reply(text="One two", n=2, shape="per_choice", usage=Counts(input=5, output=7))
    values = values_of(reply_of(provider, script))
    usages = [value["usage"] for value in values if frame_with_usage(value)]
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages] == [(5, 3), (5, 4)]
    assert [frame.reported for frame in script.frames if frame.reported] == [
        Counts(input=5, output=3),
        Counts(input=5, output=7),
    ]


def test_a_choice_with_its_own_usage_reports_it_while_the_other_still_speaks(provider: Playback) -> None:
    script = chat_reply(text="One two", n=2, shape="per_choice")
    told = [
        "usage" if frame_with_usage(value) else (choice["index"], choice["finish_reason"])
        for value in values_of(reply_of(provider, script))
        for choice in value["choices"] or [{}]
    ]
    assert told[-6:] == [(0, "stop"), "usage", (1, None), (1, None), (1, "stop"), "usage"]


def test_a_whole_reply_of_choices_counted_apart_tells_only_the_first(provider: Playback) -> None:
    script = chat_reply(text="One two", n=2, shape="per_choice", usage=Counts(input=5, output=7), stream=False)
    wire = json.loads(script.body)["usage"]
    assert (wire["prompt_tokens"], wire["completion_tokens"]) == (5, 3)
    assert script.frames[0].reported == Counts(input=5, output=3)
    assert script.usage == Counts(input=5, output=7)


def test_choices_take_turns_and_say_different_things(provider: Playback) -> None:
    values = values_of(reply_of(provider, chat_reply(text="One two", n=2)))
    said = {0: "", 1: ""}
    for value in values:
        for choice in value["choices"]:
            said[choice["index"]] += choice["delta"].get("content", "")
    assert said == {0: "One two", 1: "One two #1"}
    assert [value["choices"][0]["index"] for value in values[:4]] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("counting", "completion", "total"),
    [("inclusive", 10, 17), ("reasoning_apart", 6, 17), ("reasoning_hidden", 6, 13)],
)
def test_counting_follows_the_providers_convention(counting: Any, completion: int, total: int) -> None:
    usage = Counts(input=7, output=10, cache_read=3, cache_write=2, reasoning=4)
    script = ChatReply(usage=usage, counting=counting, stream=False).script()
    wire = json.loads(script.body)["usage"]
    assert (wire["prompt_tokens"], wire["completion_tokens"], wire["total_tokens"]) == (7, completion, total)
    assert wire["prompt_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 2}
    assert wire["completion_tokens_details"] == {"reasoning_tokens": 4}
    assert script.usage == usage


# Departures of the chat dialect


def deltas_of(script: Script) -> list[dict[str, Any]]:
    return [choice["delta"] for value in values_of(script.body) for choice in value["choices"]]


def test_role_stands_first_or_nowhere_or_everywhere() -> None:
    assert [("role" in delta) for delta in deltas_of(chat_reply(text="One two"))] == [True, False, False, False]
    assert not any("role" in delta for delta in deltas_of(chat_reply(text="One two", role="missing")))
    assert all("role" in delta for delta in deltas_of(chat_reply(text="One two", role="every")))


@pytest.mark.parametrize("times", [0, 1, 2])
def test_finish_comes_as_often_as_told(times: Any) -> None:
    values = values_of(chat_reply(finish_times=times).body)
    assert sum(choice["finish_reason"] is not None for value in values for choice in value["choices"]) == times


TOOLS = (Tool("weather", '{"place":"Harbour town"}'), Tool("now", ""))


def tool_deltas_of(style: Any) -> list[dict[str, Any]]:
    found = deltas_of(chat_reply(text="", tools=TOOLS, tool_deltas=style))
    return [call for delta in found for call in delta.get("tool_calls", [])]


def test_streamed_tools_carry_id_and_name_once_and_arguments_in_pieces() -> None:
    calls = tool_deltas_of("streamed")
    assert [call["index"] for call in calls] == [0, 0, 0, 0, 1]
    assert [call.get("id") for call in calls] == ["call_play0", None, None, None, "call_play1"]
    arguments = "".join(call["function"]["arguments"] for call in calls if call["index"] == 0)
    assert arguments == TOOLS[0].arguments
    assert calls[-1]["function"] == {"name": "now", "arguments": ""}


def test_tool_deltas_leave_out_what_they_are_told_to() -> None:
    assert not any("index" in call for call in tool_deltas_of("no_index"))
    assert not any("id" in call for call in tool_deltas_of("no_id"))
    assert all("id" in call for call in tool_deltas_of("repeated_id"))
    assert [call["function"]["arguments"] for call in tool_deltas_of("whole")] == [TOOLS[0].arguments, ""]


def test_small_departures_are_on_the_wire() -> None:
    assert b"[DONE]" not in chat_reply(done=False).body
    crlf = chat_reply(crlf=True).body
    assert crlf.count(b"\r\n") == crlf.count(b"\n")
    assert chat_reply(comments=True).body.count(b": OPENROUTER PROCESSING\n\n") == 2
    first = values_of(chat_reply(azure=True).body)[0]
    assert first["choices"] == []
    assert "prompt_filter_results" in first
    assert all("obfuscation" in value for value in values_of(chat_reply(obfuscation=True).body))
    thought = deltas_of(chat_reply(text="Yes", reasoning="Let me see", parts=True))
    assert thought[1]["content"] == [{"type": "thinking", "thinking": [{"type": "text", "text": "Let"}]}]
    assert thought[4]["content"] == [{"type": "text", "text": "Yes"}]
    assert {"reasoning": "Let"} in deltas_of(chat_reply(reasoning="Let me", reasoning_key="reasoning"))
    assert {"refusal": "No"} in deltas_of(chat_reply(text="", refusal="No"))
    spoken = values_of(chat_reply(text="One", logprobs=True).body)[1]["choices"][0]
    assert spoken["logprobs"]["content"][0]["token"] == "One"
    assert values_of(chat_reply(extra={"provider": "Play"}).body)[0]["provider"] == "Play"


def test_groq_error_frame_is_named_and_nothing_follows() -> None:
    body = chat_reply(error="groq").body
    assert body.split(b"\n\n")[-2].startswith(b'event: error\ndata: {"error":')
    assert b"[DONE]" not in body
    assert not any(frame_with_usage(value) for value in values_of(body) if "choices" in value)


def test_openrouter_error_has_usage_beside_it_and_done_after() -> None:
    body = chat_reply(error="openrouter").body
    last = values_of(body)[-1]
    assert last["error"] == {"code": 400, "message": "Token limit reached"}
    assert last["usage"]["prompt_tokens"] == 11
    assert body.endswith(b"data: [DONE]\n\n")


def test_whole_reply_is_one_measured_json_body_after_its_padding(provider: Playback) -> None:
    plain = reply_of(provider, chat_reply(text="One two", stream=False, tools=TOOLS))
    message = json.loads(plain)["choices"][0]["message"]
    assert message["content"] == "One two"
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "now"]
    padded = reply_of(provider, chat_reply(stream=False, padding=3))
    assert padded.startswith(b"\n         " * 3 + b"{")
    assert json.loads(padded)["usage"]["total_tokens"] == 21
    assert "usage" not in json.loads(chat_reply(stream=False, shape="absent").body)


# The messages dialect


def test_messages_events_are_named_and_in_order(provider: Playback) -> None:
    script = messages_reply(text="One two", thinking="Hm", redacted="b3BhcXVl", tools=(Tool("now"),))
    body = reply_of(provider, script, "/v1/messages")
    blocks = body.split(b"\n\n")[:-1]
    values = values_of(body)
    assert [block.split(b"\n")[0] for block in blocks] == [f"event: {value['type']}".encode() for value in values]
    kinds = [value["content_block"]["type"] for value in values if value["type"] == "content_block_start"]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert [value["type"] for value in values][-2:] == ["message_delta", "message_stop"]
    assert values[2]["type"] == "ping"
    deltas = [value["delta"]["type"] for value in values if value["type"] == "content_block_delta"]
    assert deltas == ["thinking_delta", "signature_delta", "text_delta", "text_delta", "input_json_delta"]
    assert values[-2]["delta"]["stop_reason"] == "tool_use"


MIXED = Counts(input=100, output=20, cache_read=60, cache_write=30, reasoning=5)


def test_messages_start_has_input_without_cache_and_a_provisional_output() -> None:
    script = messages_reply(usage=MIXED, cache_write_1h=10, provisional=3)
    usage = values_of(script.body)[0]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (
        10,
        60,
        30,
    )
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}
    assert usage["output_tokens"] == 3
    assert script.frames[0].reported == Counts(input=100, output=3, cache_read=60, cache_write=30)


def test_messages_delta_repeats_the_input_or_does_not() -> None:
    full = values_of(messages_reply(usage=MIXED).body)[-2]["usage"]
    assert full["input_tokens"] == 10
    assert full["output_tokens"] == 20
    short = values_of(messages_reply(usage=MIXED, delta="output_only").body)[-2]["usage"]
    assert set(short) == {"output_tokens", "output_tokens_details"}
    searched = messages_reply(usage=MIXED, start=Counts(input=12))
    assert values_of(searched.body)[0]["message"]["usage"]["input_tokens"] == 12
    assert searched.frames[-2].reported == MIXED
    stale = messages_reply(usage=MIXED, start=Counts(input=12), delta="output_only")
    assert stale.frames[-2].reported == Counts(input=12, output=20, reasoning=5)


def test_messages_iterations_error_and_missing_stop() -> None:
    iterations = ({"type": "compaction", "input_tokens": 7, "output_tokens": 1},)
    script = messages_reply(iterations=iterations, billed=Counts(input=18, output=11))
    assert values_of(script.body)[-2]["usage"]["iterations"] == list(iterations)
    assert script.usage == Counts(input=18, output=11)
    failed = values_of(messages_reply(error="overloaded_error").body)
    assert failed[-1]["error"]["type"] == "overloaded_error"
    assert "message_delta" not in [value["type"] for value in failed]
    assert values_of(messages_reply(stop=False).body)[-1]["type"] == "message_delta"


def test_a_whole_message_has_its_blocks_and_final_usage() -> None:
    script = messages_reply(stream=False, text="One", thinking="Hm", tools=(Tool("w", '{"a":1}'),), usage=MIXED)
    value = json.loads(script.body)
    assert [block["type"] for block in value["content"]] == ["thinking", "text", "tool_use"]
    assert value["content"][2]["input"] == {"a": 1}
    assert value["usage"]["output_tokens"] == 20
    assert script.framing == "length"


# Cut, reset, stalled, held


def ended(provider: Playback) -> Callable[[], object]:
    return lambda: provider.served and provider.served[-1].ended


def test_a_cut_is_a_fin_without_the_last_chunk(provider: Playback) -> None:
    provider.queue(chat_reply(text="One two three").cut_at(3))
    with calling(provider) as caller:
        caller.send({"model": "m", "stream": True})
        raw = caller.read_all()
    assert raw.count(b"data: ") == 3
    assert raw.endswith(b"\n\n\r\n")
    assert not raw.endswith(b"0\r\n\r\n")
    provider.block_until(ended(provider))
    served = provider.served[0]
    assert (served.ended, served.frames_written, served.units, served.text) == ("cut", 3, 2, "One two")
    assert served.reported is None
    assert served.usage == Counts(input=11, output=3)


def test_a_reset_delivers_its_frames_and_then_an_rst(provider: Playback) -> None:
    provider.queue(chat_reply().reset_at(2))
    with calling(provider) as caller:
        caller.send({"stream": True})
        caller.read_upto(b"The")
        with pytest.raises(ConnectionResetError):
            caller.read_all()
    provider.block_until(ended(provider))
    assert provider.served[0].ended == "reset"


def test_nothing_at_all_closes_without_a_byte(provider: Playback) -> None:
    provider.queue(no_answer())
    with calling(provider) as caller:
        caller.send({})
        assert caller.read_all() == b""
    provider.block_until(ended(provider))
    assert provider.served[0].ended == "nothing"


def test_half_a_frame_ends_in_the_middle_with_and_without_a_proper_end(provider: Playback) -> None:
    script = chat_reply(text="One two")
    half = script.frames[2].data[: len(script.frames[2].data) // 2]
    body = reply_of(provider, script.half_frame_at(2, clean=True))
    assert body.count(b"\n\n") == 2
    assert body.endswith(half[-20:])
    provider.queue(script.half_frame_at(2))
    with calling(provider) as caller:
        caller.send({"stream": True})
        assert caller.read_all().endswith(half[-20:] + b"\r\n")
    provider.block_until(ended(provider))
    assert [served.ended for served in provider.served] == ["completed", "cut"]
    assert [served.text for served in provider.served] == ["One", "One"]


def test_a_held_frame_goes_out_when_the_test_says_so(provider: Playback) -> None:
    provider.queue(chat_reply(text="One two").hold_at(2, "between"))
    with calling(provider) as caller:
        caller.send({"stream": True})
        caller.read_upto(b'"One"')
        provider.block_until(lambda: provider.served[0].waiting_at == "between")
        assert provider.served[0].units == 1
        provider.release("between")
        caller.read_upto(b"data: [DONE]")
    provider.block_until(ended(provider))
    assert provider.served[0].ended == "completed"
    assert provider.served[0].waiting_at is None


@pytest.mark.parametrize("leave", [Caller.leave, Caller.leave_rudely], ids=["fin", "rst"])
def test_a_client_that_leaves_while_the_provider_is_silent_is_noticed(
    provider: Playback, leave: Callable[[Caller], None]
) -> None:
    provider.queue(chat_reply(text="One two").stall_at(2))
    with calling(provider) as caller:
        caller.send({"stream": True})
        caller.read_upto(b'"One"')
        provider.block_until(lambda: provider.served[0].waiting_at == "stall")
        before = time.monotonic()
        leave(caller)
        provider.block_until(ended(provider))
    served = provider.served[0]
    assert (served.ended, served.stalled, served.units) == ("client_left", True, 1)
    assert served.left_at is not None
    assert before <= served.left_at <= time.monotonic()


def test_a_large_request_behind_a_held_one_is_read_and_its_hang_up_noticed(provider: Playback) -> None:
    provider.queue(Script(steps=(Head(), *chat_reply().steps)).hold_at(0, "first"), silent_answer())
    with calling(provider) as caller:
        caller.send({"model": "small"})
        caller.read_upto(b"\r\n\r\n")
        caller.send({"model": "large", "messages": ["x" * (3 << 19)]})
        provider.release("first")
        provider.block_until(lambda: len(provider.served) == 2 and provider.served[1].waiting_at == "stall")
        caller.leave_rudely()
        provider.block_until(ended(provider))
    assert [served.ended for served in provider.served] == ["completed", "client_left"]
    assert len(provider.served[1].body) > 3 << 19


def test_a_frame_that_the_system_refuses_is_not_on_the_list(provider: Playback) -> None:
    """The client resets the connection after its request was read and before the loop can look at the socket."""
    with calling(provider) as caller:

        def resets(_: Request) -> Script:
            caller.leave_rudely()
            return chat_reply()

        provider.queue(resets)
        caller.send({})
        provider.block_until(ended(provider))
    assert (provider.served[0].ended, provider.served[0].frames_written) == ("client_left", 0)


@pytest.mark.parametrize("step", [Pause(3600), Stall()], ids=["pause", "stall"])
def test_a_client_that_leaves_before_the_head_is_noticed(provider: Playback, step: Pause | Stall) -> None:
    provider.queue(Script(steps=(step, Send(b"late"))))
    with calling(provider) as caller:
        caller.send({})
        provider.block_until(lambda: provider.served)
        caller.leave()
        provider.block_until(ended(provider))
    assert (provider.served[0].ended, provider.served[0].frames_written) == ("client_left", 0)


def test_the_head_can_come_long_before_the_first_frame(provider: Playback) -> None:
    provider.queue(Script(steps=(Head(), Stall())), silent_answer())
    with calling(provider) as caller:
        caller.send({})
        assert caller.read_upto(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    with calling(provider) as caller:
        caller.send({})
        provider.block_until(lambda: len(provider.served) == 2 and provider.served[1].waiting_at == "stall")
        caller.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            caller.socket.recv(1)


def test_frames_count_only_when_the_system_took_all_of_them(provider: Playback) -> None:
    """A client that does not read stops the provider, and what it could not take is not on the list."""
    big = Send(b"x" * (64 << 20), units=1)
    provider.queue(Script(steps=(Send(b"first", units=1), big, Send(b"never", units=1))))
    with calling(provider) as caller:
        caller.send({})
        caller.read_upto(b"first")
        provider.block_until(lambda: provider.served[0].frames_written == 1)
        caller.leave()
        provider.block_until(ended(provider))
    assert (provider.served[0].frames_written, provider.served[0].ended) == (1, "client_left")


@pytest.mark.parametrize("stream", [True, False])
def test_a_look_from_another_thread_sees_what_its_client_has(provider: Playback, stream: bool) -> None:
    loop = provider._running_loop()
    slow = True

    def drag() -> None:
        """Every turn of the loop takes its time, so that a byte is read long before its note is made."""
        time.sleep(0.01)
        if slow:
            loop.call_soon(drag)

    loop.call_soon_threadsafe(drag)
    with calling(provider) as caller:
        caller.send({"stream": stream, "stream_options": {"include_usage": True}})
        caller.read_upto(b"[DONE]\n\n\r\n0\r\n\r\n" if stream else b'"usage"')
        served = provider.served[0]
        assert (served.reported, served.ended) == (served.usage, "completed")
    slow = False


def test_a_client_that_has_every_frame_may_leave_before_the_last_chunk(
    provider: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Link.write

    async def leaves_at_the_last_chunk(self: Link, data: bytes) -> None:
        if data == b"0\r\n\r\n":
            raise ClientLeftError
        await real(self, data)

    monkeypatch.setattr(Link, "write", leaves_at_the_last_chunk)
    provider.queue(chat_reply(text="One"))
    with calling(provider) as caller:
        caller.send({"stream": True})
        caller.read_upto(b"data: [DONE]\n\n")
        provider.block_until(ended(provider))
    assert (provider.served[0].ended, provider.served[0].left_at) == ("completed", None)


def test_stopping_ends_what_stands_still() -> None:
    with contextlib.ExitStack() as stack:
        with running() as provider:
            provider.queue(silent_answer())
            caller = stack.enter_context(calling(provider))
            caller.send({})
            provider.block_until(lambda: provider.served)
        assert provider.served[0].ended == "stopped"


# Delivery and framing


def writes_of(script: Script) -> list[bytes]:
    """What the player hands to the operating system, write by write."""

    seen: list[bytes] = []
    real = Link.write

    async def spy(self: Link, data: bytes) -> None:
        seen.append(data)
        await real(self, data)

    with pytest.MonkeyPatch.context() as patch, running() as provider:
        patch.setattr(Link, "write", spy)
        provider.queue(script)
        with calling(provider) as caller:
            caller.send({})
            caller.read_upto(b"[DONE]")
            provider.block_until(ended(provider))
    return seen


def test_deliveries_differ_in_their_writes_only() -> None:
    script = chat_reply(text="One two")
    as_is, single, whole = (writes_of(script.delivered(how)) for how in ("as_is", "bytes", "whole"))
    assert len(as_is) == len(script.frames) + 1
    assert {len(data) for data in single} == {1}
    assert len(whole) == 2
    assert b"".join(as_is) == b"".join(single)
    assert unchunked(b"".join(whole).partition(b"\r\n\r\n")[2]) == unchunked(b"".join(as_is).partition(b"\r\n\r\n")[2])


def test_every_framing_carries_the_same_body(provider: Playback) -> None:
    script = chat_reply(text="One two")
    chunked = reply_of(provider, script)
    measured = reply_of(provider, script.framed("length"))
    provider.queue(script.framed("close"))
    with calling(provider) as caller:
        caller.send({"stream": True})
        head, _, closed = caller.read_all().partition(b"\r\n\r\n")
    assert b"connection: close" in head
    numbered = enumerate((chunked, measured, closed), 1)
    bodies = [body.replace(b"play-000000000%d" % number, b"") for number, body in numbered]
    assert bodies[0] == bodies[1] == bodies[2]


def test_a_cut_measured_body_announces_what_it_does_not_send(provider: Playback) -> None:
    script = chat_reply(stream=False)
    provider.queue(script.half_frame_at(0))
    with calling(provider) as caller:
        caller.send({})
        head, _, body = caller.read_all().partition(b"\r\n\r\n")
    assert f"content-length: {len(script.body)}".encode() in head
    assert len(body) == len(script.body) // 2


def test_reply_ids_name_the_line_of_the_list(provider: Playback) -> None:
    for number in (1, 2):
        values = values_of(reply_of(provider, chat_reply()))
        assert {value["id"] for value in values} == {f"chatcmpl-play-000000000{number}"}
        assert provider.served[-1].reply_id == f"play-000000000{number}"


# HTTP


def test_one_connection_carries_many_requests(provider: Playback) -> None:
    with calling(provider) as caller:
        for _ in range(3):
            caller.send({"model": "m", "stream": True})
            caller.read_upto(b"0\r\n\r\n")
    provider.block_until(lambda: len(provider.served) == 3 and provider.served[-1].ended)
    assert [(served.connection, served.ended) for served in provider.served] == [(1, "completed")] * 3
    assert provider.connections == 1


def test_an_idle_connection_can_be_closed_unannounced(provider: Playback) -> None:
    provider.queue(replace(chat_reply(), idle_close=True))
    with calling(provider) as caller:
        caller.send({"stream": True})
        raw = caller.read_all()
    assert raw.endswith(b"0\r\n\r\n")
    assert b"connection: close" not in raw


def test_models_are_listed_and_not_put_on_the_list() -> None:
    with running(Playback(models={"a": chat_reply(), "b": no_answer()})) as provider, calling(provider) as caller:
        caller.socket.sendall(b"GET /v1/models HTTP/1.1\r\nHost: play\r\nConnection: close\r\n\r\n")
        _, _, body = caller.read_all().partition(b"\r\n\r\n")
        assert [model["id"] for model in json.loads(body)["data"]] == ["a", "b"]
        assert provider.served == []
        assert provider.visits == [("GET", "/v1/models")]


def test_a_client_that_expects_continue_gets_it_before_it_sends(provider: Playback) -> None:
    with calling(provider) as caller:
        caller.socket.sendall(b"POST /v1/x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n")
        assert caller.read_upto(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.socket.sendall(b'{"model":"m"}')
        assert caller.read_upto(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert provider.served[0].model == "m"


def test_a_chunked_request_is_put_together(provider: Playback) -> None:
    with calling(provider) as caller:
        caller.socket.sendall(b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        caller.socket.sendall(b'8;note=x\r\n{"model"\r\n5\r\n:"m"}\r\n0\r\nTrailer: x\r\n\r\n')
        caller.read_upto(b"\r\n\r\n")
    assert provider.served[0].body == b'{"model":"m"}'


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /v1/x HTTP/1.1\r\nx: " + b"y" * 70000 + b"\r\n\r\n", 431),
        (b"POST /v1/x HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /v1/x HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
        (b"what is this\r\n\r\n", 400),
    ],
    ids=["headers", "body", "length", "chunk", "chunks", "line"],
)
def test_a_request_beyond_the_limits_is_answered_and_not_served(
    provider: Playback, request_bytes: bytes, status: int
) -> None:
    with calling(provider) as caller:
        caller.socket.sendall(request_bytes)
        assert caller.read_upto(b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)
    assert provider.served == []


# Choosing


def test_the_answer_is_the_queued_one_then_the_models_then_the_default() -> None:
    def default(request: Request) -> Script:
        return error_answer(418, request.model)

    with running(Playback(default, models={"a": error_answer(401)})) as provider, calling(provider) as caller:
        provider.queue(error_answer(429, retry_after="2"))
        statuses = []
        for model in ("a", "a", "b"):
            caller.send({"model": model})
            head = caller.read_upto(b"\r\n\r\n")
            caller.read_upto(b"}}")
            statuses.append(head.split(b" ")[1])
        assert statuses == [b"429", b"401", b"418"]
        assert provider.served[0].headers["authorization"] == "Bearer k"


def test_without_instructions_the_reply_is_what_the_request_asks_for(provider: Playback) -> None:
    with calling(provider) as caller:
        caller.send({"stream": True, "stream_options": {"include_usage": True}})
        asked = caller.read_upto(b"\r\n0\r\n\r\n")
        caller.send({"stream": True})
        unasked = caller.read_upto(b"\r\n0\r\n\r\n")
        caller.send({"n": 2})
        assert caller.read_upto(b"}}").count(b'"finish_reason"') == 2
        caller.send({"stream": True}, "/v1/messages")
        assert b"event: message_stop" in caller.read_upto(b"\r\n0\r\n\r\n")
    assert b'"total_tokens"' in asked
    assert b'"usage"' not in unasked


def test_a_server_that_refuses_stream_options_plays_without_them(provider: Playback) -> None:
    provider.default = refusing_stream_options(chat_reply())
    with calling(provider) as caller:
        caller.send({"stream": True, "stream_options": {"include_usage": True}})
        assert caller.read_upto(b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert b"stream_options" in caller.read_upto(b"}}")
        caller.send({"stream": True})
        assert caller.read_upto(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        caller.read_upto(b"[DONE]")


def test_answers_in_turn_repeat_the_last_one() -> None:
    play = in_turn(error_answer(429), lambda _: error_answer(500), chat_reply())
    request = Request(method="POST", path="/", headers={}, body=b"")
    assert [play(request).status for _ in range(4)] == [429, 500, 200, 200]


def test_other_answers_have_the_status_and_headers_they_are_named_for(provider: Playback) -> None:
    provider.queue(redirect("http://127.0.0.1:1/elsewhere"), empty_answer(), CATALOGUE["html"], CATALOGUE["bad-json"])
    with calling(provider) as caller:
        heads = []
        for end in (b"", b"", b"</html>", b"assis"):
            caller.send({})
            heads.append(caller.read_upto(b"\r\n\r\n"))
            caller.read_upto(end)
    assert b" 307 " in heads[0]
    assert b"location: http://127.0.0.1:1/elsewhere\r\n" in heads[0]
    assert b"content-length: 0\r\n" in heads[1]
    assert b"content-type: text/html" in heads[2]
    assert b"content-type: application/json" in heads[3]


def test_a_chooser_that_raises_is_heard_of() -> None:
    def broken(_: Request) -> Script:
        raise LookupError("no such play")

    provider = Playback(broken)

    def ask() -> None:
        with running(provider), calling(provider) as caller:
            caller.send({})
            answers.append(caller.read_upto(b"\r\n\r\n"))

    answers: list[bytes] = []
    with pytest.raises(LookupError, match="no such play"):
        ask()
    assert b" 500 " in answers[0]


def test_scripts_refuse_a_frame_they_do_not_have() -> None:
    with pytest.raises(IndexError, match="frame 99 of a script with 14 frames"):
        chat_reply().cut_at(99)


def test_the_asynchronous_form_serves_in_the_tests_own_loop() -> None:
    async def run() -> None:
        async with Playback() as provider:
            provider.queue(Script(steps=(Send(b"a", units=1), Cut())))
            reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
            writer.write(b"POST /v1/x HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            assert (await reader.read()).endswith(b"1\r\na\r\n")
            await provider.wait_for(ended(provider))
            assert provider.served[0].ended == "cut"
            writer.close()
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(run(), SECONDS))


# The provider as a process


def test_the_process_logs_every_frame_before_the_next(tmp_path: Path) -> None:
    log = tmp_path / "served.jsonl"
    command = [sys.executable, "-W", "error", "-m", "counterfoil.testing.provider", "--log", str(log), "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            caller = socket.create_connection(("127.0.0.1", ready["port"]), timeout=SECONDS)
            body = json.dumps({"model": "cut-10", "stream": True, "user": "u1"}).encode()
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            while caller.recv(65536):
                pass
            caller.close()
            process.stdin.close()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["opened", *["frame"] * 11, "end"]
    assert [line["units"] for line in lines] == [0, 0, *range(1, 11), 10]
    assert {(line["number"], line["user"], line["reply_id"]) for line in lines} == {(1, "u1", "play-0000000001")}
    assert lines[-1]["ended"] == "cut"
    assert lines[-1]["usage"] == {"input": 31, "output": 20, "cache_read": None, "cache_write": None, "reasoning": None}
    assert lines[-1]["reported"] is None


def test_the_process_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "counterfoil.testing.provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["pid"] == process.pid
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


def test_every_script_of_the_catalogue_can_be_chosen() -> None:
    for name, answer in CATALOGUE.items():
        for stream in (True, False):
            body = json.dumps({"model": name, "stream": stream}).encode()
            request = Request(method="POST", path="/v1/chat/completions", headers={}, body=body)
            script = answer if isinstance(answer, Script) else answer(request)
            assert script.status in (200, 401, 429, 500, 503), name
    paced = CATALOGUE["paced-100"]
    assert not isinstance(paced, Script)
    played = paced(Request(method="POST", path="/", headers={}, body=b'{"stream":true}'))
    assert played.units == 100
    assert played.usage == Counts(input=120, output=100)
    assert sum(isinstance(step, Pause) for step in played.steps) == len(played.frames) - 1


def test_plans_are_values() -> None:
    assert ChatReply() == ChatReply()
    assert MessagesReply().script() == messages_reply()
