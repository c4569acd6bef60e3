"""Replies become messages, messages become requests, and nothing is lost on the way or said twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Final

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
)
from langchain_core.messages.content import ContentBlock
from langchain_core.outputs import ChatGenerationChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from counterfoil.langchain.convert import (
    ChunkReader,
    _convert_chunk_to_generation_chunk,
    _convert_delta_to_message_chunk,
    _convert_dict_to_message,
    _convert_message_to_dict,
    _create_usage_metadata,
    create_chat_result,
)
from counterfoil.langchain.usage import add_token_usage
from counterfoil.sdk.reply import Delta

__all__: list[str] = []

_USAGE: Final = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20, "audio_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2},
}


def _frame(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "reply-1", "model": "somebody/model-1", "choices": choices, **more}


def _read(frames: Iterable[object], **closing: Any) -> list[ChatGenerationChunk]:
    reader = ChunkReader()
    chunks = [chunk for frame in frames if (chunk := reader.read(frame)) is not None]
    return [*chunks, *reader.close(**closing)]


def _sum(chunks: list[ChatGenerationChunk]) -> AIMessageChunk:
    total = chunks[0].message
    for chunk in chunks[1:]:
        total = total + chunk.message
    assert isinstance(total, AIMessageChunk)
    return total


def _streamed(*deltas: dict[str, Any]) -> AIMessageChunk:
    return _sum(_read([_frame(delta) for delta in deltas]))


def _whole(message: dict[str, Any], **more: Any) -> AIMessage:
    body = {"id": "reply-1", "model": "somebody/model-1", "choices": [{"index": 0, "message": message}], **more}
    told = create_chat_result(body).generations[0].message
    assert isinstance(told, AIMessage)
    return told


def _v1_sum(*deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """What LangChain makes of a stream with `output_version="v1"`, without the indexes that joined it."""
    chunks = _read([_frame(delta) for delta in deltas])
    total: BaseMessageChunk | None = None
    for chunk in chunks:
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        content: Any = message.content_blocks
        metadata = {**message.response_metadata, "output_version": "v1"}
        piece = message.model_copy(update={"content": content, "response_metadata": metadata})
        total = piece if total is None else total + piece
    assert total is not None
    return [_bare(block) for block in total.content if isinstance(block, dict)]


def _bare(block: ContentBlock | dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "index"}


# ---- usage


def test_every_detail_that_is_known_is_told_in_langchains_words() -> None:
    assert _create_usage_metadata(_USAGE) == {
        "input_tokens": 100,
        "output_tokens": 40,
        "total_tokens": 140,
        "input_token_details": {"audio": 5, "cache_creation": 20, "cache_read": 60},
        "output_token_details": {"audio": 2, "reasoning": 30},
    }


def test_a_detail_nobody_said_is_absent_and_one_said_to_be_nothing_is_0() -> None:
    said = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    said["completion_tokens_details"] = {"reasoning_tokens": None}
    told = _create_usage_metadata(said)
    assert told == {
        "input_tokens": 7,
        "output_tokens": 2,
        "total_tokens": 9,
        "input_token_details": {"cache_read": 0},
    }


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"prompt_tokens": 7},
        {"completion_tokens": 7},
        {"prompt_tokens": 7, "completion_tokens": None},
        {"prompt_tokens": "7", "completion_tokens": 2},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
    ],
)
def test_a_count_that_is_not_known_gives_no_usage_at_all(said: object) -> None:
    assert _create_usage_metadata(said) is None


def test_the_anthropic_names_of_the_cache_are_understood() -> None:
    said = {"prompt_tokens": 9, "completion_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}
    told = _create_usage_metadata(said)
    assert told is not None
    assert told["input_token_details"] == {"cache_read": 4, "cache_creation": 3}


def test_usage_is_read_from_an_object_as_from_a_dict() -> None:
    said = SimpleNamespace(prompt_tokens=3, completion_tokens=4, prompt_tokens_details=SimpleNamespace(cached_tokens=1))
    told = _create_usage_metadata(said)
    assert told is not None
    assert (told["total_tokens"], told["input_token_details"]) == (7, {"cache_read": 1})


def test_usage_objects_add_up_number_by_number() -> None:
    total = add_token_usage(add_token_usage({}, _USAGE), _USAGE)
    assert total["prompt_tokens"] == 200
    assert total["completion_tokens_details"] == {"reasoning_tokens": 60, "audio_tokens": 4}


# ---- the last chunk

_HELLO: Final = [_frame({"role": "assistant", "content": "Good "}), _frame({"content": "morning"})]
_SHAPES: Final = {
    "frame_without_choices": [*_HELLO, _frame({}, "stop"), _frame(usage=_USAGE)],
    "frame_with_choices": [*_HELLO, _frame({}, "stop"), _frame({"content": ""}, usage=_USAGE)],
    "finish_frame": [*_HELLO, _frame({}, "stop", usage=_USAGE)],
    "every_frame": [{**frame, "usage": _USAGE} for frame in (*_HELLO, _frame({}, "stop"))],
    "growing": [
        {**_HELLO[0], "usage": {"prompt_tokens": 100, "completion_tokens": 1}},
        _HELLO[1],
        _frame(usage=_USAGE),
    ],
    "twice": [*_HELLO, _frame({}, "stop", usage=_USAGE), _frame(usage=_USAGE)],
    "before_the_finish": [*_HELLO, _frame(usage=_USAGE), _frame({}, "stop")],
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_exactly_one_chunk_carries_usage_and_it_is_the_last(shape: str) -> None:
    chunks = _read(_SHAPES[shape])
    messages = [chunk.message for chunk in chunks]
    assert all(isinstance(message, AIMessageChunk) for message in messages)
    told = [message for message in messages if getattr(message, "usage_metadata", None) is not None]
    assert told == [messages[-1]]
    assert [getattr(message, "chunk_position", None) for message in messages] == [None] * (len(messages) - 1) + ["last"]
    total = _sum(chunks)
    assert total.usage_metadata == _create_usage_metadata(_USAGE)
    assert total.text == "Good morning"
    assert total.response_metadata["token_usage"] == _USAGE


def test_a_stream_without_usage_still_has_a_last_chunk() -> None:
    last = _read(_HELLO)[-1].message
    assert isinstance(last, AIMessageChunk)
    assert (last.chunk_position, last.usage_metadata) == ("last", None)
    assert "token_usage" not in last.response_metadata


def test_the_settled_usage_of_the_stream_goes_before_that_of_its_chunks() -> None:
    settled = {"prompt_tokens": 1, "completion_tokens": 2}
    total = _sum(_read(_SHAPES["every_frame"], usage=settled))
    assert total.usage_metadata == _create_usage_metadata(settled)


def test_a_caller_who_asked_not_to_be_told_is_not_told() -> None:
    total = _sum(_read(_SHAPES["twice"], usage=_USAGE, tell_usage=False))
    assert total.usage_metadata is None
    assert "token_usage" not in total.response_metadata
    assert total.chunk_position == "last"


def test_what_is_known_of_incomplete_usage_is_in_the_metadata() -> None:
    known = {"prompt_tokens": 12, "completion_tokens": None}
    last = _read([*_HELLO, _frame(usage=known)])[-1].message
    assert isinstance(last, AIMessageChunk)
    assert last.usage_metadata is None
    assert last.response_metadata["token_usage"] == known


def test_the_metadata_of_the_reply_is_said_once() -> None:
    frames = [_frame({"content": "a"}, system_fingerprint="fp"), _frame({"content": "b"}, "stop"), _frame({}, "stop")]
    metadata = _sum(_read(frames)).response_metadata
    assert metadata == {
        "id": "reply-1",
        "model_name": "somebody/model-1",
        "system_fingerprint": "fp",
        "finish_reason": "stop",
        "model_provider": "counterfoil",
    }


def test_a_frame_that_says_nothing_gives_no_chunk() -> None:
    frames: list[object] = [
        {"choices": [], "prompt_filter_results": []},
        _frame({"role": "assistant"}),
        _frame({}, "stop"),
    ]
    frames += [{"id": "x"}, {"choices": [{"delta": None}]}, "noise"]
    assert len(_read(frames)) == 1


def test_a_stream_has_the_first_of_several_answers() -> None:
    frames = [{"choices": [{"index": choice, "delta": {"content": f"#{choice}"}}]} for choice in (1, 0, 1)]
    assert _sum(_read(frames)).text == "#0"


def test_logprobs_are_joined() -> None:
    frames = [
        {"choices": [{"index": 0, "delta": {"content": word}, "logprobs": {"content": [{"token": word}]}}]}
        for word in ("a", "b")
    ]
    assert _sum(_read(frames)).response_metadata["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


# ---- tool calls


def _call(index: int | None = None, identity: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    part = {"index": index, "id": identity, "function": function}
    return {"tool_calls": [{key: value for key, value in part.items() if value is not None}]}


_WANTED: Final = [("look", {"at": "sea"}), ("book", {"seats": 2})]
_CALLS: Final[dict[str, list[dict[str, Any]]]] = {
    "as_the_standard_says": [
        _call(0, "call-a", "look", ""),
        _call(0, None, None, '{"at": '),
        _call(1, "call-b", "book", ""),
        _call(1, None, None, '{"seats": 2}'),
        _call(0, None, None, '"sea"}'),
    ],
    "without_index": [
        _call(None, "call-a", "look", '{"at": '),
        _call(None, None, None, '"sea"}'),
        _call(None, "call-b", "book", '{"seats": '),
        _call(None, "call-b", None, "2}"),
    ],
    "without_index_or_id": [
        _call(None, None, "look", '{"at": '),
        _call(None, None, None, '"sea"}'),
        _call(None, None, "book", '{"seats": 2}'),
    ],
    "without_id": [
        _call(0, None, "look", '{"at": "sea"}'),
        _call(1, None, "book", '{"seats": 2}'),
    ],
    "all_with_index_0": [
        _call(0, "call-a", "look", '{"at": "sea"}'),
        _call(0, "call-b", "book", '{"seats": '),
        _call(0, None, None, "2}"),
    ],
    "id_and_name_again_in_every_delta": [
        _call(0, "call-a", "look", '{"at": '),
        _call(0, "call-a", "look", '"sea"}'),
        _call(1, "call-b", "book", '{"seats": '),
        _call(1, "call-b", "book", "2}"),
    ],
    "a_new_id_in_every_delta": [
        _call(0, "call-a", "look", '{"at": '),
        _call(0, "call-a2", None, '"sea"}'),
        _call(1, "call-b", "book", '{"seats": 2}'),
    ],
    "counted_from_1": [
        _call(1, "call-a", "look", '{"at": "sea"}'),
        _call(2, "call-b", "book", '{"seats": 2}'),
    ],
    "whole_in_one_delta": [
        {
            "tool_calls": [
                _call(None, None, "look", '{"at": "sea"}')["tool_calls"][0],
                *_call(None, None, "book", '{"seats": 2}')["tool_calls"],
            ]
        },
    ],
    "arguments_as_objects": [
        _call(0, "call-a", "look", {"at": "sea"}),
        _call(1, "call-b", "book", {"seats": 2}),
    ],
    "the_name_after_the_arguments": [
        _call(0, "call-a", None, '{"at": '),
        _call(0, None, "look", '"sea"}'),
        _call(1, "call-b", "book", '{"seats": 2}'),
    ],
    "a_delta_without_a_function": [
        {"tool_calls": [{"index": 0, "id": "call-a"}]},
        _call(0, None, "look", '{"at": "sea"}'),
        {"tool_calls": [{"index": 0, "function": None}]},
        _call(1, "call-b", "book", '{"seats": 2}'),
    ],
}


@pytest.mark.parametrize("shape", _CALLS)
def test_tool_calls_are_joined_however_they_come(shape: str) -> None:
    total = _streamed(*_CALLS[shape])
    assert [(call["name"], call["args"]) for call in total.tool_calls] == _WANTED
    assert total.invalid_tool_calls == []
    ids = [call["id"] for call in total.tool_calls]
    assert all(ids)
    assert len(set(ids)) == 2
    if "call-a" in json.dumps(_CALLS[shape]):
        assert ids == ["call-a", "call-b"]


@pytest.mark.parametrize("shape", _CALLS)
def test_tool_calls_are_joined_in_content_blocks_too(shape: str) -> None:
    blocks = _v1_sum(*_CALLS[shape])
    assert [(block["type"], block["name"], block["args"]) for block in blocks] == [
        ("tool_call", name, arguments) for name, arguments in _WANTED
    ]


def test_one_function_called_twice_in_one_delta_is_two_calls() -> None:
    parts = [_call(None, None, "look", json.dumps({"at": at}))["tool_calls"][0] for at in ("sea", "sky")]
    for message in (_streamed({"tool_calls": parts}), _whole({"tool_calls": parts})):
        assert [call["args"] for call in message.tool_calls] == [{"at": "sea"}, {"at": "sky"}]


def test_a_whole_reply_has_the_same_calls() -> None:
    calls = [{"function": {"name": name, "arguments": json.dumps(arguments)}} for name, arguments in _WANTED]
    whole = _whole({"role": "assistant", "content": None, "tool_calls": calls})
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == _WANTED
    assert [call["id"] for call in whole.tool_calls] == ["call_reply-1_0", "call_reply-1_1"]


def test_arguments_that_are_no_object_make_an_invalid_call_and_are_kept() -> None:
    message = _whole({"tool_calls": [{"id": "c", "function": {"name": "look", "arguments": "[1"}}]})
    assert message.tool_calls == []
    assert [(call["name"], call["args"]) for call in message.invalid_tool_calls] == [("look", "[1")]
    assert _convert_message_to_dict(message)["tool_calls"][0]["function"] == {"name": "look", "arguments": "[1"}


def test_a_custom_tools_input_is_an_argument() -> None:
    message = _whole({"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "run", "input": "ls"}}]})
    assert message.tool_calls[0]["args"] == {"input": "ls"}


def test_a_signature_beside_a_call_goes_back_with_it() -> None:
    signed = _call(0, "call-a", "look", "{}")
    signed["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "c2lnbg=="}}
    for message in (_streamed(signed), _whole(signed)):
        sent = _convert_message_to_dict(message)["tool_calls"]
        assert sent[0]["extra_content"] == {"google": {"thought_signature": "c2lnbg=="}}


# ---- one delta by itself


def _as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _as_object(inner) for key, inner in value.items()})
    return [_as_object(inner) for inner in value] if isinstance(value, list) else value


_DELTA: Final = {
    "role": "assistant",
    "content": "Hm.",
    "reasoning_content": "Perhaps",
    "tool_calls": [{"index": 3, "id": "c", "type": "function", "function": {"name": None, "arguments": "{}"}}],
}


@pytest.mark.parametrize("make", [dict, Delta, _as_object, ChoiceDelta.model_validate])
def test_a_delta_is_read_as_a_dict_a_node_and_an_object(make: Any) -> None:
    chunk = _convert_delta_to_message_chunk(make(_DELTA), AIMessageChunk)
    assert isinstance(chunk, AIMessageChunk)
    assert chunk.content == "Hm."
    assert chunk.additional_kwargs == {"reasoning_content": "Perhaps"}
    assert chunk.tool_call_chunks == [
        {"name": None, "args": "{}", "id": "c", "index": 3, "type": "tool_call_chunk"},
    ]


def test_a_delta_of_another_role_gives_a_chunk_of_it() -> None:
    assert isinstance(
        _convert_delta_to_message_chunk({"role": "user", "content": "x"}, AIMessageChunk), HumanMessageChunk
    )
    developer = _convert_delta_to_message_chunk({"role": "developer", "content": "x"}, AIMessageChunk)
    assert isinstance(developer, SystemMessageChunk)
    assert developer.additional_kwargs == {"__openai_role__": "developer"}
    for role, named in (("tool", {"tool_call_id": "t"}), ("function", {"name": "f"}), ("judge", {})):
        chunk = _convert_delta_to_message_chunk({"role": role, "content": "x", **named}, AIMessageChunk)
        assert chunk.content == "x"
    assert isinstance(_convert_delta_to_message_chunk({"content": "x"}, HumanMessageChunk), HumanMessageChunk)


def test_a_chunk_by_itself_keeps_all_it_says() -> None:
    frame = _frame({"content": "x"}, "stop", usage=_USAGE)
    chunk = _convert_chunk_to_generation_chunk(frame)
    assert chunk is not None
    assert isinstance(chunk.message, AIMessageChunk)
    assert chunk.message.usage_metadata == _create_usage_metadata(_USAGE)
    assert chunk.generation_info == {"finish_reason": "stop"}
    usage_frame = _convert_chunk_to_generation_chunk(_frame(usage=_USAGE))
    assert usage_frame is not None
    assert _convert_chunk_to_generation_chunk({"choices": []}) is None


# ---- what a model says beside text

_SIGNED: Final = {"type": "reasoning.text", "signature": "c2ln", "format": "anthropic-claude-v1"}
_REASONED: Final[dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]] = {
    "plain": (
        [{"reasoning_content": "One "}, {"reasoning_content": "two"}],
        {"reasoning_content": "One two"},
    ),
    "under_its_other_name": (
        [{"reasoning": "One "}, {"reasoning": "two"}],
        {"reasoning": "One two"},
    ),
    "with_proof_that_repeats_it": (
        [
            {"reasoning_content": "One "},
            {"reasoning_content": "two"},
            {"reasoning_details": [{**_SIGNED, "text": "One two", "index": 0}]},
        ],
        {"reasoning_content": "One two", "reasoning_details": [{**_SIGNED, "text": "One two", "index": 0}]},
    ),
    "in_details_piece_by_piece": (
        [
            {
                "reasoning": "One ",
                "reasoning_details": [{"type": "reasoning.text", "text": "One ", "format": "f", "index": 0}],
            },
            {
                "reasoning": "two",
                "reasoning_details": [{"type": "reasoning.text", "text": "two", "format": "f", "index": 0}],
            },
            {"reasoning_details": [{"type": "reasoning.text", "signature": "c2ln", "format": "f", "index": 0}]},
        ],
        {
            "reasoning": "One two",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "One two", "format": "f", "index": 0, "signature": "c2ln"}
            ],
        },
    ),
    "in_details_alone": (
        [
            {"reasoning_details": [{"type": "reasoning.text", "text": "One ", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "text": "two", "index": 0, "signature": "c2ln"}]},
        ],
        {"reasoning_details": [{"type": "reasoning.text", "text": "One two", "index": 0, "signature": "c2ln"}]},
    ),
    "two_blocks_each_with_proof": (
        [
            {"reasoning_content": "One"},
            {"reasoning_details": [{**_SIGNED, "text": "One", "index": 0}]},
            {"reasoning_content": "Tw"},
            {"reasoning_content": "o"},
            {"reasoning_details": [{**_SIGNED, "signature": "Mnl0", "text": "Two", "index": 1}]},
        ],
        {
            "reasoning_content": "OneTwo",
            "reasoning_details": [
                {**_SIGNED, "text": "One", "index": 0},
                {**_SIGNED, "signature": "Mnl0", "text": "Two", "index": 1},
            ],
        },
    ),
    "hidden_beside_a_summary_of_the_same_index": (
        [
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "One two", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "aGlk", "id": "rs_1", "index": 0}]},
        ],
        {
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "One two", "index": 0},
                {"type": "reasoning.encrypted", "data": "aGlk", "id": "rs_1", "index": 1},
            ]
        },
    ),
    "as_thinking_blocks": (
        [
            {"reasoning_content": "One two"},
            {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2ln"}]},
        ],
        {"reasoning_content": "One two", "thinking_blocks": [{"type": "thinking", "signature": "c2ln"}]},
    ),
    "as_parts_of_the_content": (
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "One "}]}]},
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "two"}]}]},
        ],
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "One two"}]}]},
    ),
}


@pytest.mark.parametrize("shape", _REASONED)
def test_reasoning_is_the_same_streamed_and_whole(shape: str) -> None:
    deltas, message = _REASONED[shape]
    streamed = _streamed(*deltas, {"content": "Three."})
    content = {"content": "Three."} if "content" not in message else {"content": [*message["content"], "Three."]}
    whole = _whole({**message, **content})
    assert streamed.additional_kwargs == whole.additional_kwargs
    assert streamed.additional_kwargs["reasoning_content"] in ("One two", "OneTwo")
    assert streamed.content == whole.content == "Three."
    assert streamed.content_blocks == whole.content_blocks


@pytest.mark.parametrize("shape", _REASONED)
def test_reasoning_is_the_same_in_blocks_that_are_joined(shape: str) -> None:
    deltas, _ = _REASONED[shape]
    expected = [_bare(block) for block in _streamed(*deltas, {"content": "Three."}).content_blocks]
    joined = _v1_sum(*deltas, {"content": "Three."})
    for block in (*expected, *joined):
        if block["type"] == "non_standard":
            block["value"].pop("index", None)
    assert joined == expected


@pytest.mark.parametrize("shape", _REASONED)
def test_reasoning_goes_back_as_it_came(shape: str) -> None:
    deltas, _ = _REASONED[shape]
    message = _streamed(*deltas, {"content": "Three."})
    sent = _convert_message_to_dict(message)
    assert sent["reasoning_content"] == message.additional_kwargs["reasoning_content"]
    assert sent.get("reasoning_details") == message.additional_kwargs.get("reasoning_details")
    from_blocks = _convert_message_to_dict(AIMessage(content_blocks=message.content_blocks))
    assert from_blocks["content"] == "Three."
    proof = [
        [detail.get(key) for key in ("type", "text", "summary", "signature", "data")]
        for detail in sent.get("reasoning_details", ())
    ]
    if shape == "as_thinking_blocks":  # the text is said beside the proof, and joins it in the block
        proof[0][1] = "One two"
    assert proof == [
        [detail.get(key) for key in ("type", "text", "summary", "signature", "data")]
        for detail in from_blocks.get("reasoning_details", ())
    ]
    assert from_blocks["reasoning_content"] == sent["reasoning_content"]


def test_a_refusal_is_kept_and_goes_back() -> None:
    deltas: list[dict[str, Any]] = [{"refusal": "I will "}, {"refusal": "not."}]
    for message in (_streamed(*deltas), _whole({"content": None, "refusal": "I will not."})):
        assert message.additional_kwargs["refusal"] == "I will not."
        refusal = {"type": "refusal", "refusal": "I will not."}
        assert message.content_blocks == [{"type": "non_standard", "value": refusal}]
        assert _convert_message_to_dict(message) == {"role": "assistant", "content": None, "refusal": "I will not."}
        again = AIMessage(content_blocks=message.content_blocks)
        assert _convert_message_to_dict(again)["refusal"] == "I will not."
    assert _v1_sum(*deltas) == [{"type": "non_standard", "value": {"type": "refusal", "refusal": "I will not."}}]


def test_citations_are_annotations_of_the_text() -> None:
    cited = {"url": "https://example.com/a", "title": "A", "start_index": 0, "end_index": 4, "content": "so"}
    annotations = [{"type": "url_citation", "url_citation": cited}, {"type": "file_citation", "file_id": "f"}]
    deltas: list[dict[str, Any]] = [{"content": "It is so."}, {"annotations": annotations}]
    expected = {
        "type": "text",
        "text": "It is so.",
        "annotations": [
            {
                "type": "citation",
                "url": "https://example.com/a",
                "title": "A",
                "start_index": 0,
                "end_index": 4,
                "cited_text": "so",
            },
            {"type": "non_standard_annotation", "value": annotations[1]},
        ],
    }
    assert _streamed(*deltas).content_blocks == [expected]
    assert _whole({"content": "It is so.", "annotations": annotations}).content_blocks == [expected]
    assert _v1_sum(*deltas) == [expected]


def test_a_list_of_citations_that_every_chunk_repeats_is_kept_once() -> None:
    found = ["https://example.com/a", "https://example.com/b"]
    frames = [_frame({"content": word}, citations=found, search_results=[{"title": "A"}]) for word in ("a", "b", "c")]
    assert _sum(_read(frames)).additional_kwargs == {"citations": found, "search_results": [{"title": "A"}]}
    assert _whole({"content": "abc"}, citations=found).additional_kwargs == {"citations": found}


def test_sound_and_pictures_are_blocks() -> None:
    audio = {"id": "audio-1", "data": "UklGRg==", "transcript": "Good morning", "expires_at": 1}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}
    there = {"type": "image_url", "image_url": {"url": "https://example.com/p.png"}}
    message = _whole({"content": None, "audio": audio, "images": [picture, there]})
    sound = {"type": "audio", "id": "audio-1", "base64": "UklGRg=="}
    sound["extras"] = {"transcript": "Good morning", "expires_at": 1}  # type: ignore[assignment]
    assert message.content_blocks == [
        {"type": "image", "base64": "iVBORw0K", "mime_type": "image/png"},
        {"type": "image", "url": "https://example.com/p.png"},
        sound,
    ]
    assert _convert_message_to_dict(message) == {"role": "assistant", "content": None, "audio": {"id": "audio-1"}}
    joined = _v1_sum({"images": [picture]}, {"images": [there]}, {"audio": audio})
    assert joined == message.content_blocks
    spoken = _streamed({"audio": {"id": "audio-1", "data": "Ukl"}}, {"audio": {"data": "GRg=="}})
    assert spoken.additional_kwargs["audio"] == {"id": "audio-1", "data": "UklGRg=="}


def test_an_audio_of_nothing_is_nothing() -> None:
    assert _whole({"content": "x", "audio": {"id": "", "data": "", "expires_at": 0}}).additional_kwargs == {}


def test_content_that_is_a_list_or_an_object_loses_nothing() -> None:
    parts = [{"type": "text", "text": "See "}, "this", {"type": "reference", "reference_ids": [1]}]
    message = _whole({"content": parts})
    assert message.content == "See this"
    assert message.additional_kwargs == {"parts": [{"type": "reference", "reference_ids": [1]}]}
    assert message.content_blocks[-1] == {"type": "non_standard", "value": parts[-1]}
    assert _whole({"content": {"town": "Ghent"}}).content == '{"town":"Ghent"}'


def test_a_legacy_function_call_is_joined_and_goes_back() -> None:
    message = _streamed(
        {"function_call": {"name": "look", "arguments": '{"a"'}}, {"function_call": {"arguments": ": 1}"}}
    )
    assert message.additional_kwargs["function_call"] == {"name": "look", "arguments": '{"a": 1}'}
    assert _convert_message_to_dict(message)["function_call"]["arguments"] == '{"a": 1}'
    assert _whole({"content": "x", "function_call": {"name": "", "arguments": ""}}).additional_kwargs == {}


def test_several_answers_are_several_generations_and_the_usage_is_told_once() -> None:
    choices = [
        {"index": place, "message": {"role": "assistant", "content": f"#{place}"}, "finish_reason": "stop"}
        for place in range(3)
    ]
    result = create_chat_result({"id": "r", "model": "m", "choices": choices, "usage": _USAGE})
    assert [generation.text for generation in result.generations] == ["#0", "#1", "#2"]
    told = [getattr(generation.message, "usage_metadata", None) for generation in result.generations]
    assert told == [_create_usage_metadata(_USAGE), None, None]
    assert all(generation.message.response_metadata["finish_reason"] == "stop" for generation in result.generations)
    assert result.llm_output == {"model_name": "m", "token_usage": _USAGE}


# ---- messages to the provider


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (HumanMessage("x", name="ann"), {"role": "user", "content": "x", "name": "ann"}),
        (SystemMessage("x"), {"role": "system", "content": "x"}),
        (SystemMessage("x", additional_kwargs={"__openai_role__": "developer"}), {"role": "developer", "content": "x"}),
        (ToolMessage("x", tool_call_id="c", name="look"), {"role": "tool", "content": "x", "tool_call_id": "c"}),
        (FunctionMessage(content="x", name="look"), {"role": "function", "content": "x", "name": "look"}),
        (ChatMessage(content="x", role="judge"), {"role": "judge", "content": "x"}),
        (AIMessage("x"), {"role": "assistant", "content": "x"}),
        (AIMessage(""), {"role": "assistant", "content": ""}),
        (HumanMessageChunk(content="x"), {"role": "user", "content": "x"}),
    ],
)
def test_a_message_of_each_role_becomes_its_dict(message: Any, expected: dict[str, Any]) -> None:
    assert _convert_message_to_dict(message) == expected


def test_a_message_that_is_none_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="RemoveMessage"):
        _convert_message_to_dict(RemoveMessage(id="1"))


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer", "tool", "function", "judge"])
def test_a_dict_becomes_a_message_and_back(role: str) -> None:
    own = {"tool": {"tool_call_id": "c"}, "function": {"name": "look"}}.get(role, {})
    said = {"role": role, "content": "x", **own}
    assert _convert_message_to_dict(_convert_dict_to_message(said)) == said


def test_calls_and_their_results_go_back_with_their_ids() -> None:
    message = AIMessage("", tool_calls=[{"name": "look", "args": {"at": "café"}, "id": "c"}])
    assert _convert_message_to_dict(message) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": "café"}'}}],
    }


_PDF: Final = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "file.pdf"}}
_PNG: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}
_WAV: Final = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("x", {"type": "text", "text": "x"}),
        ({"type": "text", "text": "x", "id": "lc_1", "index": 0}, {"type": "text", "text": "x"}),
        (
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
        ),
        ({"type": "image", "url": "https://e.com/p"}, {"type": "image_url", "image_url": {"url": "https://e.com/p"}}),
        (
            {"type": "image", "url": "https://e.com/p", "extras": {"detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://e.com/p", "detail": "low"}},
        ),
        ({"type": "image", "base64": "iVBORw0K", "mime_type": "image/png"}, _PNG),
        ({"type": "image", "source_type": "base64", "data": "iVBORw0K", "mime_type": "image/png"}, _PNG),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}}, _PNG),
        ({"type": "image", "file_id": "f-1"}, {"type": "file", "file": {"file_id": "f-1"}}),
        (_PNG, _PNG),
        ({"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"}, _WAV),
        (
            {"type": "audio", "base64": "SUQz", "mime_type": "audio/mpeg"},
            {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        ),
        (_WAV, _WAV),
        ({"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"}, _PDF),
        ({"type": "file", "source_type": "base64", "data": "JVBERi0=", "mime_type": "application/pdf"}, _PDF),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
            _PDF,
        ),
        (
            {"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf", "extras": {"filename": "tide.pdf"}},
            {"type": "file", "file": {**_PDF["file"], "filename": "tide.pdf"}},  # type: ignore[dict-item]
        ),
        (
            {"type": "file", "url": "https://e.com/t.pdf"},
            {"type": "file", "file": {"file_data": "https://e.com/t.pdf", "filename": "file.pdf"}},
        ),
        ({"type": "file", "file_id": "f-1"}, {"type": "file", "file": {"file_id": "f-1"}}),
        ({"type": "file", "source_type": "id", "id": "f-1"}, {"type": "file", "file": {"file_id": "f-1"}}),
        (_PDF, _PDF),
        ({"type": "text-plain", "text": "x"}, {"type": "text", "text": "x"}),
        ({"type": "text-plain", "base64": "Y2Fmw6k=", "mime_type": "text/plain"}, {"type": "text", "text": "café"}),
        ({"type": "video", "url": "https://e.com/v"}, {"type": "video_url", "video_url": {"url": "https://e.com/v"}}),
        ({"type": "non_standard", "value": {"type": "puzzle", "pieces": 3}}, {"type": "puzzle", "pieces": 3}),
        ({"type": "puzzle", "pieces": 3}, {"type": "puzzle", "pieces": 3}),
    ],
)
def test_a_block_becomes_its_part(block: Any, part: dict[str, Any]) -> None:
    assert _convert_message_to_dict(HumanMessage(content=[block]))["content"] == [part]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image"},
        {"type": "image", "base64": "iVBORw0K"},
        {"type": "audio", "url": "https://example.com/a"},
        {"type": "file"},
        {"type": "video"},
    ],
)
def test_a_block_that_cannot_be_carried_is_an_error(block: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="block"):
        _convert_message_to_dict(HumanMessage(content=[block]))


def test_a_tools_answer_may_hold_a_picture() -> None:
    message = ToolMessage(content=["see", {"type": "image", "url": "https://e.com/p"}], tool_call_id="c")
    assert [part["type"] for part in _convert_message_to_dict(message)["content"]] == ["text", "image_url"]


def test_the_history_of_another_model_is_carried() -> None:
    content: list[str | dict[Any, Any]] = [
        {"type": "thinking", "thinking": "One", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlk"},
        {"type": "text", "text": "Two."},
        {"type": "tool_use", "id": "c", "name": "look", "input": {}},
    ]
    message = AIMessage(content=content, tool_calls=[{"id": "c", "name": "look", "args": {}}])
    assert _convert_message_to_dict(message) == {
        "role": "assistant",
        "content": "Two.",
        "reasoning_content": "One",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "One", "signature": "c2ln", "index": 0},
            {"type": "reasoning.encrypted", "data": "aGlk", "index": 1},
        ],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
