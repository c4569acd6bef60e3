"""A chat client's request, written for Cohere: what is carried, what is silent, and what is refused by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.message import File, Message, Opaque, Reasoning, RedactedReasoning, Text, ToolResult
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.cohere import COHERE
from counterfoil.dialects.cohere_v1 import COHERE_V1
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import CLIENT_DIALECTS

__all__: list[str] = []

ASK = {"role": "user", "content": "When is high tide?"}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tide_at",
        "description": "The tide's hour.",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}},
    },
}
OTHER = {"type": "function", "function": {"name": "now"}}


def asked(*messages: Any, **fields: Any) -> ChatRequest:
    """A chat client's request in canonical words."""
    body = {"model": "house-model", "messages": list(messages) or [ASK], **fields}
    request: ChatRequest = CLIENT_DIALECTS["openai_chat"].read_request(json.dumps(body).encode())
    return request


def written(*messages: Any, drop: bool = False, quirks: Quirks | None = None, **fields: Any) -> dict[str, Any]:
    wrote = COHERE.write_request(asked(*messages, **fields), "command-x", quirks or Quirks(), drop)
    body: dict[str, Any] = json.loads(wrote.body)
    return body


def dropped(*messages: Any, **fields: Any) -> tuple[str, ...]:
    return COHERE.write_request(asked(*messages, **fields), "command-x", Quirks(), True).dropped


def refused(*messages: Any, drop: bool = False, **fields: Any) -> str | None:
    with pytest.raises(RequestError) as error:
        written(*messages, drop=drop, **fields)
    return error.value.failure.param


def test_a_plain_question_is_a_plain_body() -> None:
    assert written() == {"model": "command-x", "messages": [ASK]}


def test_a_stream_is_asked_for_without_options() -> None:
    assert written(stream=True, stream_options={"include_usage": True})["stream"] is True
    assert dropped(stream=True, stream_options={"include_usage": True}) == ()


def test_system_and_developer_messages_are_system_turns() -> None:
    turns = written({"role": "system", "content": "Be brief."}, {"role": "developer", "content": "In metres."}, ASK)[
        "messages"
    ]
    assert turns == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "In metres."},
        ASK,
    ]


def test_sampling_is_carried_under_coheres_names() -> None:
    body = written(
        temperature=0.5,
        top_p=0.9,
        top_k=20,
        max_tokens=64,
        stop=["END", "STOP"],
        seed=7,
        presence_penalty=0.4,
        logprobs=True,
    )
    del body["model"], body["messages"]
    assert body == {
        "temperature": 0.5,
        "p": 0.9,
        "k": 20,
        "max_tokens": 64,
        "stop_sequences": ["END", "STOP"],
        "seed": 7,
        "presence_penalty": 0.4,
        "logprobs": True,
    }


def test_top_p_of_one_asks_for_no_cut_and_is_sent_as_the_widest_there_is() -> None:
    assert written(top_p=1)["p"] == 0.99
    assert refused(top_p=0) == "top_p"


def test_what_asks_for_what_happens_anyway_is_silent() -> None:
    fields: dict[str, Any] = {
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "logprobs": False,
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "store": False,
        "tool_choice": "auto",
        "tools": [TOOL],
    }
    assert written(**fields).keys() == {"model", "messages", "tools"}
    assert dropped(**fields) == ()


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("top_logprobs", {"logprobs": True, "top_logprobs": 2}),
        ("parallel_tool_calls", {"tools": [TOOL], "parallel_tool_calls": False}),
        ("tool_choice", {"tools": [TOOL, OTHER], "tool_choice": {"type": "function", "function": {"name": "now"}}}),
        ("presence_penalty", {"presence_penalty": -1}),
        ("frequency_penalty", {"frequency_penalty": 1.5}),
        ("service_tier", {"service_tier": "flex"}),
        ("logit_bias", {"logit_bias": {"50": 3}}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("reasoning_effort", {"reasoning_effort": "frantic"}),
        ("web_search_options", {"web_search_options": {}}),
        ("tools.strict", {"tools": [{**TOOL, "function": {**TOOL["function"], "strict": True}}, OTHER]}),
        ("tools.web_search", {"tools": [{"type": "web_search"}]}),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name_or_dropped_by_name(param: str, fields: dict[str, Any]) -> None:
    assert refused(**fields) == param
    assert param in dropped(**fields)


def test_several_choices_are_never_dropped() -> None:
    assert refused(n=2, drop=True) == "n"


def test_what_asks_nothing_of_the_reply_is_left_out_and_named() -> None:
    body = written(user="u-1", metadata={"team": "sea"}, prompt_cache_key="k")
    assert body.keys() == {"model", "messages"}
    assert dropped(user="u-1", metadata={"team": "sea"}, prompt_cache_key="k") == (
        "user",
        "metadata",
        "prompt_cache_key",
    )


@pytest.mark.parametrize(
    ("choice", "word"),
    [("required", "REQUIRED"), ("none", "NONE"), ({"type": "function", "function": {"name": "tide_at"}}, "REQUIRED")],
)
def test_a_forced_tool_is_forced_where_the_wire_can_say_it(choice: Any, word: str) -> None:
    assert written(tools=[TOOL], tool_choice=choice)["tool_choice"] == word


def test_a_tool_that_is_asked_for_must_be_there() -> None:
    assert refused(tool_choice="required", drop=True) == "tool_choice"
    assert "tool_choice" not in written(tool_choice="none")


def test_tools_are_carried_and_one_without_parameters_gets_an_empty_schema() -> None:
    tools = written(tools=[TOOL, OTHER])["tools"]
    assert tools[0] == TOOL
    assert tools[1]["function"] == {"name": "now", "parameters": {"type": "object", "properties": {}}}
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}
    assert written(tools=[strict])["strict_tools"] is True


@pytest.mark.parametrize(
    ("form", "wire"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "tide", "schema": {"type": "object"}, "strict": True}},
            {"type": "json_object", "json_schema": {"type": "object"}},
        ),
    ],
)
def test_json_is_asked_for_with_its_schema(form: Any, wire: Any) -> None:
    assert written(response_format=form)["response_format"] == wire


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "low"}, {"type": "enabled", "token_budget": 2048}),
        ({"reasoning_effort": "high"}, {"type": "enabled"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 300}}, {"type": "enabled", "token_budget": 300}),
        ({"thinking": {"type": "enabled", "token_budget": 400}}, {"type": "enabled", "token_budget": 400}),
        ({"thinking": {"type": "disabled"}}, {"type": "disabled"}),
    ],
)
def test_thinking_is_on_off_or_within_a_budget(fields: Any, thinking: Any) -> None:
    assert written(**fields)["thinking"] == thinking


def test_coheres_own_fields_are_carried_word_for_word() -> None:
    own: dict[str, Any] = {
        "documents": [{"id": "d", "data": {"text": "High tide is at noon."}}],
        "citation_options": {"mode": "FAST"},
        "safety_mode": "STRICT",
        "strict_tools": True,
        "priority": 3,
    }
    assert own.items() <= written(**own).items()


def test_images_are_carried_and_audio_is_refused() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    far = {"type": "image_url", "image_url": {"url": "https://sea.test/tide.png"}}
    (turn,) = written({"role": "user", "content": [{"type": "text", "text": "See:"}, picture, far]})["messages"]
    assert turn["content"] == [{"type": "text", "text": "See:"}, picture, far]
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert refused({"role": "user", "content": [sound]}, drop=True) == "messages"


def test_a_file_of_text_is_a_document_and_any_other_is_refused() -> None:
    text = base64.b64encode(b"High tide is at noon.").decode()
    note = {"type": "file", "file": {"filename": "note.txt", "file_data": f"data:text/plain;base64,{text}"}}
    more = [{"data": {"text": "Low tide is at six."}}]
    body = written({"role": "user", "content": [note, {"type": "text", "text": "When?"}]}, documents=more)
    assert body["messages"] == [{"role": "user", "content": "When?"}]
    assert body["documents"] == [*more, {"id": "doc:0", "data": {"title": "note.txt", "text": "High tide is at noon."}}]
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    assert refused({"role": "user", "content": [pdf]}, drop=True) == "messages"


@pytest.mark.parametrize(
    "file",
    [
        File(text="High at noon.", name="note.txt"),
        File(data="SGlnaCBhdCBub29uLg==", media_type="text/plain", name="note.txt"),
    ],
    ids=["text", "base64"],
)
def test_a_file_of_text_in_a_tools_answer_is_a_document_there(file: File) -> None:
    answer = Message("tool", (ToolResult("c-1", (Text("See:"), file)),))
    request = ChatRequest("house-model", (Message("user", (Text("When?"),)), answer))
    wrote = COHERE.write_request(request, "command-x", Quirks(), False)
    assert json.loads(wrote.body)["messages"][-1]["content"] == [
        {"type": "text", "text": "See:"},
        {"type": "document", "document": {"data": {"title": "note.txt", "text": "High at noon."}}},
    ]


CALL = {"id": "c-1", "type": "function", "function": {"name": "tide_at", "arguments": '{"port":"Brest"}'}}


def test_a_call_and_its_answer_are_turns_and_what_was_thought_is_the_plan() -> None:
    turns = written(
        ASK,
        {"role": "assistant", "content": "Looking.", "reasoning_content": "Look it up.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c-1", "content": "noon"},
    )["messages"]
    assert turns[1:] == [
        {"role": "assistant", "content": "Looking.", "tool_plan": "Look it up.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c-1", "content": "noon"},
    ]


def test_what_was_thought_before_a_text_goes_back_as_thinking() -> None:
    (_, turn, _) = written(
        ASK, {"role": "assistant", "content": "At noon.", "reasoning_content": "The tide turns."}, ASK
    )["messages"]
    assert turn["content"] == [
        {"type": "thinking", "thinking": "The tide turns."},
        {"type": "text", "text": "At noon."},
    ]


def test_proofs_of_another_model_stay_behind_without_an_error() -> None:
    parts = (Reasoning("elsewhere", "proof"), RedactedReasoning("secret"), Text("At noon."))
    request = ChatRequest("m", (Message("user", (Text("When?"),)), Message("assistant", parts)))
    body = json.loads(COHERE.write_request(request, "command-x", Quirks(), False).body)
    assert body["messages"][1] == {"role": "assistant", "content": "At noon."}


def test_a_tools_answer_in_the_middle_of_a_users_turn_is_a_turn_of_its_own() -> None:
    request = CLIENT_DIALECTS["anthropic_messages"].read_request(
        json.dumps(
            {
                "model": "m",
                "max_tokens": 9,
                "messages": [
                    {"role": "user", "content": "When?"},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "c-1", "name": "tide_at", "input": {"port": "Brest"}}],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "c-1", "content": "no such port", "is_error": True},
                            {"type": "text", "text": "And at Cork?"},
                        ],
                    },
                ],
            }
        ).encode()
    )
    turns = json.loads(COHERE.write_request(request, "command-x", Quirks(), False).body)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "user"]
    assert turns[2]["content"] == [
        {"type": "text", "text": "The tool failed:"},
        {"type": "text", "text": "no such port"},
    ]
    assert json.loads(turns[1]["tool_calls"][0]["function"]["arguments"]) == {"port": "Brest"}


def test_a_part_only_another_dialect_knows_is_refused_by_name() -> None:
    part = Opaque("openai_chat", "hologram", msgspec.Raw(b'{"type":"hologram"}'))
    request = ChatRequest("m", (Message("user", (Text("See"), part)),))
    with pytest.raises(RequestError) as error:
        COHERE.write_request(request, "command-x", Quirks(), False)
    assert error.value.failure.param == "messages.hologram"
    own = Opaque("cohere", "document", msgspec.Raw(b'{"type":"document","document":{"data":{}}}'))
    kept = ChatRequest("m", (Message("user", (Text("See"), own)),))
    turn = json.loads(COHERE.write_request(kept, "command-x", Quirks(), False).body)["messages"][0]
    assert turn["content"][1]["type"] == "document"


def test_fields_a_row_calls_unsupported_are_refused_or_dropped() -> None:
    quirks = Quirks(unsupported=frozenset({"thinking", "seed"}))
    with pytest.raises(RequestError, match="seed"):
        written(seed=3, quirks=quirks)
    assert "seed" not in written(seed=3, drop=True, quirks=quirks)


def test_v1_is_not_written_and_says_where_to_go() -> None:
    with pytest.raises(RequestError, match="v2") as error:
        COHERE_V1.write_request(asked(), "command-x", Quirks(), True)
    assert "`cohere`" in str(error.value)
