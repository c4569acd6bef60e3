"""Requests of clients of this dialect: what must be known, what is carried as it is, what canonical words say."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import RequestError
from counterfoil.core.event import ReasoningSigned, RedactedReasoningGiven, TextDelta
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
from counterfoil.core.operation import ChatRequest, CountRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import FinalUsage, Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES, OPENAI_RESPONSES_COUNT
from counterfoil.dialects.openai_responses.encode import ResponsesEncoder
from counterfoil.dialects.openai_responses.thought import ORIGIN, from_client, pack, to_client, unpack

from .schema import published
from .support import JSON, PLAIN, facts

CODEX: dict[str, Any] = {
    "model": "house-model",
    "instructions": "You work in a terminal.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look."}], "content": None,
         "encrypted_content": "gAAAx"},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"},
    ],
    "tools": [
        {"type": "function", "name": "shell", "description": "Runs.", "strict": False,
         "parameters": {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}}}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "high", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0196-made",
    "text": {"verbosity": "medium"},
    "client_metadata": {"x-codex-installation-id": "made"},
}  # fmt: skip
"""The shape of what Codex sends, with words of our own."""


NEXT_YEAR = {"type": "of_next_year", "a": 1}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, separators=(",", ":")).encode())


def read(*items: Any, **fields: Any) -> ChatRequest:
    said = {"model": "house-model", "input": list(items) or "Hi", **fields}
    request: ChatRequest = OPENAI_RESPONSES.read_request(json.dumps(said).encode())
    return request


def refused(*items: Any, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(*items, **fields)
    return caught.value


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


# ---- what must be known


def test_what_must_be_known_of_a_request() -> None:
    peek = OPENAI_RESPONSES.peek_request(json.dumps({**CODEX, "user": "u1"}).encode())
    assert (peek.model, peek.streamed, peek.usage_asked, peek.choices, peek.user) == (
        "house-model",
        True,
        True,
        1,
        "u1",
    )
    assert OPENAI_RESPONSES.peek_request(b'{"model":"m","safety_identifier":"s","input":"x"}').user == "s"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"input":"x"}', b'{"model":""}', b'{"model":3}', b"[" * 9999])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        OPENAI_RESPONSES.peek_request(body)


def test_a_background_reply_nobody_could_meter_is_refused_at_once() -> None:
    with pytest.raises(RequestError, match="background"):
        OPENAI_RESPONSES.peek_request(b'{"model":"m","input":"x","background":true}')
    assert OPENAI_RESPONSES.peek_request(b'{"model":"m","input":"x","background":true,"stream":true}').streamed


# ---- to a provider of the same dialect


def test_only_the_model_changes_for_a_provider_of_the_same_dialect() -> None:
    said = {**CODEX, "store": True, "previous_response_id": "resp_1", "conversation": "c", "of_next_year": [1.50]}
    body = json.dumps(said).encode()
    patched = OPENAI_RESPONSES.patch_request(body, "gpt-made", PLAIN, True)
    assert json.loads(patched) == {**said, "model": "gpt-made"}
    assert list(json.loads(patched)) == list(said)
    assert b"1.5" in patched


def test_a_proof_goes_back_to_its_maker_and_to_nobody_else() -> None:
    ours = {"type": "reasoning", "id": "rs_ours", "summary": []}
    items = [
        {**ours, "encrypted_content": to_client(pack("rs_1", "gAAAx"), ORIGIN)},
        {**ours, "encrypted_content": to_client("c2ln", "")},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAy"},
        user({"type": "input_text", "text": 'a text with "encrypted_content":"google-gemini-v1:x" in it'}),
    ]
    body = json.dumps({"model": "m", "input": items}).encode()
    patched = json.loads(OPENAI_RESPONSES.patch_request(body, "gpt-made", PLAIN, True))
    assert patched["input"] == [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAx"},
        items[2],
        items[3],
    ]


# ---- the input


def test_a_text_is_what_the_user_says() -> None:
    request = read(instructions="Be brief.")
    assert request.messages == (Message("system", (Text("Be brief."),)), Message("user", (Text("Hi"),)))


def test_codex_is_understood() -> None:
    request: ChatRequest = OPENAI_RESPONSES.read_request(json.dumps(CODEX).encode())
    assert [message.role for message in request.messages] == ["system", "developer", "user", "assistant", "tool"]
    assert request.messages[3].parts == (
        Reasoning("Look.", pack("", "gAAAx"), ORIGIN),
        ToolCall("call_1", "shell", '{"command":["ls"]}'),
    )
    assert request.messages[4].parts == (ToolResult("call_1", (Text("a.txt"),)),)
    assert (request.reasoning, request.parallel_tool_calls) == (ReasoningWish(effort="high"), False)
    assert [tool.name for tool in request.tools] == ["shell"]
    assert request.rest == {}
    assert set(request.hints) == {"prompt_cache_key", "client_metadata", "reasoning.summary", "text.verbosity"}


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, ANTHROPIC_MESSAGES], ids=lambda dialect: dialect.name)
def test_codex_can_cross(dialect: Any) -> None:
    request: ChatRequest = OPENAI_RESPONSES.read_request(json.dumps(CODEX).encode())
    written = dialect.write_request(request, "theirs", Quirks(), False)
    body = json.loads(written.body)
    assert len(body["tools"]) == 1
    # Chat has a place for proofs of anybody's, beside their maker's name; Anthropic's API has one for Claude's only.
    assert ("gAAAx" in written.body.decode()) == (ORIGIN in written.body.decode()) == (dialect is OPENAI_CHAT)
    assert "List the files." in written.body.decode()


def test_what_the_model_said_in_a_row_is_one_message() -> None:
    request = read(
        user({"type": "input_text", "text": "Go."}),
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAx"},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "phase": "commentary",
         "content": [{"type": "output_text", "text": "Looking."}, {"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": ""},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"},
                                                                     {"type": "input_image", "file_id": "f"}]},
        {"role": "assistant", "content": "Done."},
    )  # fmt: skip
    assert request.messages[1:] == (
        Message(
            "assistant",
            (
                RedactedReasoning(pack("rs_1", "gAAAx"), ORIGIN),
                Text("Looking."),
                Refusal("No."),
                ToolCall("c1", "look", "{}"),
                ToolCall("c2", "look", "{}"),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("1"),)),)),
        Message("tool", (ToolResult("c2", (Text("2"), Image(file_id="f"))),)),
        Message("assistant", (Text("Done."),)),
    )


@pytest.mark.parametrize(
    ("part", "canonical"),
    [
        ({"type": "input_text", "text": "a"}, Text("a")),
        ({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}, Text("a", CacheMark())),
        ({"type": "input_image", "image_url": "https://example.org/a"}, Image(url="https://example.org/a")),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
            Image(data="aGk=", media_type="image/png", detail="low"),
        ),
        ({"type": "input_image", "file_id": "f"}, Image(file_id="f")),
        ({"type": "input_file", "file_id": "f"}, File(file_id="f")),
        ({"type": "input_file", "file_url": "https://example.org/a.pdf"}, File(url="https://example.org/a.pdf")),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
            File(data="aGk=", media_type="application/pdf", name="a.pdf"),
        ),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": "aGk="},
            File(data="aGk=", media_type="application/pdf", name="a.pdf"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, Audio("aGk=", "wav")),
        (NEXT_YEAR, Opaque("openai_responses", "of_next_year", raw(NEXT_YEAR))),
        ({"type": "input_image"}, Opaque("openai_responses", "input_image", raw({"type": "input_image"}))),
    ],
)  # fmt: skip
def test_parts(part: Any, canonical: Any) -> None:
    (message,) = read(user(part)).messages
    (found,) = message.parts
    if isinstance(canonical, Opaque):
        assert isinstance(found, Opaque)
        assert (found.dialect, found.kind, json.loads(bytes(found.raw))) == (
            canonical.dialect,
            canonical.kind,
            json.loads(bytes(canonical.raw)),
        )
    else:
        assert found == canonical


def test_items_without_canonical_words_are_kept_word_for_word() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"}
    answer = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    request = read(user({"type": "input_text", "text": "Go."}), call, answer)
    assert [(message.role, message.parts[0].kind) for message in request.messages[1:]] == [  # type: ignore[union-attr]  # opaque parts
        ("assistant", "custom_tool_call"),
        ("tool", "custom_tool_call_output"),
    ]
    with pytest.raises(RequestError) as caught:
        ANTHROPIC_MESSAGES.write_request(request, "claude-made", Quirks(), False)
    assert "custom_tool_call" in (caught.value.failure.param or "")


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call", "name": "look"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c"}, "input[0].name"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c"}, "input[0].output"),
        ({"role": "robot", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"role": "user", "content": [{"text": "x"}]}, "input[0].content[0]"),
        ("text", "input[0]"),
        ({"type": 3}, "input[0]"),
    ],
)
def test_a_wrong_item_is_named_by_its_place(item: Any, param: str) -> None:
    assert refused(item).failure.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"name": "x"}]}, "tools[0]"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": {"format": {}}}, "text.format.type"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).failure.param == param


# ---- what needs a provider that stores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("background", True),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_what_needs_a_store_is_refused_when_it_crosses_and_says_why(name: str, value: Any) -> None:
    failure = refused(**{name: value}).failure
    assert (failure.param, failure.code, failure.status) == (name, "stateless", 400)
    assert "whole conversation" in failure.message


def test_an_item_that_is_stored_elsewhere_is_refused() -> None:
    assert refused({"type": "item_reference", "id": "msg_1"}).failure.code == "stateless"


@pytest.mark.parametrize(
    "fields",
    [
        {"store": False},
        {"store": None},
        {"previous_response_id": None},
        {"background": False},
        {"truncation": "disabled"},
        {"stream_options": {"include_obfuscation": False}},
        {"include": ["reasoning.encrypted_content"]},
        {"tool_choice": None, "reasoning": None, "text": None, "include": None, "tools": None},
    ],
)
def test_what_asks_for_what_happens_anyway_is_left_out_in_silence(fields: dict[str, Any]) -> None:
    request = read(**fields)
    assert (request.rest, request.hints) == ({}, ())


# ---- the other fields


def test_fields_with_canonical_words() -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"}
    request = read(
        max_output_tokens=64, temperature=0.5, top_p=0.9, top_logprobs=3, service_tier="flex", user="u",
        text={"format": form}, tool_choice={"type": "function", "name": "look"}, parallel_tool_calls=True, stream=True,
        tools=[{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}],
        include=["message.output_text.logprobs"],
    )  # fmt: skip
    assert (request.max_output_tokens, request.temperature, request.top_p) == (64, 0.5, 0.9)
    assert (request.logprobs, request.top_logprobs, request.service_tier, request.user) == (True, 3, "flex", "u")
    found = request.response_format
    assert found is not None
    assert msgspec.structs.replace(found, schema=None) == ResponseFormat("json_schema", "n", None, True, "d")
    assert found.schema is not None
    assert json.loads(bytes(found.schema)) == {"type": "object"}
    assert request.tool_choice == ToolChoice("named", "look")
    assert (request.parallel_tool_calls, request.stream, request.stream_usage) == (True, True, True)
    (tool,) = request.tools
    assert (tool.name, tool.strict, tool.parameters is not None) == ("look", True, True)
    assert (request.rest, request.hints) == ({}, ())


def test_tools_of_the_providers_own_are_kept_word_for_word_and_refused_by_name_when_they_cross() -> None:
    custom = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
    request = read(tools=[{"type": "web_search"}, custom])
    assert [tool.name for tool in request.tools] == ["web_search", "custom"]
    with pytest.raises(RequestError, match="web_search"):
        ANTHROPIC_MESSAGES.write_request(request, "claude-made", Quirks(), False)
    dropped = ANTHROPIC_MESSAGES.write_request(request, "claude-made", Quirks(), True)
    assert dropped.dropped == ("tools.web_search", "tools.custom")
    assert request.tools[0] == Tool("web_search", opaque=request.tools[0].opaque)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}),
        ("tool_choice", {"type": "web_search"}),
        ("truncation", "auto"),
        ("context_management", [{"type": "compaction"}]),
        ("of_next_year", 3),
    ],
)
def test_what_changes_the_reply_and_has_no_word_is_kept_by_name(name: str, value: Any) -> None:
    assert json.loads(bytes(read(**{name: value}).rest[name])) == value


def test_what_asks_nothing_of_the_reply_is_a_hint() -> None:
    request = read(
        metadata={"a": "b"}, safety_identifier="s", user="u", max_tool_calls=3, include=["web_search_call.results"]
    )
    assert request.rest == {}
    assert set(request.hints) == {"metadata", "safety_identifier", "max_tool_calls", "include.web_search_call.results"}
    assert request.user == "u"
    alone = read(safety_identifier="s")
    assert (alone.user, alone.hints) == ("s", ())


# ---- proofs, there and back


@pytest.mark.parametrize(
    ("event", "part"),
    [
        (ReasoningSigned("c2ln"), Reasoning("", "c2ln")),
        (ReasoningSigned("c2ln", origin="google-gemini-v1"), Reasoning("", "c2ln", "google-gemini-v1")),
        (ReasoningSigned(pack("rs_1", "gAAA"), origin=ORIGIN), Reasoning("", pack("rs_1", "gAAA"), ORIGIN)),
        (RedactedReasoningGiven("aGk="), RedactedReasoning("aGk=")),
        (RedactedReasoningGiven(pack("rs_1", "gAAA"), origin=ORIGIN), RedactedReasoning(pack("rs_1", "gAAA"), ORIGIN)),
    ],
)
def test_a_proof_survives_a_client_that_sends_its_history_back(event: Any, part: Any) -> None:
    """As OpenAI's documents say: the output goes into the next input as it is."""
    encoder = ResponsesEncoder(facts(streamed=False))
    encoder.encode([event, TextDelta("So.")])
    output = json.loads(encoder.close(FinalUsage(None)))["output"]
    (message,) = read(*output).messages
    assert message.parts == (part, Text("So."))


@given(st.text(max_size=40), st.sampled_from(["", ORIGIN, "google-gemini-v1"]))
def test_any_proof_keeps_its_maker(proof: str, origin: str) -> None:
    assert from_client("rs_ours", to_client(proof, origin)) == (proof, origin)


@given(st.from_regex(r"[A-Za-z0-9_-]{0,20}", fullmatch=True), st.from_regex(r"[A-Za-z0-9+/=_-]{1,30}", fullmatch=True))
def test_any_item_is_unpacked_as_it_was_packed(item_id: str, encrypted: str) -> None:
    assert unpack(pack(item_id, encrypted)) == (item_id, encrypted)


# ---- counts, and anything at all


def test_a_count_is_read_written_and_answered() -> None:
    body = json.dumps({key: CODEX[key] for key in ("model", "input", "tools", "instructions")}).encode()
    assert OPENAI_RESPONSES_COUNT.peek_request(body).model == "house-model"
    request = OPENAI_RESPONSES_COUNT.read_request(body)
    assert isinstance(request, CountRequest)
    assert len(request.chat.messages) == 5
    assert json.loads(OPENAI_RESPONSES_COUNT.patch_request(body, "gpt-made", PLAIN, False))["model"] == "gpt-made"


def test_what_is_written_for_a_provider_is_valid_item_by_item() -> None:
    request: ChatRequest = OPENAI_RESPONSES.read_request(json.dumps({**CODEX, "max_output_tokens": 64}).encode())
    body = json.loads(OPENAI_RESPONSES.write_request(request, "gpt-made", PLAIN, False).body)
    names = {
        "reasoning": "ReasoningItem",
        "function_call": "FunctionToolCall",
        "function_call_output": "FunctionCallOutputItemParam",
    }
    for item in body["input"]:
        # Without an id, as Codex sends them back; the schema has one.
        published(names.get(item.get("type"), "EasyInputMessage"), {"id": "rs_1", **item})
    for tool in body["tools"]:
        published("FunctionTool", tool)
    published("CreateResponse", {key: value for key, value in body.items() if key != "input"})


@given(JSON, st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include", "store", "truncation"]))
def test_no_request_raises_anything_else(value: Any, name: str) -> None:
    body = json.dumps({"model": "m", "input": "x", name: value}).encode()
    for read in (OPENAI_RESPONSES.peek_request, OPENAI_RESPONSES.read_request):
        with contextlib.suppress(RequestError):  # an infinite number is no JSON
            read(body)
    with contextlib.suppress(RequestError):
        OPENAI_RESPONSES.patch_request(body, "m", PLAIN, True)
