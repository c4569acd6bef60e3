"""OpenAI's legacy completions, as clients speak them to us: what they ask, and what they read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterfoil.config import Limits
from counterfoil.core.error import Failure, FailureKind, Fault, RequestError
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    ReasoningDelta,
    RefusalDelta,
    ReplyStarted,
    TextDelta,
    ToolCallStarted,
)
from counterfoil.core.operation import CompleteRequest
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_completions import OPENAI_COMPLETIONS
from counterfoil.dialects.openai_completions.relay import CompletionRelay
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.reply import Reply
from counterfoil.usage.usage import Bucket, Usage

__all__: list[str] = []

FACTS = ReplyFacts("cmpl-ours", 1_700_000_000, "house-text", streamed=True, usage_asked=True)
FINAL = FinalUsage(Usage({Bucket.INPUT: 5, Bucket.OUTPUT: 3}))
TOLD = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
DONE = b"data: [DONE]\n\n"
FAILURE = Failure(FailureKind.BAD_REPLY, "The provider's reply ended.", Fault.PROVIDER, 502)


# ---- the request


@pytest.mark.parametrize(
    ("prompt", "prompts", "n", "choices"),
    [
        ("Once", ("Once",), None, 1),
        ("Once", ("Once",), 3, 3),
        (["a", "b"], ("a", "b"), 2, 4),
        ([1, 2, 3], ((1, 2, 3),), 2, 2),
        ([[1, 2], [3]], ((1, 2), (3,)), None, 2),
        (None, ("",), None, 1),
    ],
)
def test_a_reply_has_as_many_choices_as_prompts_times_n(
    prompt: object, prompts: tuple[object, ...], n: int | None, choices: int
) -> None:
    body = msgspec.json.encode({"model": "m", "prompt": prompt, "n": n})
    assert OPENAI_COMPLETIONS.peek_request(body).choices == choices
    assert OPENAI_COMPLETIONS.read_request(body).prompts == prompts


def test_everything_a_client_says_is_read() -> None:
    body = msgspec.json.encode(
        {
            "model": "m",
            "prompt": "Once",
            "suffix": "end",
            "echo": True,
            "best_of": 2,
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": "\n",
            "n": 2,
            "seed": 1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "logprobs": 3,
            "user": "u",
            "stream": True,
            "stream_options": {"include_usage": True},
            "logit_bias": {"5": 1},
            "nothing": None,
        }
    )
    rest = {"logit_bias": msgspec.Raw(b'{"5":1}')}
    read = CompleteRequest(
        "m", ("Once",), "end", True, 2, 9, 0.5, 0.9, ("\n",), 2, 1, 0.1, 0.2, 3, "u", True, True, rest
    )
    assert OPENAI_COMPLETIONS.read_request(body) == read
    peek = OPENAI_COMPLETIONS.peek_request(body)
    assert (peek.streamed, peek.usage_asked, peek.user) == (True, True, "u")
    written = OPENAI_COMPLETIONS.write_request(msgspec.structs.replace(read, rest={}), "m", Quirks(), False)
    sent = msgspec.json.decode(body)
    del sent["nothing"], sent["logit_bias"]
    assert msgspec.json.decode(written.body) == {**sent, "stop": ["\n"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"nothing", None),
        (b'{"prompt":"x"}', "model"),
        (b'{"model":"","prompt":"x"}', "model"),
        (b'{"model":"m","prompt":[]}', "prompt"),
        (b'{"model":"m","prompt":"x","n":0}', "n"),
        (b'{"model":"m","prompt":["x","y"],"n":2000}', "n"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b"[" * 50_000, None),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_name(body: bytes, param: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        OPENAI_COMPLETIONS.peek_request(body)
    assert refused.value.failure.param == param


@pytest.mark.parametrize("prompt", [[1, "x"], ["x", 1], [[1], 2], {"text": "x"}, [["x"]]])
def test_prompts_of_another_type_are_refused_when_they_have_to_be_read(prompt: object) -> None:
    with pytest.raises(RequestError) as refused:
        OPENAI_COMPLETIONS.read_request(msgspec.json.encode({"model": "m", "prompt": prompt}))
    assert (refused.value.failure.param or "").partition("[")[0] == "prompt"


def test_a_patch_changes_the_model_and_asks_for_usage() -> None:
    body = b'{"prompt":"x","model":"house","stream":true,"odd":[1.0]}'
    assert OPENAI_COMPLETIONS.patch_request(body, "go-on", Quirks(), True) == (
        b'{"prompt":"x","model":"go-on","stream":true,"odd":[1.0],"stream_options":{"include_usage":true}}'
    )
    plain = OPENAI_COMPLETIONS.patch_request(body, "go-on", Quirks(stream_options=False), True)
    assert b"stream_options" not in plain


def test_what_the_provider_refuses_is_told_by_name() -> None:
    request = CompleteRequest("house", ("Once", (1, 2)), user="u", rest={"odd": msgspec.Raw(b"1")})
    quirks = Quirks(unsupported=frozenset({"user"}), default_max_tokens=16)
    with pytest.raises(RequestError) as refused:
        OPENAI_COMPLETIONS.write_request(request, "m", quirks, False)
    assert refused.value.failure.param == "odd"
    written = OPENAI_COMPLETIONS.write_request(request, "m", quirks, True)
    assert written.dropped == ("odd", "user")
    assert msgspec.json.decode(written.body) == {"model": "m", "prompt": ["Once", [1, 2]], "max_tokens": 16}


# ---- a reply of the same dialect


def _relayed(stream: bytes, facts: ReplyFacts = FACTS, quirks: Quirks | None = None) -> list[dict[str, Any]]:
    """The JSON of what a client is written; [DONE] is left out and must be the last."""
    quirks = quirks or Quirks()
    relay, meter = CompletionRelay(facts, quirks), Meter("attempt", 3)
    reply = Reply(OPENAI_COMPLETIONS, meter, streamed=True, choices=1, quirks=quirks, limits=Limits())
    out = b"".join(relay.carry(frame, events) for frame, events in [*reply.feed(stream), *reply.close()])
    assert meter.failure is None
    out += relay.close(FINAL)
    assert b"\r" not in out
    blocks = [block.removeprefix(b"data: ") for block in out.split(b"\n\n") if block and not block.startswith(b":")]
    assert blocks.pop() == b"[DONE]"
    return [msgspec.json.decode(block) for block in blocks]


def _sse(choices: object, **more: Any) -> bytes:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 7, "choices": choices, "model": "go-on", **more}
    return b"data: " + msgspec.json.encode(head) + b"\n\n"


def _choice(text: str = "", index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish, **more}


def test_a_stream_in_order_is_carried_with_the_settled_usage_in_one_last_frame() -> None:
    frames = _relayed(
        _sse([_choice("The ")], usage=None)
        + _sse([_choice("sea", finish="stop")], usage=None)
        + _sse([], usage={"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13, "odd": 1})
        + DONE
    )
    assert [frame["choices"] for frame in frames] == [[_choice("The ")], [_choice("sea", finish="stop")], []]
    assert [frame["usage"] for frame in frames] == [None, None, TOLD]
    assert {(frame["id"], frame["object"], frame["created"], frame["model"]) for frame in frames} == {
        ("cmpl-1", "text_completion", 7, "house-text")
    }


def test_a_frame_that_needs_nothing_keeps_its_bytes() -> None:
    raw = (
        b'data: { "id":"c", "object":"text_completion","created":7,"model":"house-text","usage":null,\t"choices":'
        b'[{"text":"x","index":0,"logprobs":null,"finish_reason":null, "odd": 1.10}]}\n\n'
    )
    reply = Reply(OPENAI_COMPLETIONS, Meter("a", 1), streamed=True, choices=1, quirks=Quirks(), limits=Limits())
    relay = CompletionRelay(FACTS, Quirks())
    assert b"".join(relay.carry(frame, events) for frame, events in reply.feed(raw)) == raw


def test_usage_beside_a_finish_is_told_once_at_the_end_and_only_where_it_was_asked() -> None:
    stream = _sse([_choice("x", finish="eos")], usage={"prompt_tokens": 1, "completion_tokens": 1}) + DONE
    asked = _relayed(stream)
    assert [frame["usage"] for frame in asked] == [None, TOLD]
    assert asked[-1]["choices"] == []
    silent = _relayed(stream, msgspec.structs.replace(FACTS, usage_asked=False))
    assert len(silent) == 1
    assert "usage" not in silent[0]


def test_a_finish_is_told_once_and_one_identity_holds() -> None:
    frames = _relayed(
        b": hello\r\n\r\n"
        + _sse([{"text": "x", "index": 0}], id="first", object="completion.chunk")
        + _sse([_choice("", finish="stop")], id="second").replace(b"\n\n", b"\r\n\r\n")
        + _sse([_choice("more", finish="stop")])
        + DONE
    )
    assert [choice["finish_reason"] for frame in frames for choice in frame["choices"]] == [None, "stop", None]
    assert {frame["id"] for frame in frames} == {"first"}
    assert {frame["object"] for frame in frames} == {"text_completion"}


@pytest.mark.parametrize("empty", [b"data: \n\n", b"data:\n\n", b"event: x\ndata:\n\n", b"data: null\n\n"])
def test_a_frame_without_data_is_not_carried(empty: bytes) -> None:
    stream = _sse([_choice("x", finish="stop")])
    assert _relayed(empty + stream + empty + DONE) == _relayed(stream + DONE)


def test_a_frame_whose_text_stands_elsewhere_is_told_as_a_choice() -> None:
    frames = _relayed(b'data: {"value":"The sea"}\n\n' + DONE, quirks=Quirks(end="done"))
    assert [frame["choices"] for frame in frames] == [[_choice("The sea")], [_choice(finish="stop")], []]


def test_values_without_a_choice_open_the_next_frame_or_come_at_the_end() -> None:
    silent = msgspec.structs.replace(FACTS, usage_asked=False)
    noted = _sse([], note={"a": 1})
    early = _relayed(noted + _sse([_choice("x", finish="stop")]) + DONE, silent)
    assert [frame.get("note") for frame in early] == [{"a": 1}]
    late = _relayed(_sse([_choice("x", finish="stop")]) + noted + DONE, silent)
    assert late[-1]["note"] == {"a": 1}
    assert late[-1]["choices"] == [_choice()]


def test_a_whole_body_is_carried_but_for_identity_and_usage() -> None:
    relay = CompletionRelay(msgspec.structs.replace(FACTS, streamed=False), Quirks())
    body = b'{"id": "cmpl-1", "object":"text.completion", "created": 7, "model": "go-on", "choices": [{"text": "x"}]}'
    reply = Reply(OPENAI_COMPLETIONS, Meter("a", 1), streamed=False, choices=1, quirks=Quirks(), limits=Limits())
    for frame, events in [*reply.feed(body), *reply.close()]:
        assert relay.carry(frame, events) == b""
    assert relay.close(FINAL) == (
        b'{"id":"cmpl-1","object":"text_completion","created":7,"model":"house-text","choices":[{"text": "x"}],'
        b'"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}'
    )


@pytest.mark.parametrize("streamed", [True, False])
def test_a_failure_is_an_error_without_an_end_mark(streamed: bool) -> None:
    facts = msgspec.structs.replace(FACTS, streamed=streamed)
    told = CompletionRelay(facts, Quirks()).fail(FAILURE)
    assert told == OPENAI_COMPLETIONS.encoder(facts).fail(FAILURE)
    assert b"[DONE]" not in told
    assert msgspec.json.decode(told.removeprefix(b"data: "))["error"]["message"] == FAILURE.message


# ---- a reply of another dialect

SAID: tuple[Event, ...] = (
    ReplyStarted(id="", model="small:1b", created=9),
    ReasoningDelta("Hm."),
    ToolCallStarted(0, "c", "look"),
    TextDelta("The "),
    TextDelta("sea"),
    ChoiceFinished(FinishReason.LENGTH),
    ChoiceFinished(FinishReason.STOP),
)


def _frames(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(DONE)
    return [msgspec.json.decode(block.removeprefix(b"data: ")) for block in data.split(b"\n\n")[:-2]]


def test_a_stream_of_another_dialect_is_written_in_this_ones_shape() -> None:
    encoder = OPENAI_COMPLETIONS.encoder(FACTS)
    frames = _frames(encoder.encode(SAID) + encoder.close(FINAL))
    assert [frame["choices"] for frame in frames] == [
        [_choice("The ")],
        [_choice("sea")],
        [_choice(finish="length")],
        [],
    ]
    assert [frame["usage"] for frame in frames] == [None, None, None, TOLD]
    assert {(frame["id"], frame["created"], frame["model"]) for frame in frames} == {("cmpl-ours", 9, "house-text")}


def test_a_client_that_did_not_ask_reads_no_usage() -> None:
    encoder = OPENAI_COMPLETIONS.encoder(msgspec.structs.replace(FACTS, usage_asked=False))
    frames = _frames(encoder.encode(SAID) + encoder.close(FINAL))
    assert len(frames) == 3
    assert not any("usage" in frame for frame in frames)


def test_a_reply_without_words_or_without_a_finish_is_finished_all_the_same() -> None:
    encoder = OPENAI_COMPLETIONS.encoder(FACTS)
    assert [frame["choices"] for frame in _frames(encoder.close(FINAL))] == [[_choice(finish="stop")], []]
    encoder = OPENAI_COMPLETIONS.encoder(FACTS)
    assert encoder.encode((RefusalDelta("No.", 1),))
    assert [frame["choices"] for frame in _frames(encoder.close(FINAL))] == [[_choice("", 1, "stop")], []]


@pytest.mark.parametrize(("final", "told"), [(FINAL, TOLD), (FinalUsage(None), None)])
def test_a_whole_reply_is_the_same_gathered(final: FinalUsage, told: object) -> None:
    encoder = OPENAI_COMPLETIONS.encoder(msgspec.structs.replace(FACTS, streamed=False))
    assert encoder.encode(SAID) == b""
    body = msgspec.json.decode(encoder.close(final))
    assert body["choices"] == [_choice("The sea", finish="length")]
    assert body.get("usage") == told


def test_log_probabilities_become_lists() -> None:
    first = b'{"content":[{"token":"The","logprob":-0.5,"top_logprobs":[{"token":"A","logprob":-1.0}]}]}'
    second = b'{"content":[{"token":" sea","logprob":-0.25}]}'
    own = b'{"tokens":["!"],"token_logprobs":[-1],"top_logprobs":null,"text_offset":[7]}'
    encoder = OPENAI_COMPLETIONS.encoder(msgspec.structs.replace(FACTS, streamed=False))
    for raw in (first, second, own, b"[]", b'{"content":null}'):
        encoder.encode((LogprobsGiven(msgspec.Raw(raw)),))
    assert msgspec.json.decode(encoder.close(FINAL))["choices"][0]["logprobs"] == {
        "tokens": ["The", " sea", "!"],
        "token_logprobs": [-0.5, -0.25, -1],
        "top_logprobs": [{"A": -1.0}, None],
        "text_offset": [0, 3, 7],
    }
    encoder = OPENAI_COMPLETIONS.encoder(FACTS)
    (frame,) = _frames(encoder.encode((LogprobsGiven(msgspec.Raw(first)),)) + DONE)
    assert frame["choices"][0]["logprobs"]["tokens"] == ["The"]
