"""What becomes of a request that crosses to Converse: carried, silent, named, or refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, CountRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.bedrock_converse import BEDROCK_CONVERSE, BEDROCK_COUNT
from counterfoil.dialects.bedrock_converse.makers import UNKNOWN, maker_of
from counterfoil.dialects.dialect import Quirks

from .support import CLAUDE, body_of

__all__: list[str] = []

NOVA, NOVA_2, OSS, LLAMA, MISTRAL = (
    "us.amazon.nova-lite-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "openai.gpt-oss-120b-1:0",
    "meta.llama3-3-70b-instruct-v1:0",
    "mistral.mistral-large-2402-v1:0",
)
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3"
RAW = msgspec.Raw
HELLO = Message("user", (Text("When is high water?"),))
PIXEL = base64.b64encode(b"a picture").decode()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("house-model", messages or (HELLO,), **fields)


def content(*parts: Part, role: Any = "user", model: str = CLAUDE, drop: bool = False) -> Any:
    """The blocks of one message with these parts, after a first one."""
    turns = body_of(ask(HELLO, Message("assistant", (Text("At noon."),)), Message(role, parts)), model, drop=drop)[
        "messages"
    ]
    return turns[-1]["content"]


def refused(request: ChatRequest, model: str = CLAUDE) -> str | None:
    with pytest.raises(RequestError) as found:
        body_of(request, model)
    assert found.value.failure.status == 400
    return found.value.failure.param


# ---- where it goes


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
        (
            PROFILE,
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fa1b2c3",
        ),
        ("../../x?y#z", "..%2F..%2Fx%3Fy%23z"),
    ],
)
def test_the_model_is_one_segment_of_the_path(model: str, segment: str) -> None:
    assert BEDROCK_CONVERSE.path(model, False) == f"/model/{segment}/converse"
    assert BEDROCK_CONVERSE.path(model, True) == f"/model/{segment}/converse-stream"
    assert BEDROCK_COUNT.path(model, False) == f"/model/{segment}/count-tokens"


def test_neither_the_model_nor_the_stream_is_in_the_body() -> None:
    assert body_of(ask(stream=True, stream_usage=True)) == {
        "messages": [{"role": "user", "content": [{"text": "When is high water?"}]}]
    }


# ---- messages


def test_system_and_developer_messages_become_system_and_neighbours_one_turn() -> None:
    body = body_of(
        ask(
            Message("system", (Text("Be short."),)),
            Message("user", (Text("One."),)),
            Message("developer", (Text("Be kind."),)),
            Message("user", (Text("Two."), Text("  \n"))),
        )
    )
    assert body["system"] == [{"text": "Be short."}, {"text": "Be kind."}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "One."}, {"text": "Two."}]}]


def test_calls_and_results_alternate_and_results_open_their_turn() -> None:
    body = body_of(
        ask(
            HELLO,
            Message("assistant", (Text("Looking."), ToolCall("c1", "tide", '{"a": 1}'), ToolCall("c2", "noon", ""))),
            Message("user", (Text("Quick!"),)),
            Message("tool", (ToolResult("c1", (Text("12:00"), Image(data=PIXEL, media_type="image/png"))),)),
            Message("tool", (ToolResult("c2", (), is_error=True),)),
            tools=(Tool("tide"), Tool("noon")),
        )
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"text": "Looking."},
        {"toolUse": {"toolUseId": "c1", "name": "tide", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "c2", "name": "noon", "input": {}}},
    ]
    assert body["messages"][2]["content"] == [
        {
            "toolResult": {
                "toolUseId": "c1",
                "content": [{"text": "12:00"}, {"image": {"format": "png", "source": {"bytes": PIXEL}}}],
            }
        },
        {"toolResult": {"toolUseId": "c2", "content": [], "status": "error"}},
        {"text": "Quick!"},
    ]


def test_arguments_that_are_no_object_are_refused_and_numbers_keep_their_digits() -> None:
    assert refused(ask(HELLO, Message("assistant", (ToolCall("c", "t", "[1]"),)))) == "messages"
    written = BEDROCK_CONVERSE.write_request(
        ask(HELLO, Message("assistant", (ToolCall("c", "t", '{"n":1.10e40}'),))), CLAUDE, Quirks(), False
    )
    assert b'"input":{"n":1.10e40}' in written.body


@pytest.mark.parametrize("said", ["call/1+2", "x" * 64, "x" * 65, "ä" * 70, "fc_1|call_2"])
def test_an_id_is_made_to_fit_alike_in_call_and_result(said: str) -> None:
    body = body_of(
        ask(
            HELLO,
            Message("assistant", (ToolCall(said, "t", "{}"),)),
            Message("tool", (ToolResult(said, (Text("x"),)),)),
        )
    )
    call = body["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert call == body["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    assert len(call) <= 64
    assert (call == said) is (len(said) == 64), "what fits is kept, and nothing else"
    assert call == said or set(said) != {"x"} or len(said) > 64
    assert set(call) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")


def test_long_ids_that_differ_at_their_end_stay_apart() -> None:
    blocks = content(ToolCall("x" * 80 + "1", "t", "{}"), ToolCall("x" * 80 + "2", "t", "{}"), role="assistant")
    assert len({block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block}) == 2


def test_a_call_without_an_id_is_refused() -> None:
    assert refused(ask(HELLO, Message("assistant", (ToolCall("", "t", "{}"),)))) == "messages"


@pytest.mark.parametrize(
    ("kind", "form"),
    [("image/png", "png"), ("image/jpeg", "jpeg"), ("image/jpg", "jpeg"), ("image/gif", "gif"), ("image/webp", "webp")],
)
def test_an_image_is_carried_as_base64(kind: str, form: str) -> None:
    expected = [{"image": {"format": form, "source": {"bytes": PIXEL}}}]
    assert content(Image(data=PIXEL, media_type=kind)) == expected
    assert content(Image(url=f"data:{kind};base64,{PIXEL}")) == expected


def test_an_image_in_s3_is_carried_by_its_name() -> None:
    assert content(Image(url="s3://bucket/a/pier.jpg")) == [
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a/pier.jpg"}}}}
    ]
    assert refused(ask(Message("user", (Image(url="s3://bucket/pier"),)))) == "messages"


def test_what_would_have_to_be_fetched_is_refused_or_dropped_by_name() -> None:
    image, file = Image(url="https://pier.example/a.png"), File(url="https://pier.example/a.pdf")
    assert refused(ask(Message("user", (Text("See."), image)))) == "messages.image_url"
    assert refused(ask(Message("user", (Text("See."), file)))) == "messages.file_url"
    assert refused(ask(Message("user", (Image(file_id="f1"),)))) == "messages.file_id"
    body = body_of(ask(Message("user", (Text("See."), image, file))), drop=True)
    assert body["messages"][0]["content"] == [{"text": "See."}]
    assert body["dropped"] == ["messages.image_url", "messages.file_url"]


def test_another_kind_of_image_is_refused() -> None:
    assert refused(ask(Message("user", (Image(data=PIXEL, media_type="image/tiff"),)))) == "messages"


def test_documents_are_carried_with_names_the_api_takes_and_no_two_alike() -> None:
    data = base64.b64encode(b"%PDF").decode()
    blocks = content(
        File(data=data, media_type="application/pdf", name="tides_2026 (north).pdf"),
        File(data=data, media_type="application/pdf", name="tides_2026 (north).pdf"),
        File(text="noon"),
        File(data=data, media_type="text/csv; charset=utf-8"),
        File(url="s3://bucket/plan.docx", name="Pläne"),
    )
    documents = [block["document"] for block in blocks]
    assert [(one["format"], one["name"]) for one in documents] == [
        ("pdf", "tides 2026 (north) pdf"),
        ("pdf", "tides 2026 (north) pdf 2"),
        ("txt", "document"),
        ("csv", "document 2"),
        ("docx", "Pl ne"),
    ]
    assert base64.b64decode(documents[2]["source"]["bytes"]) == b"noon"
    assert documents[4]["source"] == {"s3Location": {"uri": "s3://bucket/plan.docx"}}
    assert refused(ask(Message("user", (File(data=data, media_type="application/zip"),)))) == "messages"


def test_audio_is_carried_in_a_format_the_api_knows() -> None:
    assert content(Audio("AAAA", "wav"))[0] == {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}}
    assert refused(ask(Message("user", (Audio("AAAA", "midi"),)))) == "messages"


def test_a_refusal_is_text_and_a_part_of_another_dialect_is_not_carried() -> None:
    assert content(Refusal("No."), role="assistant", model=LLAMA)[-1] == {"text": "No."}
    part = Opaque("anthropic_messages", "server_tool_use", RAW(b"{}"))
    assert refused(ask(HELLO, Message("assistant", (part,)))) == "messages.server_tool_use"


def test_a_conversation_without_a_turn_is_refused() -> None:
    assert refused(ask(Message("system", (Text("Be short."),)))) == "messages"


def test_a_speakers_name_is_named_as_left_out() -> None:
    assert body_of(ask(Message("user", (Text("Hi."),), name="ann")))["dropped"] == ["messages.name"]


# ---- reasoning in the history


def test_a_proof_goes_back_to_claude_and_opens_the_turn() -> None:
    blocks = body_of(
        ask(HELLO, Message("assistant", (Text("Noon."), Reasoning("So.", "c2ln"), RedactedReasoning("EqQB==")))),
    )["messages"][1]["content"]
    assert blocks == [
        {"reasoningContent": {"reasoningText": {"text": "So.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(b"EqQB==").decode()}},
        {"text": "Noon."},
    ]


@pytest.mark.parametrize(
    ("model", "part", "sent"),
    [
        (CLAUDE, Reasoning("So."), False),
        (CLAUDE, Reasoning("So.", "c2ln", origin="google-gemini-v1"), False),
        (CLAUDE, RedactedReasoning("abc", origin="openai-responses-v1"), False),
        (CLAUDE, RedactedReasoning("/wA=", origin="amazon-bedrock-v1"), True),
        (PROFILE, Reasoning("So.", "c2ln"), True),
        (OSS, Reasoning("So."), True),
        (OSS, Reasoning("So.", "c2ln", origin="google-gemini-v1"), True),
        (OSS, RedactedReasoning("abc"), False),
        (NOVA_2, Reasoning("So.", "c2ln"), False),
        (LLAMA, Reasoning("So."), False),
    ],
)
def test_a_proof_goes_to_nobody_else(model: str, part: Reasoning | RedactedReasoning, sent: bool) -> None:
    blocks = content(part, Text("Noon."), role="assistant", model=model)
    found = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    assert bool(found) is sent
    if model == OSS and found:
        assert found == [{"reasoningText": {"text": "So."}}]


def test_encrypted_reasoning_survives_the_way_out_and_back() -> None:
    from counterfoil.core.event import RedactedReasoningGiven

    from .support import heard, read_whole, whole

    for data in (b"EqQBCg==", b"\xff\x00\x81"):
        wire = base64.b64encode(data).decode()
        given = heard(read_whole(whole({"reasoningContent": {"redactedContent": wire}})))[0]
        assert isinstance(given, RedactedReasoningGiven)
        back = content(RedactedReasoning(given.data, given.origin), Text("x"), role="assistant")
        assert {"reasoningContent": {"redactedContent": wire}} in back


# ---- cache marks


def test_cache_marks_become_cache_points_behind_what_they_mark() -> None:
    mark, hour = CacheMark(), CacheMark("1h")
    body = body_of(
        ask(
            Message("system", (Text("Long.", cache=hour),)),
            Message("user", (Text("One.", cache=mark), Text("Two."))),
            tools=(Tool("tide", cache=mark),),
        )
    )
    assert body["system"] == [{"text": "Long."}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [
        {"text": "One."},
        {"cachePoint": {"type": "default"}},
        {"text": "Two."},
    ]
    assert body["toolConfig"]["tools"][1] == {"cachePoint": {"type": "default"}}


def test_a_marked_result_keeps_its_mark_when_results_are_put_first() -> None:
    blocks = body_of(
        ask(
            HELLO,
            Message("assistant", (ToolCall("c", "t", "{}"),)),
            Message("user", (Text("Quick!", cache=CacheMark()), ToolResult("c", (Text("12"),), cache=CacheMark("5m")))),
        )
    )["messages"][2]["content"]
    assert [next(iter(block)) for block in blocks] == ["toolResult", "cachePoint", "text", "cachePoint"]
    assert blocks[1]["cachePoint"]["ttl"] == "5m"


def test_a_model_that_caches_nothing_gets_no_mark_and_the_client_is_told() -> None:
    request = ask(Message("user", (Text("One.", cache=CacheMark()),)), tools=(Tool("tide", cache=CacheMark()),))
    body = body_of(request, LLAMA)
    assert "cachePoint" not in json.dumps(body)
    assert body["dropped"] == ["cache_control"]


# ---- tools


def test_tools_are_carried_with_their_schema_word_for_word() -> None:
    schema = RAW(b'{"type":"object","properties":{"n":{"const":1.0}}}')
    body = BEDROCK_CONVERSE.write_request(
        ask(tools=(Tool("tide", "High water.", schema, strict=True), Tool("noon", ""))), CLAUDE, Quirks(), False
    ).body
    assert b'"json":{"type":"object","properties":{"n":{"const":1.0}}}' in body
    first, second = json.loads(body)["toolConfig"]["tools"]
    assert (first["toolSpec"]["description"], first["toolSpec"]["strict"]) == ("High water.", True)
    assert second["toolSpec"] == {"name": "noon", "inputSchema": {"json": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, None),
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("named", "tide"), {"tool": {"name": "tide"}}),
    ],
)
def test_a_tool_choice_is_carried(choice: ToolChoice | None, written: object) -> None:
    assert body_of(ask(tools=(Tool("tide"),), tool_choice=choice))["toolConfig"].get("toolChoice") == written


def test_no_tools_at_all_is_how_tools_are_forbidden() -> None:
    assert "toolConfig" not in body_of(ask(tools=(Tool("tide"),), tool_choice=ToolChoice("none")))
    called = (HELLO, Message("assistant", (ToolCall("c", "tide", "{}"),)), Message("tool", (ToolResult("c", ()),)))
    forbidden = ask(*called, tools=(Tool("tide"),), tool_choice=ToolChoice("none"))
    assert refused(forbidden) == "tool_choice"
    body = body_of(forbidden, drop=True)
    assert body["toolConfig"]["tools"]
    assert body["dropped"] == ["tool_choice"]


def test_what_cannot_be_said_of_tools_is_refused() -> None:
    assert refused(ask(tool_choice=ToolChoice("required"))) == "tool_choice"
    for mode in ("auto", "none"):
        assert "toolConfig" not in body_of(ask(tool_choice=ToolChoice(mode)))
    assert refused(ask(tools=(Tool("tide"),), parallel_tool_calls=False)) == "parallel_tool_calls"
    assert refused(ask(tools=(Tool("web_search", opaque=RAW(b"{}")),))) == "tools.web_search"
    assert "dropped" not in body_of(ask(tools=(Tool("tide"),), parallel_tool_calls=True))


# ---- sampling, bounds, format


def test_inference_fields_have_their_own_names() -> None:
    body = body_of(ask(max_output_tokens=64, temperature=0.5, top_p=0.9, stop=("END", "STOP")))
    assert body["inferenceConfig"] == {
        "maxTokens": 64,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END", "STOP"],
    }


def test_temperature_and_top_p_of_one_are_said_where_the_maker_does_otherwise_unasked() -> None:
    assert body_of(ask(temperature=0.5, top_p=1.0))["inferenceConfig"] == {"temperature": 0.5}
    assert "inferenceConfig" not in body_of(ask(temperature=1.0, top_p=1.0))
    assert body_of(ask(temperature=0.5, top_p=1.0), NOVA)["inferenceConfig"] == {"temperature": 0.5, "topP": 1.0}


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        (CLAUDE, {"top_k": 40}),
        (NOVA, {"inferenceConfig": {"topK": 40}}),
        (MISTRAL, {"top_k": 40}),
        ("cohere.command-r-v1:0", {"k": 40}),
    ],
)
def test_top_k_goes_where_the_models_maker_has_it(model: str, extra: object) -> None:
    assert body_of(ask(top_k=40), model)["additionalModelRequestFields"] == extra


def test_top_k_that_nobody_takes_is_refused() -> None:
    assert refused(ask(top_k=40), LLAMA) == "top_k"
    assert refused(ask(top_k=40), PROFILE) == "top_k"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 1.5),
        ("top_p", 1.1),
        ("seed", 7),
        ("presence_penalty", 0.5),
        ("frequency_penalty", 0.5),
        ("logprobs", True),
        ("top_logprobs", 2),
    ],
)
def test_what_cannot_be_carried_is_refused_or_dropped_by_name(name: str, value: object) -> None:
    request = ask(**{name: value})
    assert refused(request) == name
    body = body_of(request, drop=True)
    assert body["dropped"] == [name]
    assert list(body) == ["messages", "dropped"]


def test_several_choices_are_refused_and_never_dropped() -> None:
    with pytest.raises(RequestError) as found:
        body_of(ask(n=2), drop=True)
    assert found.value.failure.param == "n"


def test_open_weight_models_of_openai_take_their_chat_fields() -> None:
    body = body_of(ask(seed=7, presence_penalty=0.5, frequency_penalty=0.25), OSS)
    assert body["additionalModelRequestFields"] == {"seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25}


def test_what_asks_for_the_default_says_nothing() -> None:
    request = ask(
        presence_penalty=0,
        frequency_penalty=0,
        logprobs=False,
        top_logprobs=0,
        service_tier="auto",
        response_format=ResponseFormat("text"),
        rest={"stream_options": RAW(b'{"include_usage":true}'), "store": RAW(b"false"), "logit_bias": RAW(b"{}")},
    )
    assert list(body_of(request)) == ["messages"]


def test_what_cannot_change_the_reply_is_left_out_and_named() -> None:
    request = ask(user="ann", rest={"metadata": RAW(b'{"a":"b"}'), "prompt_cache_key": RAW(b'"k"')})
    assert body_of(request)["dropped"] == ["user", "metadata", "prompt_cache_key"]


def test_an_unknown_field_is_refused() -> None:
    assert refused(ask(rest={"tomorrow": RAW(b"1")})) == "tomorrow"


def test_a_json_schema_is_json_text_in_the_output_config() -> None:
    form = ResponseFormat("json_schema", "Tide", RAW(b'{"type":"object"}'), strict=True, description="High water.")
    assert body_of(ask(response_format=form))["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "Tide", "description": "High water."}},
        }
    }
    assert refused(ask(response_format=ResponseFormat("json_object"))) == "response_format"


@pytest.mark.parametrize(("said", "tier"), [("default", "default"), ("flex", "flex"), ("priority", "priority")])
def test_a_service_tier_is_carried(said: str, tier: str) -> None:
    assert body_of(ask(service_tier=said))["serviceTier"] == {"type": tier}


def test_another_service_tier_is_refused() -> None:
    assert refused(ask(service_tier="scale")) == "service_tier"


def test_converses_own_fields_are_carried_word_for_word_and_joined_with_ours() -> None:
    rest = {
        "guardrailConfig": RAW(b'{"guardrailIdentifier":"g","guardrailVersion":"1","trace":"enabled"}'),
        "performanceConfig": RAW(b'{"latency":"optimized"}'),
        "requestMetadata": RAW(b'{"team":"tides"}'),
        "additionalModelRequestFields": RAW(b'{"anthropic_beta":["x"],"top_k":5}'),
        "additionalModelResponseFieldPaths": RAW(b'["/stop_sequence"]'),
        "outputConfig": RAW(b'{"effort":"low"}'),
    }
    form = ResponseFormat("json_schema", "T", RAW(b"{}"))
    body = body_of(ask(top_k=40, response_format=form, rest=rest))
    assert body["guardrailConfig"]["trace"] == "enabled"
    assert body["performanceConfig"] == {"latency": "optimized"}
    assert body["requestMetadata"] == {"team": "tides"}
    assert body["additionalModelRequestFields"] == {"top_k": 5, "anthropic_beta": ["x"]}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert set(body["outputConfig"]) == {"textFormat", "effort"}
    assert "dropped" not in body
    assert refused(ask(rest={"additionalModelRequestFields": RAW(b"7")})) == "additionalModelRequestFields"


CALLED = (
    HELLO,
    Message("assistant", (ToolCall("t1", "tides", "{}"), ToolCall("t2", "winds", "{}"), ToolCall("t3", "tides", "{}"))),
    Message("tool", tuple(ToolResult(name, (Text("Noon."),)) for name in ("t1", "t2", "t3"))),
    Message("user", (Text("Sum it up."),)),
)


@pytest.mark.parametrize(
    ("fields", "drop"),
    [
        pytest.param({}, False, id="none offered"),
        pytest.param({"tool_choice": ToolChoice("none")}, False, id="none offered and none allowed"),
        pytest.param({"tools": (Tool("web_search", opaque=RAW(b"{}")),)}, True, id="none left"),
    ],
)
def test_a_history_with_calls_brings_its_tools_where_the_request_offers_none(
    fields: dict[str, Any], drop: bool
) -> None:
    config = body_of(ask(*CALLED, **fields), drop=drop)["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == ["tides", "winds"]
    for tool in config["tools"]:
        assert tool["toolSpec"]["inputSchema"] == {"json": {"type": "object", "properties": {}}}
        assert "do not call it" in tool["toolSpec"]["description"]
    assert config.keys() == {"tools"}


def test_tools_that_a_request_offers_are_all_that_is_offered() -> None:
    tools = body_of(ask(*CALLED, tools=(Tool("moon"),)))["toolConfig"]["tools"]
    assert [tool["toolSpec"]["name"] for tool in tools] == ["moon"]


def test_a_history_without_calls_brings_no_tools() -> None:
    assert "toolConfig" not in body_of(ask(HELLO, Message("assistant", (Text("At noon."),)), HELLO))


def test_what_a_row_says_is_refused_is_refused_by_the_clients_name() -> None:
    quirks = Quirks(unsupported=frozenset({"inferenceConfig.temperature", "serviceTier"}))
    with pytest.raises(RequestError) as found:
        body_of(ask(temperature=0.5), quirks=quirks)
    assert found.value.failure.param == "temperature"
    body = body_of(ask(temperature=0.5, service_tier="flex"), quirks=quirks, drop=True)
    assert body["dropped"] == ["temperature", "service_tier"]
    assert list(body) == ["messages", "dropped"]


# ---- reasoning

OLD = Quirks(unsupported=frozenset({"thinking.adaptive"}))


@pytest.mark.parametrize(
    ("model", "quirks", "wish", "bound", "extra"),
    [
        (
            CLAUDE,
            None,
            ReasoningWish("low"),
            None,
            {"output_config": {"effort": "low"}, "thinking": {"type": "adaptive"}},
        ),
        (CLAUDE, None, ReasoningWish(enabled=True), None, {"thinking": {"type": "adaptive"}}),
        (CLAUDE, None, ReasoningWish(enabled=False), None, {"thinking": {"type": "disabled"}}),
        (
            CLAUDE,
            None,
            ReasoningWish(budget_tokens=2048),
            4096,
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        (CLAUDE, OLD, ReasoningWish("low"), None, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (CLAUDE, OLD, ReasoningWish("high"), 4000, {"thinking": {"type": "enabled", "budget_tokens": 3999}}),
        (
            NOVA_2,
            None,
            ReasoningWish("high"),
            None,
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
        ),
        (NOVA_2, None, ReasoningWish(enabled=False), None, {"reasoningConfig": {"type": "disabled"}}),
        (OSS, None, ReasoningWish("minimal"), None, {"reasoning_effort": "low"}),
    ],
)
def test_a_wish_to_reason_is_said_in_the_makers_words(
    model: str, quirks: Quirks | None, wish: ReasoningWish, bound: int | None, extra: object
) -> None:
    body = body_of(ask(reasoning=wish, max_output_tokens=bound), model, quirks=quirks)
    assert body["additionalModelRequestFields"] == extra


def test_where_the_maker_is_not_known_converses_own_word_is_used() -> None:
    assert body_of(ask(reasoning=ReasoningWish("xhigh")), PROFILE)["outputConfig"] == {"effort": "xhigh"}


@pytest.mark.parametrize("model", [CLAUDE, NOVA_2, OSS, LLAMA, PROFILE])
def test_no_wish_and_no_reasoning_say_nothing(model: str) -> None:
    assert list(body_of(ask(reasoning=ReasoningWish("none")), model)) == ["messages"]


def test_a_budget_becomes_the_nearest_effort_where_the_model_takes_efforts() -> None:
    body = body_of(ask(reasoning=ReasoningWish(budget_tokens=1024)), OSS)
    assert body["additionalModelRequestFields"] == {"reasoning_effort": "low"}
    assert body["dropped"] == ["thinking.budget_tokens"]


def test_a_wish_that_leaves_it_to_the_model_is_no_reason_to_refuse() -> None:
    body = body_of(ask(reasoning=ReasoningWish("high", enabled=True, free=True)), LLAMA)
    assert body["dropped"] == ["reasoning_effort"]


def test_the_highest_effort_of_nova_takes_no_sampling() -> None:
    """https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html: the three are an error there."""
    wish = {"temperature": 0.2, "top_p": 0.9, "top_k": 40, "max_output_tokens": 500}
    body = body_of(ask(reasoning=ReasoningWish("high"), **wish), NOVA_2, drop=True)
    assert body["inferenceConfig"] == {"maxTokens": 500}
    assert body["additionalModelRequestFields"] == {
        "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}
    }
    assert sorted(body["dropped"]) == ["temperature", "top_k", "top_p"]
    with pytest.raises(RequestError) as refused:
        body_of(ask(reasoning=ReasoningWish("high"), temperature=0.2), NOVA_2)
    assert refused.value.failure.param == "temperature"
    lower = body_of(ask(reasoning=ReasoningWish("medium"), **wish), NOVA_2)
    assert lower["inferenceConfig"] == {"maxTokens": 500, "temperature": 0.2, "topP": 0.9}
    assert lower["additionalModelRequestFields"]["inferenceConfig"] == {"topK": 40}


@pytest.mark.parametrize(
    ("model", "wish", "field"),
    [
        (LLAMA, ReasoningWish("high"), "reasoning_effort"),
        (NOVA, ReasoningWish("high"), "reasoning_effort"),
        (OSS, ReasoningWish("xhigh"), "reasoning_effort"),
        (CLAUDE, ReasoningWish("extreme"), "reasoning_effort"),
    ],
)
def test_a_wish_that_has_no_words_is_refused(model: str, wish: ReasoningWish, field: str) -> None:
    request = ask(reasoning=wish)
    assert refused(request, model) == field
    assert body_of(request, model, drop=True) == {
        "messages": [{"role": "user", "content": [{"text": "When is high water?"}]}],
        "dropped": [field],
    }


def test_a_bound_that_leaves_no_room_to_think_is_refused() -> None:
    with pytest.raises(RequestError):
        body_of(ask(reasoning=ReasoningWish("low"), max_output_tokens=1000), quirks=OLD)


# ---- makers


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("anthropic.claude-v2", True),
        ("global.anthropic.claude-sonnet-4-6", True),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0", True),
        ("deepseek.r1-v1:0", True),
        (PROFILE, False),
        ("my-alias", False),
    ],
)
def test_a_model_id_names_its_maker(model: str, known: bool) -> None:
    assert (maker_of(model) is not UNKNOWN) is known


# ---- counting


def test_a_count_takes_what_is_input_and_nothing_else() -> None:
    chat = ask(
        Message("system", (Text("Be short."),)),
        HELLO,
        tools=(Tool("tide"),),
        max_output_tokens=9,
        temperature=1.7,
        seed=3,
        n=4,
        user="ann",
        reasoning=ReasoningWish("low"),
    )
    written = BEDROCK_COUNT.write_request(CountRequest(chat), CLAUDE, Quirks(), False)
    (inner,) = json.loads(written.body)["input"].values()
    assert set(inner) == {"messages", "system", "toolConfig", "additionalModelRequestFields"}
    assert written.dropped == ()
