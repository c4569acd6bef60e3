"""What the models of many makers say in Bedrock's wrapping, and which of two meters is believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    ReplyFailed,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.bedrock_invoke import BEDROCK_INVOKE
from counterfoil.dialects.bedrock_invoke.reply import InvokeDecoder, read_head
from counterfoil.dialects.dialect import Quirks
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message, exception_message
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import DiscrepancyKind

from ..bedrock_converse.support import joined

__all__: list[str] = []


def chunk(body: object, metrics: Mapping[str, int] | None = None) -> bytes:
    """One `chunk` event; `metrics` are the service's counts, put into the body as they are on the wire."""
    assert isinstance(body, dict)
    inner = {**body, "amazon-bedrock-invocationMetrics": metrics} if metrics is not None else body
    return event_message("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode(), "p": "abc"})


def streamed(*messages: bytes) -> ReadReply:
    data = b"".join(messages)
    reply = read_reply([data], BEDROCK_INVOKE, streamed=True)
    assert read_reply([data[place : place + 1] for place in range(len(data))], BEDROCK_INVOKE, streamed=True) == reply
    return reply


def whole(body: object, headers: Mapping[str, str] | None = None) -> ReadReply:
    return read_reply([json.dumps(body).encode()], BEDROCK_INVOKE, streamed=False, headers=headers)


def text(reply: ReadReply) -> str:
    return "".join(event.text for event in reply.events if isinstance(event, TextDelta))


def finishes(reply: ReadReply) -> list[ChoiceFinished]:
    return [event for event in reply.events if isinstance(event, ChoiceFinished)]


def claude(output: int, metrics: Mapping[str, int] | None) -> list[bytes]:
    """A stream of Claude's with 9 tokens in, and the service's metrics on its last event."""
    head = {"id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return [
        chunk({"type": "message_start", "message": {**head, "usage": {"input_tokens": 9, "output_tokens": 2}}}),
        chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Noon."}}),
        chunk({"type": "content_block_stop", "index": 0}),
        chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}}),
        chunk({"type": "message_stop"}, metrics),
    ]


# ---- two meters


def test_two_meters_that_agree_are_one_number() -> None:
    reply = streamed(*claude(4, {"inputTokenCount": 9, "outputTokenCount": 4, "invocationLatency": 90}))
    assert reply.exit is Exit.COMPLETED
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (9, 4)
    assert reply.settlement.discrepancies == ()
    assert reply.provider_id == "msg_bdrk_1"


@pytest.mark.parametrize("service", [98, 133])
def test_where_two_meters_differ_the_models_stands_and_the_difference_is_kept(service: int) -> None:
    metrics = {"inputTokenCount": 9, "outputTokenCount": service, "invocationLatency": 90, "firstByteLatency": 9}
    reply = streamed(*claude(130, metrics))
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (9, 130)
    (found,) = reply.settlement.discrepancies
    assert (found.kind, found.counter) == (DiscrepancyKind.COUNTER_FELL, Counter.OUTPUT)
    assert any(f'"outputTokenCount": {service}'.encode() in raw for raw in reply.reading.raw)
    assert any(b'"output_tokens": 130' in raw for raw in reply.reading.raw)


def test_the_service_fills_in_what_the_model_does_not_say() -> None:
    metrics = {
        "inputTokenCount": 9,
        "outputTokenCount": 4,
        "cacheReadInputTokenCount": 7,
        "cacheWriteInputTokenCount": 0,
    }
    usage = streamed(*claude(4, metrics)).settlement.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (16, 7, 0)


def test_a_placeholder_of_the_model_gives_way_to_the_service() -> None:
    head, *_, last = claude(4, {"inputTokenCount": 9, "outputTokenCount": 4})
    usage = streamed(head, last).settlement.usage
    assert usage.output_tokens == 4


def test_counts_in_the_headers_stand_where_the_body_has_none() -> None:
    body = {"type": "completion", "completion": " Noon.", "stop_reason": "stop_sequence", "stop": "\n\nHuman:"}
    headers = {
        "content-type": "application/json",
        "x-amzn-bedrock-input-token-count": "16",
        "x-amzn-bedrock-output-token-count": "11",
        "x-amzn-bedrock-cache-read-input-token-count": "5",
    }
    reply = whole(body, headers)
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (21, 11)
    assert text(reply) == " Noon."
    assert finishes(reply)[0].stop_sequence == "\n\nHuman:"
    assert b'"x-amzn-bedrock-output-token-count":"11"' in reply.reading.raw[0]


def test_a_body_with_counts_goes_before_the_headers_and_a_difference_is_kept() -> None:
    body = {"type": "message", "id": "m", "model": "claude-x", "content": [], "stop_reason": "end_turn"}
    headers = {"x-amzn-bedrock-input-token-count": "16", "x-amzn-bedrock-output-token-count": "11"}
    reply = whole({**body, "usage": {"input_tokens": 16, "output_tokens": 10}}, headers)
    assert reply.settlement.usage.output_tokens == 10
    assert [one.counter for one in reply.settlement.discrepancies] == [Counter.OUTPUT]


@pytest.mark.parametrize("said", ["", "x", "-1", "1.5", "²", "1" * 40])
def test_a_header_that_is_no_count_is_not_heard(said: str) -> None:
    assert read_head({"x-amzn-bedrock-input-token-count": said}) is None


# ---- makers


def test_claudes_events_are_read_by_its_own_dialect() -> None:
    head, start, *_ = claude(4, None)
    call = {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {}}
    reply = streamed(
        head,
        chunk({"type": "content_block_start", "index": 0, "content_block": call}),
        chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        chunk({"type": "content_block_stop", "index": 0}),
        *claude(4, {})[-2:],
    )
    assert ToolCallStarted(0, "toolu_1", "tide") in reply.events
    assert ToolArgumentsDelta(0, "{}") in reply.events
    assert start


def test_novas_events_are_converses_under_their_names() -> None:
    reply = streamed(
        chunk({"messageStart": {"role": "assistant"}}),
        chunk({"contentBlockDelta": {"delta": {"text": "No"}, "contentBlockIndex": 0}}),
        chunk({"contentBlockStop": {"contentBlockIndex": 0}}),
        chunk({"contentBlockDelta": {"delta": {"text": "on."}, "contentBlockIndex": 1}}),
        chunk({"messageStop": {"stopReason": "max_tokens"}}),
        chunk(
            {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 2}, "metrics": {}}},
            {"inputTokenCount": 5, "outputTokenCount": 2},
        ),
    )
    once = whole(
        {
            "output": {"message": {"content": [{"text": "Noon."}], "role": "assistant"}},
            "stopReason": "max_tokens",
            "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7, "cacheReadInputTokenCount": 0},
        }
    )
    for reply_ in (reply, once):
        assert (text(reply_), reply_.exit) == ("Noon.", Exit.COMPLETED)
        assert finishes(reply_)[0].reason is FinishReason.LENGTH
        assert (reply_.settlement.usage.input_tokens, reply_.settlement.usage.output_tokens) == (5, 2)
        assert reply_.settlement.discrepancies == ()


def test_titan_counts_in_its_pieces_and_in_its_results() -> None:
    reply = streamed(
        chunk(
            {
                "outputText": "No",
                "index": 0,
                "totalOutputTextTokenCount": None,
                "completionReason": None,
                "inputTextTokenCount": 3,
            }
        ),
        chunk(
            {
                "outputText": "on.",
                "index": 0,
                "totalOutputTextTokenCount": 2,
                "completionReason": "FINISH",
                "inputTextTokenCount": None,
            },
            {"inputTokenCount": 3, "outputTokenCount": 2},
        ),
    )
    once = whole(
        {"inputTextTokenCount": 3, "results": [{"tokenCount": 2, "outputText": "Noon.", "completionReason": "FINISH"}]}
    )
    for reply_ in (reply, once):
        assert (text(reply_), reply_.exit) == ("Noon.", Exit.COMPLETED)
        assert finishes(reply_) == [ChoiceFinished(FinishReason.STOP, said="FINISH")]
        assert (reply_.settlement.usage.input_tokens, reply_.settlement.usage.output_tokens) == (3, 2)


def test_a_guardrail_ends_a_reply_that_says_no_reason() -> None:
    body = {
        "outputText": "We do not talk of tides.",
        "index": 0.0,
        "totalOutputTextTokenCount": 3.0,
        "inputTextTokenCount": 6.0,
        "amazon-bedrock-guardrailAction": "INTERVENED",
    }
    reply = streamed(chunk(body))
    assert reply.exit is Exit.COMPLETED
    assert finishes(reply)[0].reason is FinishReason.CONTENT_FILTER
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (6, 3)


def test_a_guardrail_beside_a_reason_does_not_finish_twice() -> None:
    body = {"outputText": "x", "completionReason": "CONTENT_FILTERED", "amazon-bedrock-guardrailAction": "INTERVENED"}
    assert [finish.said for finish in finishes(streamed(chunk(body)))] == ["CONTENT_FILTERED"]


def test_llama_counts_as_it_goes() -> None:
    pieces = [("No", 9, 1, None), ("on", None, 2, None), (".", None, 3, "stop")]
    reply = streamed(
        *(
            chunk(
                {"generation": said, "prompt_token_count": given_, "generation_token_count": made, "stop_reason": stop}
            )
            for said, given_, made, stop in pieces
        )
    )
    assert (text(reply), reply.exit) == ("Noon.", Exit.COMPLETED)
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (9, 3)
    assert reply.settlement.discrepancies == ()


@pytest.mark.parametrize(
    ("bodies", "reason"),
    [
        pytest.param(
            [{"completion": "No", "stop_reason": None}, {"completion": "on.", "stop_reason": "max_tokens"}],
            FinishReason.LENGTH,
            id="Claude's text completions",
        ),
        pytest.param(
            [{"generations": [{"finish_reason": "COMPLETE", "id": "g", "text": "Noon."}], "id": "r", "prompt": "?"}],
            FinishReason.STOP,
            id="Cohere's Command",
        ),
        pytest.param(
            [{"text": "Noon.", "is_finished": False}, {"is_finished": True, "finish_reason": "COMPLETE"}],
            FinishReason.STOP,
            id="Cohere's Command in pieces",
        ),
        pytest.param([{"outputs": [{"text": "Noon.", "stop_reason": "length"}]}], FinishReason.LENGTH, id="Mistral"),
        pytest.param(
            [{"id": 1, "completions": [{"data": {"text": "Noon."}, "finishReason": {"reason": "endoftext"}}]}],
            FinishReason.STOP,
            id="AI21's Jurassic",
        ),
        pytest.param(
            [
                {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Noon."}}]},
                {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            ],
            FinishReason.STOP,
            id="chat completions",
        ),
        pytest.param(
            [
                {"choices": [{"index": 0, "message": {"role": "assistant", "content": "No"}, "stop_reason": None}]},
                {"choices": [{"index": 0, "message": {"role": "assistant", "content": "on."}, "stop_reason": None}]},
                {"choices": [{"index": 0, "message": {"content": ""}, "stop_reason": "length"}]},
            ],
            FinishReason.LENGTH,
            id="Mistral Large",
        ),
        pytest.param(
            [{"choices": [{"text": "No", "stop_reason": None}]}, {"choices": [{"text": "on.", "stop_reason": "stop"}]}],
            FinishReason.STOP,
            id="DeepSeek",
        ),
    ],
)
def test_other_makers_are_heard_and_the_service_counts_them(
    bodies: list[dict[str, object]], reason: FinishReason
) -> None:
    *others, last = bodies
    reply = streamed(*map(chunk, others), chunk(last, {"inputTokenCount": 7, "outputTokenCount": 3}))
    assert (text(reply), reply.exit) == ("Noon.", Exit.COMPLETED)
    assert [finish.reason for finish in finishes(reply)] == [reason]
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (7, 3)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("FINISH", FinishReason.STOP),
        ("STOP_CRITERIA_MET", FinishReason.STOP),
        ("stop", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("endoftext", FinishReason.STOP),
        ("COMPLETE", FinishReason.STOP),
        ("STOP_SEQUENCE", FinishReason.STOP),
        ("LENGTH", FinishReason.LENGTH),
        ("length", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("ERROR_LIMIT", FinishReason.LENGTH),
        ("CONTENT_FILTERED", FinishReason.CONTENT_FILTER),
        ("ERROR_TOXIC", FinishReason.CONTENT_FILTER),
        ("INTERVENED", FinishReason.CONTENT_FILTER),
        ("HIGH_TIDE", FinishReason.UNKNOWN),
    ],
)
def test_each_makers_word_for_the_end_is_known(said: str, reason: FinishReason) -> None:
    reply = whole({"generation": "Noon.", "stop_reason": said})
    assert finishes(reply) == [ChoiceFinished(reason, said=said)]


@pytest.mark.parametrize("data", [None, "Noon.", [], 7])
def test_a_text_that_is_not_where_it_should_be_is_no_text_and_no_failure(data: object) -> None:
    reply = whole({"completions": [{"data": data, "finishReason": {"reason": "endoftext"}}]})
    assert (text(reply), reply.exit) == ("", Exit.COMPLETED)


def test_a_whole_chat_completion_is_read() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Noon."}, "finish_reason": "stop"}
    reply = whole(
        {
            "id": "chatcmpl-1",
            "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )
    assert (text(reply), reply.settlement.usage.total_tokens, reply.exit) == ("Noon.", 10, Exit.COMPLETED)


def test_several_texts_are_several_choices() -> None:
    texts = [{"text": "Noon.", "stop_reason": "stop"}, {"text": "Twelve.", "stop_reason": "stop"}]
    reply = whole({"outputs": texts})
    assert {event.choice: event.text for event in reply.events if isinstance(event, TextDelta)} == {
        0: "Noon.",
        1: "Twelve.",
    }
    assert len(finishes(reply)) == 2


# ---- ends


def test_the_reply_is_done_when_the_metrics_came_after_its_end() -> None:
    decoder = InvokeDecoder(True, 1, Quirks())
    states = []
    for message in (
        {"generation": "x", "stop_reason": None},
        {"generation": "", "stop_reason": "stop"},
        {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}},
    ):
        data = json.dumps({"bytes": base64.b64encode(json.dumps(message).encode()).decode()}).encode()
        decoder.feed(Frame(data, "chunk"))
        states.append((decoder.ended, decoder.done))
    assert states == [(False, False), (True, False), (True, True)]


def test_a_cut_keeps_what_was_said() -> None:
    messages = claude(4, None)
    reply = streamed(*messages[:3])
    assert (reply.exit, text(reply)) == (Exit.TRUNCATED, "Noon.")
    assert reply.settlement.usage.input_tokens == 9


def test_an_exception_in_the_stream_is_heard() -> None:
    reply = streamed(*claude(4, None)[:3], exception_message("modelTimeoutException", "Too slow."))
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.message) == (FailureKind.TIMED_OUT, "Too slow.")


def test_an_error_of_the_models_own_is_heard() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}
    reply = streamed(claude(4, None)[0], chunk(error))
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.OVERLOADED


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"bytes":7}', b'{"bytes":"%%%"}', b'{"bytes":"W10="}', b'{"bytes":"/w=="}']
)
def test_a_chunk_that_cannot_be_read_fails_the_reply(data: bytes) -> None:
    (failed,) = InvokeDecoder(True, 1, Quirks()).feed(Frame(data, "chunk"))
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"message":"no"}', b'{"results":7}'])
def test_a_body_of_nobody_fails(body: bytes) -> None:
    (failed,) = InvokeDecoder(False, 1, Quirks()).feed(Frame(body))
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


def test_a_chunk_that_holds_nothing_of_a_reply_says_nothing() -> None:
    reply = streamed(chunk({"amazon-bedrock-trace": {}}), *claude(4, None))
    assert (text(reply), reply.exit) == ("Noon.", Exit.COMPLETED)
    assert joined(reply.events)[1:2] != []


_keys = ["type", "message", "delta", "completion", "generation", "generations", "outputs", "results", "outputText",
         "completions", "choices", "text", "messageStart", "contentBlockDelta", "metadata", "usage", "index",
         "stop_reason", "finish_reason", "completionReason", "amazon-bedrock-invocationMetrics",
         "amazon-bedrock-guardrailAction", "inputTokenCount", "output", "stopReason"]  # fmt: skip
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["message_start", "INTERVENED", "stop", ""]),
    lambda inner: st.dictionaries(st.sampled_from(_keys), inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(_keys), _values, max_size=4), max_size=6), st.booleans())
def test_nothing_raises_and_no_choice_finishes_twice(bodies: list[dict[str, object]], in_chunks: bool) -> None:
    decoder = InvokeDecoder(in_chunks, 1, Quirks())
    finished: list[int] = []
    for body in bodies:
        data = msgspec.json.encode(body)
        frame = (
            Frame(msgspec.json.encode({"bytes": base64.b64encode(data).decode()}), "chunk")
            if in_chunks
            else Frame(data)
        )
        finished += [event.choice for event in decoder.feed(frame) if isinstance(event, ChoiceFinished)]
    decoder.close()
    assert not in_chunks or len(finished) == len(set(finished))
