"""OpenAI's legacy completions, as providers answer them: texts that go on, in choices, with usage anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_completions import OPENAI_COMPLETIONS
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.usage.settle import DiscrepancyKind
from tests import wire
from tests.dialects.recorded import check_recording

__all__: list[str] = []

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def _sse(**said: Any) -> bytes:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "go-on"}
    return b"data: " + msgspec.json.encode({**head, **said}) + b"\n\n"


def _choice(text: str = "", index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish, **more}


def _stream(*blocks: bytes, choices: int = 1, quirks: Quirks | None = None) -> ReadReply:
    return read_reply([b"".join(blocks)], OPENAI_COMPLETIONS, streamed=True, choices=choices, quirks=quirks or Quirks())


def _whole(**body: Any) -> ReadReply:
    return read_reply([msgspec.json.encode(body)], OPENAI_COMPLETIONS, streamed=False, choices=2)


def _of(reply: ReadReply, *kinds: type[Event]) -> Sequence[Event]:
    return [event for event in reply.events if isinstance(event, kinds)]


def _totals(reply: ReadReply) -> tuple[int | None, int | None]:
    return reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens


@pytest.mark.parametrize("name", wire.params("openai.completions/"))
def test_a_recorded_reply_is_read_as_the_oracle_says(name: str) -> None:
    reply = check_recording(name)
    recording = wire.read(name)
    if recording.response.status >= 300:
        assert reply.exit is Exit.REJECTED
        return
    assert reply.exit is Exit.COMPLETED
    assert _of(reply, TextDelta)
    assert not reply.settlement.discrepancies
    if recording.usage_reported is None:
        assert _totals(reply) == (None, None)


def test_a_text_goes_on_piece_by_piece_and_finishes_once() -> None:
    reply = _stream(
        _sse(choices=[_choice("The ")], usage=None),
        _sse(choices=[_choice("sea", finish="length")], usage=None),
        _sse(choices=[_choice("", finish="length")], usage=None),
        _sse(choices=[], usage=USAGE),
        DONE,
    )
    assert reply.events[:-1] == (
        ReplyStarted("cmpl-1", "go-on", 1_700_000_000),
        TextDelta("The "),
        TextDelta("sea"),
        ChoiceFinished(FinishReason.LENGTH, said="length"),
    )
    assert _totals(reply) == (5, 3)
    assert reply.exit is Exit.COMPLETED


@pytest.mark.parametrize(
    "last",
    [
        [_sse(choices=[_choice("sea", finish="eos")], usage=USAGE)],  # together, llama.cpp
        [_sse(choices=[_choice("sea", finish="stop")]), _sse(choices=[], usage=USAGE)],
        [_sse(choices=[_choice("sea", finish="stop")], usage=None), _sse(usage=USAGE)],
    ],
)
def test_usage_is_heard_wherever_it_stands(last: list[bytes]) -> None:
    reply = _stream(_sse(choices=[_choice("The ")]), *last, DONE)
    assert _totals(reply) == (5, 3)
    (finish,) = _of(reply, ChoiceFinished)
    assert isinstance(finish, ChoiceFinished)
    assert finish.reason is FinishReason.STOP


def test_a_stream_whose_chunks_say_null_used_nobody_knows_what() -> None:
    reply = _stream(_sse(choices=[_choice("x", finish="stop")], usage=None), DONE)
    assert _totals(reply) == (None, None)
    assert reply.reading.reports == 0


def test_each_prompt_and_each_choice_of_it_is_a_choice_of_the_reply() -> None:
    blocks = [
        _sse(choices=[_choice("a", 0)]),
        _sse(choices=[_choice("c", 2), _choice("b", 1)]),
        _sse(choices=[_choice("", 2, "stop")]),
        _sse(choices=[_choice("d", 3, "stop"), _choice("", 0, "length")]),
    ]
    cut = _stream(*blocks, choices=4)
    assert cut.exit is Exit.TRUNCATED
    reply = _stream(*blocks, _sse(choices=[_choice("", 1, "stop")]), choices=4)
    assert reply.exit is Exit.COMPLETED
    assert [(event.choice, event.text) for event in _of(reply, TextDelta) if isinstance(event, TextDelta)] == [
        (0, "a"),
        (2, "c"),
        (1, "b"),
        (3, "d"),
    ]
    assert sorted(event.choice for event in _of(reply, ChoiceFinished) if isinstance(event, ChoiceFinished)) == [
        0,
        1,
        2,
        3,
    ]


def test_a_provider_that_gives_fewer_choices_has_ended_when_it_says_so_or_has_no_more_bytes() -> None:
    finished, begun = _sse(choices=[_choice("a", 0, "stop")]), _sse(choices=[_choice("b", 1, None)])
    assert _stream(finished, choices=2).exit is Exit.COMPLETED
    assert _stream(finished, DONE, choices=2).exit is Exit.COMPLETED
    assert _stream(finished, begun, choices=2).exit is Exit.TRUNCATED
    assert _stream(finished, begun[:-9], choices=2).exit is Exit.TRUNCATED


def test_choices_that_are_reported_apart_share_one_prompt() -> None:
    blocks = [
        _sse(choices=[_choice("a", 0, "stop")], usage=USAGE),
        _sse(choices=[_choice("b", 1, "stop")], usage={**USAGE, "completion_tokens": 4, "total_tokens": 9}),
    ]
    apart = _stream(*blocks, choices=2, quirks=Quirks(usage_per_choice=True))
    assert _totals(apart) == (5, 7)
    assert _totals(_stream(*blocks, choices=2)) == (5, 4)


def test_a_whole_reply_that_reports_one_choice_leaves_the_others_to_be_estimated() -> None:
    body = {"choices": [_choice("a", 0, "stop"), _choice("b b b b b b", 1, "stop")], "usage": USAGE}
    raw = msgspec.json.encode(body)
    quirks = Quirks(usage_per_choice=True)
    reply = read_reply([raw], OPENAI_COMPLETIONS, streamed=False, choices=2, quirks=quirks, estimate=True)
    assert reply.settlement.usage.input_tokens == 5
    assert (reply.settlement.usage.output_tokens or 0) > 3
    assert reply.settlement.usage.estimated
    assert [found.kind for found in reply.settlement.discrepancies] == [DiscrepancyKind.CHOICES_UNREPORTED]


def test_a_frame_that_is_null_says_nothing() -> None:
    reply = _stream(b"data: null\n\n", _sse(choices=[_choice("x", finish="stop")], usage=USAGE), DONE)
    assert reply.exit is Exit.COMPLETED
    assert _totals(reply) == (5, 3)


def test_what_the_server_timed_stands_in_for_a_report() -> None:
    timings = {"cache_n": 2, "prompt_n": 3, "predicted_n": 4}
    reply = _stream(_sse(choices=[_choice("x", finish="stop")], timings=timings), DONE)
    assert _totals(reply) == (5, 4)
    beside = _stream(_sse(choices=[_choice("x", finish="stop")], timings=timings, usage=USAGE), DONE)
    assert _totals(beside) == (5, 3)
    assert beside.reading.reports == 1


def test_a_frame_without_choices_says_its_text_elsewhere() -> None:
    reply = _stream(b'data: {"value":"The "}\n\n', b'data: {"value":"sea"}\n\n', DONE, quirks=Quirks(end="done"))
    assert _of(reply, TextDelta) == [TextDelta("The "), TextDelta("sea")]
    assert reply.exit is Exit.COMPLETED
    assert _stream(b'data: {"value":"The "}\n\n', DONE).exit is Exit.TRUNCATED


@pytest.mark.parametrize("end", ["done", "usage"])
def test_a_finish_that_never_comes_is_supplied_where_a_quirk_says_so(end: Any) -> None:
    reply = _stream(_sse(choices=[_choice("x")]), _sse(choices=[], usage=USAGE), DONE, quirks=Quirks(end=end))
    assert _of(reply, ChoiceFinished) == [ChoiceFinished(FinishReason.STOP)]


def test_together_says_its_text_twice_in_one_chunk_and_it_is_heard_once() -> None:
    reply = _stream(_sse(choices=[_choice("sea", delta={"role": "assistant", "content": "sea"}, finish="eos")]), DONE)
    assert _of(reply, TextDelta) == [TextDelta("sea")]


def test_log_probabilities_are_carried_word_for_word() -> None:
    said = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0]}
    reply = _stream(_sse(choices=[_choice("a", logprobs=said, finish="stop")]), DONE)
    assert [
        msgspec.json.decode(event.raw) for event in _of(reply, LogprobsGiven) if isinstance(event, LogprobsGiven)
    ] == [said]


def test_a_whole_reply_finishes_all_of_its_choices() -> None:
    reply = _whole(
        id="cmpl-1", model="go-on", choices=[_choice("a", 0, "length"), {"text": "b", "index": 1}], usage=USAGE
    )
    assert _of(reply, TextDelta, ChoiceFinished) == [
        TextDelta("a", 0),
        ChoiceFinished(FinishReason.LENGTH, 0, "length"),
        TextDelta("b", 1),
        ChoiceFinished(FinishReason.STOP, 1),
    ]
    assert _totals(reply) == (5, 3)
    assert reply.exit is Exit.COMPLETED


def test_a_chat_reply_where_a_completion_was_due_is_read_all_the_same() -> None:
    message = {"role": "assistant", "content": "Low tide."}
    reply = _whole(choices=[{"index": 0, "message": message, "finish_reason": "stop"}], usage=USAGE)
    assert _of(reply, TextDelta) == [TextDelta("Low tide.")]
    assert _totals(reply) == (5, 3)


# ---- errors


def test_an_error_in_a_stream_ends_it_and_keeps_what_came_before() -> None:
    reply = _stream(
        _sse(choices=[_choice("a")]), b'data: {"error":{"message":"Out of room.","code":"context_length_exceeded"}}\n\n'
    )
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.CONTEXT_WINDOW
    assert _of(reply, TextDelta) == [TextDelta("a")]


@pytest.mark.parametrize(
    "block",
    [
        b'data: {"object":"error","message":"Bad prompt.","code":400}\n\n',
        b'event: error\ndata: {"message":"Bad prompt.","code":400}\n\n',
    ],
)
def test_an_error_is_known_by_any_of_its_marks(block: bytes) -> None:
    reply = _stream(block)
    assert [type(event) for event in reply.events] == [ReplyFailed]
    assert reply.failure is not None
    assert reply.failure.message == "Bad prompt."


@pytest.mark.parametrize(
    "data",
    [b"nothing", b"[]", b'{"choices":7}', b'{"choices":[{"text":7}]}', b'{"choices":[{"text":"x","index":99999}]}'],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_completion_fails_by_name(data: bytes, streamed: bool) -> None:
    sent = b"data: " + data + b"\n\n" if streamed else data
    reply = read_reply([sent], OPENAI_COMPLETIONS, streamed=streamed)
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY
    assert "99999" not in reply.failure.message


def test_a_body_without_choices_is_no_reply() -> None:
    assert _whole(id="cmpl-1").exit is Exit.FAILED
    assert _whole(error={"message": "No."}).exit is Exit.FAILED


def test_one_report_again_and_again_is_used_once() -> None:
    reply = _stream(*[_sse(choices=[_choice("x", finish="stop")], usage=USAGE)] * 3, DONE)
    assert _totals(reply) == (5, 3)
    assert len(_of(reply, UsageReported)) == 3
