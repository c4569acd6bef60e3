"""A canonical request as a body for `generateContent`; every body is one that Google's own client would send."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from google.genai import types

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.gemini import GEMINI
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini.turns import STAND_IN

from .support import PLAIN, asked, said_by_model, user

SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"port":{"type":"string"}},"additionalProperties":false}')
TIDE = Tool("tide", "When the water is high", SCHEMA)
CALL = ToolCall("call-1", "tide", '{"port":"Brest"}')


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def written(request: ChatRequest, quirks: Quirks = PLAIN) -> dict[str, Any]:
    """The body, read once more by Google's own types."""
    out = GEMINI.write_request(request, "gemini-made-1", quirks, False)
    body: dict[str, Any] = json.loads(out.body)
    for content in body["contents"]:
        types.Content.model_validate(content)
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    return body


def dropped(request: ChatRequest, quirks: Quirks = PLAIN) -> tuple[str, ...]:
    return GEMINI.write_request(request, "gemini-made-1", quirks, True).dropped


def refused(request: ChatRequest, quirks: Quirks = PLAIN) -> str | None:
    with pytest.raises(RequestError) as caught:
        GEMINI.write_request(request, "gemini-made-1", quirks, False)
    return caught.value.failure.param


def test_the_model_and_the_stream_are_in_the_path_only() -> None:
    assert GEMINI.path("gemini-made-1", False) == "/models/gemini-made-1:generateContent"
    assert GEMINI.path("gemini-made-1", True) == "/models/gemini-made-1:streamGenerateContent?alt=sse"
    assert GEMINI.path("tunedModels/mine", False) == "/tunedModels/mine:generateContent"
    assert GEMINI.path("a?b/../c", False) == "/a%3Fb/%2E%2E/c:generateContent"
    assert written(asked(stream=True)) == {"contents": [{"role": "user", "parts": [{"text": "When is the tide?"}]}]}


def test_roles_become_turns_and_the_system_its_own_field() -> None:
    body = written(
        asked(
            Message("system", (Text("Be brief."),)),
            Message("developer", (Text("Be right."),)),
            user("Tide?"),
            user("At Brest."),
            said_by_model(Text("Six.")),
            user("And tomorrow?"),
        )
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be right."}]}
    assert [(turn["role"], [part["text"] for part in turn["parts"]]) for turn in body["contents"]] == [
        ("user", ["Tide?", "At Brest."]),
        ("model", ["Six."]),
        ("user", ["And tomorrow?"]),
    ]


def test_a_request_without_a_turn_is_refused() -> None:
    assert refused(asked(Message("system", (Text("Be brief."),)))) == "messages"


def test_tools_are_declared_in_json_schema() -> None:
    body = written(asked(tools=(TIDE, Tool("now"))))
    declared = [
        {"name": "tide", "description": TIDE.description, "parametersJsonSchema": json.loads(bytes(SCHEMA))},
        {"name": "now"},
    ]
    assert body["tools"] == [{"functionDeclarations": declared}]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "strict", "wanted"),
    [
        (None, None, None),
        (ToolChoice("auto"), None, None),
        (ToolChoice("none"), None, {"mode": "NONE"}),
        (ToolChoice("required"), None, {"mode": "ANY"}),
        (ToolChoice("named", "tide"), True, {"mode": "ANY", "allowedFunctionNames": ["tide"]}),
        (None, True, {"mode": "VALIDATED"}),
    ],
)
def test_a_tool_can_be_forced_or_forbidden(choice: ToolChoice | None, strict: bool | None, wanted: object) -> None:
    tool = msgspec.structs.replace(TIDE, strict=strict)
    body = written(asked(tools=(tool,), tool_choice=choice, parallel_tool_calls=True))
    assert body.get("toolConfig", {}).get("functionCallingConfig") == wanted


def test_what_cannot_be_asked_of_tools_is_refused_by_name() -> None:
    assert refused(asked(tools=(TIDE,), parallel_tool_calls=False)) == "parallel_tool_calls"
    assert refused(asked(tool_choice=ToolChoice("required"))) == "tool_choice"
    other = Tool("web_search", opaque=raw({"type": "web_search"}))
    assert refused(asked(tools=(other,))) == "tools.web_search"
    assert dropped(asked(tools=(TIDE, other))) == ("tools.web_search",)


def test_googles_own_tools_are_carried() -> None:
    own = Tool("googleSearch", opaque=raw({"googleSearch": {}}))
    assert written(asked(tools=(TIDE, own)))["tools"][1] == {"googleSearch": {}}


def test_a_call_and_its_answers_are_a_turn_each_and_the_answer_has_the_calls_name() -> None:
    history = (
        user(),
        said_by_model(Text("Let me look."), CALL, ToolCall("call-2", "now", "")),
        Message("tool", (ToolResult("call-1", (Text('{"high":"06:00"}'),)),)),
        Message("tool", (ToolResult("call-2", (Text("noon"),)),)),
        user("So?"),
    )
    _, model, results, last = written(asked(*history))["contents"]
    assert model["parts"] == [
        {"text": "Let me look."},
        {"functionCall": {"id": "call-1", "name": "tide", "args": {"port": "Brest"}}},
        {"functionCall": {"id": "call-2", "name": "now", "args": {}}},
    ]
    assert results["role"] == "user"
    assert results["parts"] == [
        {"functionResponse": {"id": "call-1", "name": "tide", "response": {"high": "06:00"}}},
        {"functionResponse": {"id": "call-2", "name": "now", "response": {"output": "noon"}}},
    ]
    assert last["parts"] == [{"text": "So?"}]
    without = written(asked(*history), Quirks(unsupported=frozenset({"functionCall.id"})))
    assert "call-1" not in json.dumps(without)


def answer(*parts: Any, failed: bool = False) -> tuple[Message, ...]:
    return user(), said_by_model(CALL), Message("tool", (ToolResult("call-1", parts, failed),))


def test_a_failed_tool_says_so() -> None:
    body = written(asked(*answer(Text('{"a":1}'), failed=True)))
    assert body["contents"][-1]["parts"][0]["functionResponse"]["response"] == {"error": '{"a":1}'}


def test_a_picture_in_an_answer_is_inside_it_or_after_it() -> None:
    picture = Image(data="AAAA", media_type="image/png")
    inline = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    inside = written(asked(*answer(Text("Here."), picture)))["contents"]
    assert inside[-1]["parts"][0]["functionResponse"]["parts"] == [inline]
    old = Quirks(unsupported=frozenset({"functionResponse.parts"}))
    outside = written(asked(*answer(Text("Here."), picture)), old)["contents"]
    assert "parts" not in outside[-2]["parts"][0]["functionResponse"]
    assert outside[-1] == {"role": "user", "parts": [inline]}


def test_history_that_contradicts_itself_is_refused() -> None:
    assert refused(asked(user(), Message("tool", (ToolResult("nobody", (Text("x"),)),)))) == "messages"
    assert refused(asked(user(), said_by_model(ToolCall("c", "tide", "[1]")))) == "messages"
    assert refused(asked(user(), said_by_model(ToolCall("c", "tide", '{"a')))) == "messages"


def test_googles_proofs_go_back_to_the_part_they_came_with() -> None:
    own = Reasoning("Hm.", "c2lnMQ==", ORIGIN)
    body = written(asked(user(), said_by_model(own, CALL, ToolCall("call-2", "now", "{}")), *answer(Text("x"))[2:]))
    thought, first, second = body["contents"][1]["parts"]
    assert thought == {"text": "Hm.", "thought": True}
    assert (first["thoughtSignature"], "thoughtSignature" in second) == ("c2lnMQ==", False)
    text = written(asked(user(), said_by_model(Reasoning("", "c2ln", ORIGIN), Text("Six.")), user()))
    assert text["contents"][1]["parts"] == [{"text": "Six.", "thoughtSignature": "c2ln"}]
    drawn = Image(data="aGk=", media_type="image/png")
    between = written(asked(user(), said_by_model(Reasoning("", "c2ln", ORIGIN), drawn, Text("Six.")), user()))
    assert [part.get("thoughtSignature") for part in between["contents"][1]["parts"]] == [None, "c2ln"]
    late = written(asked(user(), said_by_model(Text("Six."), Reasoning("", "c2ln", ORIGIN)), user()))
    assert late["contents"][1]["parts"] == [{"text": "Six."}, {"text": "", "thoughtSignature": "c2ln"}]


@pytest.mark.parametrize(
    "foreign",
    [Reasoning("Hm.", "abc"), Reasoning("Hm."), RedactedReasoning("abc"), Reasoning("", "x", "openai-responses-v1")],
)
def test_another_makers_reasoning_is_left_out_without_a_word(foreign: Any) -> None:
    request = asked(user(), said_by_model(foreign, Text("Six.")), user())
    assert written(request)["contents"][1]["parts"] == [{"text": "Six."}]
    assert dropped(request) == ()


def test_a_model_that_demands_proofs_gets_the_documented_stand_in_for_calls_of_others() -> None:
    strict = Quirks(signed_calls=True)
    history = answer(Text("x"))
    parts = written(asked(user(), said_by_model(CALL, ToolCall("call-2", "now", "{}"))), strict)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [STAND_IN, None]
    assert STAND_IN not in json.dumps(written(asked(*history)))
    own = said_by_model(Reasoning("", "c2ln", ORIGIN), CALL)
    assert STAND_IN not in json.dumps(written(asked(user(), own), strict))


def test_media_is_inline_or_an_address() -> None:
    parts = (
        Image(data="AAAA", media_type="image/png"),
        Image(url="data:image/webp;base64,BBBB"),
        Image(url="https://example.com/tide.JPG?x=1"),
        Image(url="https://example.com/tide"),
        File(data="CCCC", media_type="application/pdf"),
        File(file_id="https://generativelanguage.googleapis.com/v1beta/files/abc"),
        File(text="plain"),
        Audio("DDDD", "mp3"),
    )
    found = written(asked(Message("user", parts)))["contents"][0]["parts"]
    assert found == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"inlineData": {"mimeType": "image/webp", "data": "BBBB"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/tide.JPG?x=1"}},
        {"fileData": {"fileUri": "https://example.com/tide"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "CCCC"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"text": "plain"},
        {"inlineData": {"mimeType": "audio/mp3", "data": "DDDD"}},
    ]
    assert refused(asked(Message("user", (File(data="CCCC"),)))) == "messages"
    assert refused(asked(Message("user", (Image(url="data:image/png,AAAA"),)))) == "messages"


def test_parts_of_this_dialect_are_carried_and_others_refused() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    own = said_by_model(Opaque("gemini", "executableCode", raw(code)), Text("1"))
    assert written(asked(user(), own, user()))["contents"][1]["parts"][0] == code
    foreign = said_by_model(Opaque("anthropic_messages", "server_tool_use", raw({})), Text("1"))
    assert refused(asked(user(), foreign)) == "messages.server_tool_use"
    assert dropped(asked(user(), foreign)) == ("messages.server_tool_use",)


def test_sampling_has_its_own_names() -> None:
    request = asked(
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        n=2,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=3,
        stop=("END",),
    )
    assert written(request)["generationConfig"] == {
        "maxOutputTokens": 50,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "candidateCount": 2,
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 3,
        "stopSequences": ["END"],
    }


def test_what_asks_for_the_default_anyway_is_silent() -> None:
    request = asked(
        n=1,
        presence_penalty=0,
        frequency_penalty=0,
        logprobs=False,
        top_logprobs=0,
        response_format=ResponseFormat("text"),
        service_tier="default",
        rest={
            "stream_options": raw({"include_usage": True}),
            "store": raw(False),
            "logit_bias": raw({}),
            "x": raw(None),
        },
    )
    assert written(request).keys() == {"contents"}
    assert dropped(request) == ()


def test_structured_output_keeps_its_schema() -> None:
    wish = ResponseFormat("json_schema", "tide", SCHEMA, True)
    config = written(asked(response_format=wish))["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": json.loads(bytes(SCHEMA))}
    loose = written(asked(response_format=ResponseFormat("json_object")))["generationConfig"]
    assert loose == {"responseMimeType": "application/json"}


BUDGETS_ONLY = Quirks(unsupported=frozenset({"thinkingConfig.thinkingLevel"}))
PRO = Quirks(unsupported=frozenset({"thinkingLevel.minimal", "thinkingLevel.medium", "thinkingConfig.off"}))
NO_THOUGHT = Quirks(unsupported=frozenset({"thinkingConfig"}))


@pytest.mark.parametrize(
    ("wish", "quirks", "wanted"),
    [
        (ReasoningWish("low"), PLAIN, {"includeThoughts": True, "thinkingLevel": "low"}),
        (ReasoningWish("xhigh"), PLAIN, {"includeThoughts": True, "thinkingLevel": "high"}),
        (ReasoningWish("minimal"), PRO, {"includeThoughts": True, "thinkingLevel": "low"}),
        (ReasoningWish("medium"), PRO, {"includeThoughts": True, "thinkingLevel": "high"}),
        (ReasoningWish("medium"), BUDGETS_ONLY, {"includeThoughts": True, "thinkingBudget": 8192}),
        (ReasoningWish(budget_tokens=2000), PLAIN, {"includeThoughts": True, "thinkingBudget": 2000}),
        (ReasoningWish(enabled=True), PLAIN, {"includeThoughts": True}),
        (ReasoningWish(enabled=True), BUDGETS_ONLY, {"includeThoughts": True, "thinkingBudget": -1}),
        (ReasoningWish("none"), BUDGETS_ONLY, {"thinkingBudget": 0}),
        (ReasoningWish(enabled=False), PLAIN, {"thinkingLevel": "minimal"}),
        (ReasoningWish("none"), NO_THOUGHT, None),
    ],
)
def test_thinking_is_a_level_or_a_budget_by_model(wish: ReasoningWish, quirks: Quirks, wanted: object) -> None:
    body = written(asked(reasoning=wish), quirks)
    assert body.get("generationConfig", {}).get("thinkingConfig") == wanted


@pytest.mark.parametrize(
    ("wish", "quirks"),
    [(ReasoningWish("none"), PRO), (ReasoningWish("high"), NO_THOUGHT), (ReasoningWish("much"), PLAIN)],
)
def test_thinking_that_a_model_cannot_do_is_refused(wish: ReasoningWish, quirks: Quirks) -> None:
    assert refused(asked(reasoning=wish), quirks) == "reasoning_effort"
    assert dropped(asked(reasoning=wish), quirks) == ("reasoning_effort",)


def test_fields_of_googles_own_go_where_they_belong() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    body = written(
        asked(
            temperature=0.5,
            tools=(TIDE,),
            tool_choice=ToolChoice("required"),
            rest={
                "safety_settings": raw(safety),
                "cachedContent": raw("cachedContents/x"),
                "labels": raw({"team": "harbour"}),
                "generationConfig": raw({"mediaResolution": "MEDIA_RESOLUTION_LOW", "temperature": 1}),
                "generationConfig.responseModalities": raw(["TEXT"]),
                "toolConfig.retrievalConfig": raw({"languageCode": "fr"}),
            },
        )
    )
    assert (body["safetySettings"], body["cachedContent"], body["labels"]) == (
        safety,
        "cachedContents/x",
        {"team": "harbour"},
    )
    assert body["generationConfig"] == {
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "temperature": 0.5,
        "responseModalities": ["TEXT"],
    }
    assert body["toolConfig"] == {"retrievalConfig": {"languageCode": "fr"}, "functionCallingConfig": {"mode": "ANY"}}


def test_what_asks_nothing_of_the_reply_is_left_out_and_named() -> None:
    request = asked(
        Message("user", (Text("Tide?", CacheMark()), Image(url="https://example.com/a.png", detail="low")), "ada"),
        user="u-1",
        rest={"metadata": raw({"a": "b"}), "prompt_cache_key": raw("k")},
    )
    assert dropped(request) == (
        "messages.name",
        "cache_control",
        "messages.image_url.detail",
        "user",
        "metadata",
        "prompt_cache_key",
    )
    assert written(request)["contents"][0]["parts"][0] == {"text": "Tide?"}


@pytest.mark.parametrize(
    ("field", "value"), [("logit_bias", {"5": 1}), ("verbosity", "high"), ("a_new_field", 1), ("modalities", ["audio"])]
)
def test_what_has_no_word_here_is_refused_by_name(field: str, value: object) -> None:
    assert refused(asked(rest={field: raw(value)})) == field
    assert dropped(asked(rest={field: raw(value)})) == (field,)


@pytest.mark.parametrize(
    ("tier", "wanted"), [("auto", None), ("default", None), ("flex", "flex"), ("priority", "priority")]
)
def test_service_tiers(tier: str, wanted: str | None) -> None:
    assert written(asked(service_tier=tier)).get("serviceTier") == wanted


def test_a_tier_of_others_is_refused() -> None:
    assert refused(asked(service_tier="scale")) == "service_tier"


def test_what_a_provider_refuses_is_refused_by_name() -> None:
    quirks = Quirks(unsupported=frozenset({"generationConfig.seed", "systemInstruction"}))
    assert refused(asked(seed=1), quirks) == "generationConfig.seed"
    assert dropped(asked(Message("system", (Text("Be brief."),)), user(), seed=1), quirks) == (
        "generationConfig.seed",
        "systemInstruction",
    )
    assert written(asked(), quirks).keys() == {"contents"}


def test_a_refusal_in_the_history_is_what_the_model_said() -> None:
    assert written(asked(user(), said_by_model(Refusal("I will not.")), user()))["contents"][1]["parts"] == [
        {"text": "I will not."}
    ]


def test_empty_text_is_not_sent() -> None:
    assert written(asked(user(""), user("Tide?")))["contents"] == [{"role": "user", "parts": [{"text": "Tide?"}]}]
