"""A client's request in Gemini's words: what its URL says, what its body says, and what is sent on unchanged."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    RedactedReasoning,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, EmbedRequest, ReasoningWish, ResponseFormat, ToolChoice
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.gemini import GEMINI, GEMINI_COUNT, GEMINI_EMBED, Asked, asked_of, splice
from counterfoil.dialects.gemini.door import ARRAY, ONE
from counterfoil.dialects.gemini.proof import seal, seal_redacted, unseal
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini.turns import STAND_IN

from .support import PLAIN

CONTENTS = [{"role": "user", "parts": [{"text": "When is the tide?"}]}]
CHAT = Asked("gemini", "house-model")


def body(**fields: Any) -> bytes:
    return json.dumps({"contents": CONTENTS, **fields}).encode()


def read(**fields: Any) -> ChatRequest:
    found: ChatRequest = GEMINI.read_request(splice(body(**fields), CHAT))
    return found


def parts_of(*contents: dict[str, Any]) -> tuple[Message, ...]:
    return read(contents=list(contents)).messages


@pytest.mark.parametrize(
    ("path", "alt", "wanted"),
    [
        ("/v1beta/models/gemini-made-1:generateContent", "", Asked("gemini", "gemini-made-1")),
        ("/v1/models/gemini-made-1:streamGenerateContent", "sse", Asked("gemini", "gemini-made-1", True)),
        ("/v1beta/models/made:streamGenerateContent", "", Asked("gemini", "made", True, ARRAY)),
        ("/v1beta/models/made:streamGenerateContent", "json", Asked("gemini", "made", True, ARRAY)),
        ("/v1beta/models/openai/gpt-made:countTokens", "", Asked("gemini.count", "openai/gpt-made")),
        ("/v1beta/models/llama%3A8b:generateContent", "", Asked("gemini", "llama:8b")),
        ("/v1beta/tunedModels/mine:generateContent", "", Asked("gemini", "tunedModels/mine")),
        ("/v1beta/models/made:embedContent", "", Asked("gemini.embed", "made", False, ONE)),
        ("/v1beta/models/made:batchEmbedContents", "", Asked("gemini.embed", "made")),
        ("/v1/projects/p/locations/l/publishers/google/models/made:generateContent", "", Asked("gemini", "made")),
        ("/v1beta/models/made:predict", "", None),
        ("/v1beta/models", "", None),
        ("/v1beta/models/made", "", None),
        ("/v1beta/models/:generateContent", "", None),
    ],
)
def test_a_url_says_the_model_the_operation_and_the_stream(path: str, alt: str, wanted: Asked | None) -> None:
    assert asked_of(path, alt) == wanted


def test_what_the_url_says_travels_in_the_body_and_is_taken_out_again() -> None:
    asked = Asked("gemini", "house-model", True, ARRAY)
    sent = (
        b'{"unknown_field" : 1.0, "contents":[{"parts":[{"text":"Tide?"}]}],"generation_config":{"candidate_count":2}}'
    )
    spliced = splice(sent, asked)
    peek = GEMINI.peek_request(spliced)
    assert (peek.model, peek.streamed, peek.form, peek.choices, peek.usage_asked) == (
        "house-model",
        True,
        ARRAY,
        2,
        True,
    )
    chat: ChatRequest = GEMINI.read_request(spliced)
    assert (chat.model, chat.stream, chat.n) == ("house-model", True, 2)
    patched = GEMINI.patch_request(spliced, "gemini-made-1", PLAIN, True)
    assert list(json.loads(patched)) == ["unknown_field", "contents", "generation_config"]
    assert b'"unknown_field":1.0' in patched
    assert GEMINI.patch_request(sent, "gemini-made-1", PLAIN, True) == sent


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"contents":[]}', b"{}", b'{"contents":5}', b"[" * 5000])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError):
        GEMINI.peek_request(text)


SNAKE = {
    "system_instruction": {"parts": {"text": "Be brief."}},
    "generation_config": {
        "max_output_tokens": "50",
        "temperature": 1,
        "top_p": 0.5,
        "top_k": 40.0,
        "stop_sequences": ["END"],
        "candidate_count": 2,
        "seed": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "response_logprobs": True,
        "logprobs": 4,
        "response_modalities": ["TEXT"],
        "media_resolution": "MEDIA_RESOLUTION_LOW",
    },
    "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "service_tier": "FLEX",
}


def camel(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    joined = {key.split("_")[0] + "".join(word.title() for word in key.split("_")[1:]): key for key in value}
    return {name: camel(value[key]) for name, key in joined.items()}


def test_both_names_of_a_field_are_read() -> None:
    found = read(**SNAKE)
    assert found == read(**camel(SNAKE))
    assert found.messages[0] == Message("system", (Text("Be brief."),))
    assert (found.max_output_tokens, found.temperature, found.top_p, found.top_k) == (50, 1.0, 0.5, 40)
    assert (found.stop, found.n, found.seed, found.logprobs, found.top_logprobs) == (("END",), 2, 3, True, 4)
    assert (found.presence_penalty, found.frequency_penalty, found.service_tier) == (0.1, 0.2, "flex")
    assert found.rest.keys() == {"safetySettings", "generationConfig.mediaResolution"}


def test_roles_and_pieces_of_the_model_become_messages() -> None:
    found = parts_of(
        {"parts": [{"text": "Tide?"}]},
        {"role": "model", "parts": [{"text": "Six"}]},
        {"role": "model", "parts": {"text": "o'clock."}},
        {"role": "user", "parts": [{"text": "Thanks."}]},
    )
    assert [message.role for message in found] == ["user", "assistant", "user"]
    assert found[1].parts == (Text("Six"), Text("o'clock."))


def test_calls_and_answers_without_ids_find_each_other_in_order() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"functionCall": {"name": name, "args": {"port": "Brest"}}}

    def answer(name: str, response: Any, **more: Any) -> dict[str, Any]:
        return {"functionResponse": {"name": name, "response": response, **more}}

    found = parts_of(
        *CONTENTS,
        {"role": "model", "parts": [call("tide"), call("tide"), {"functionCall": {"id": "mine", "name": "now"}}]},
        {
            "role": "user",
            "parts": [
                answer("tide", {"output": "six"}),
                answer("tide", {"high": 6}),
                answer("now", {"error": "no clock"}, id="mine"),
                {"text": "So?"},
            ],
        },
    )
    assert found[1].parts == (
        ToolCall("call_1", "tide", '{"port":"Brest"}'),
        ToolCall("call_2", "tide", '{"port":"Brest"}'),
        ToolCall("mine", "now", "{}"),
    )
    assert [message.parts[0] for message in found[2:]] == [
        ToolResult("call_1", (Text("six"),)),
        ToolResult("call_2", (Text('{"high":6}'),)),
        ToolResult("mine", (Text("no clock"),), is_error=True),
        Text("So?"),
    ]
    assert [message.role for message in found[2:]] == ["tool", "tool", "tool", "user"]


def test_a_picture_inside_an_answer_is_part_of_it() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "AA-_"}}
    response = {"name": "look", "response": {"result": "Here."}, "parts": [picture]}
    found = parts_of(
        *CONTENTS,
        {"role": "model", "parts": [{"functionCall": {"name": "look"}}]},
        {"role": "user", "parts": [{"functionResponse": response}]},
    )
    assert found[2].parts == (ToolResult("call_1", (Text("Here."), Image(data="AA+/", media_type="image/png"))),)


def test_media_by_its_type_and_its_place() -> None:
    inline = [("image/png", Image(data="AAAA", media_type="image/png")), ("audio/mpeg", Audio("AAAA", "mp3"))]
    inline.append(("application/pdf", File(data="AAAA", media_type="application/pdf")))
    for kind, part in inline:
        (message,) = parts_of({"parts": [{"inline_data": {"mime_type": kind, "data": "AAAA"}}]})
        assert message.parts == (part,)
    (message,) = parts_of(
        {
            "parts": [
                {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
                {"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}},
            ]
        }
    )
    assert message.parts == (
        Image(url="https://example.com/a.png", media_type="image/png"),
        File(file_id="gs://b/a.pdf", media_type="application/pdf"),
    )


def test_parts_without_canonical_words_are_kept_word_for_word() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "c2ln"}
    (_, message) = parts_of(*CONTENTS, {"role": "model", "parts": [code]})
    (part,) = message.parts
    assert isinstance(part, Opaque)
    assert (part.dialect, part.kind, json.loads(bytes(part.raw))) == ("gemini", "executableCode", code)


def model(*parts: dict[str, Any]) -> tuple[Any, ...]:
    return parts_of(*CONTENTS, {"role": "model", "parts": list(parts)})[1].parts


CLAUDES = seal("c2lnbmVk", "")


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (
            [{"text": "Hm.", "thought": True}, {"functionCall": {"name": "f"}, "thoughtSignature": "Z29vZ2xl"}],
            (Reasoning("Hm.", "Z29vZ2xl", ORIGIN), ToolCall("call_1", "f", "{}")),
        ),
        ([{"text": "Six.", "thoughtSignature": "Z29vZ2xl"}], (Reasoning("", "Z29vZ2xl", ORIGIN), Text("Six."))),
        ([{"text": "", "thoughtSignature": "Z29vZ2xl"}], (Reasoning("", "Z29vZ2xl", ORIGIN),)),
        ([{"text": "Hm.", "thought": True}, {"text": "Six."}], (Reasoning("Hm.", None, ORIGIN), Text("Six."))),
        (
            [
                {"text": "H", "thought": True},
                {"text": "m.", "thought": True},
                {"text": "", "thought": True, "thoughtSignature": CLAUDES},
                {"text": "Six."},
            ],
            (Reasoning("Hm.", "c2lnbmVk", ""), Text("Six.")),
        ),
        (
            [{"text": "", "thought": True, "thoughtSignature": seal_redacted("c2VjcmV0", "")}, {"text": "Six."}],
            (RedactedReasoning("c2VjcmV0"), Text("Six.")),
        ),
        ([{"functionCall": {"name": "f"}, "thoughtSignature": STAND_IN}], (ToolCall("call_1", "f", "{}"),)),
    ],
)
def test_proofs_come_back_to_their_maker(parts: list[dict[str, Any]], wanted: tuple[Any, ...]) -> None:
    assert model(*parts) == wanted


@given(st.from_regex(r"[\x20-\x7e]{0,40}", fullmatch=True), st.sampled_from(["", "openai-responses-v1", "a-maker-v2"]))
def test_a_sealed_proof_is_base64_in_any_alphabet_and_opens_again(proof: str, origin: str) -> None:
    for sealed, redacted in ((seal(proof, origin), False), (seal_redacted(proof, origin), True)):
        data = base64.b64decode(sealed, validate=True)
        assert unseal(sealed) == (proof, origin, redacted)
        assert unseal(base64.urlsafe_b64encode(data).decode()) == (proof, origin, redacted)
        assert unseal(base64.urlsafe_b64encode(data).decode().rstrip("=")) == (proof, origin, redacted)


@given(st.binary(min_size=1, max_size=40))
def test_googles_own_proofs_stand_as_they_are(data: bytes) -> None:
    proof = base64.b64encode(b"\x12" + data).decode()
    assert seal(proof, ORIGIN) == proof
    assert unseal(proof) == (proof, ORIGIN, False)


def test_functions_and_their_schemas() -> None:
    openapi = {
        "type": "OBJECT",
        "properties": {
            "port": {"type": "STRING", "nullable": True},
            "days": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "1"},
            "type": {"any_of": [{"type": 1}, {"type": "BOOLEAN"}], "format": "enum"},
        },
        "required": ["port"],
        "propertyOrdering": ["port"],
    }
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = read(
        tools=[
            {"functionDeclarations": [{"name": "tide", "description": "When", "parameters": openapi}]},
            {"function_declarations": [{"name": "now", "parametersJsonSchema": schema}, {"name": "bare"}]},
            {"google_search": {}},
        ]
    )
    assert [tool.name for tool in found.tools] == ["tide", "now", "bare", "googleSearch"]
    tide, now, bare, search = found.tools
    assert json.loads(bytes(tide.parameters or b"")) == {
        "type": "object",
        "properties": {
            "port": {"type": ["string", "null"]},
            "days": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "type": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
        },
        "required": ["port"],
    }
    assert json.loads(bytes(now.parameters or b"")) == schema
    assert bare.parameters is None
    assert json.loads(bytes(search.opaque or b"")) == {"googleSearch": {}}


@pytest.mark.parametrize(
    ("calling", "choice", "strict"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto"), None),
        ({"mode": "any"}, ToolChoice("required"), None),
        ({"mode": "NONE"}, ToolChoice("none"), None),
        ({"mode": "VALIDATED"}, ToolChoice("auto"), True),
        ({"mode": "ANY", "allowed_function_names": ["tide"]}, ToolChoice("named", "tide"), None),
    ],
)
def test_how_tools_may_be_called(calling: dict[str, Any], choice: ToolChoice, strict: bool | None) -> None:
    tools = [{"functionDeclarations": [{"name": "tide"}]}]
    found = read(tools=tools, tool_config={"function_calling_config": calling})
    assert (found.tool_choice, found.tools[0].strict) == (choice, strict)


def test_what_no_canonical_word_says_of_tools_is_kept_by_its_name() -> None:
    names = ["tide", "now"]
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": names}, "retrievalConfig": {}}
    found = read(tools=[{"functionDeclarations": [{"name": "tide", "behavior": "BLOCKING"}]}], toolConfig=config)
    assert found.tool_choice == ToolChoice("required")
    assert json.loads(bytes(found.rest["toolConfig.functionCallingConfig.allowedFunctionNames"])) == names
    assert found.rest.keys() >= {"toolConfig.retrievalConfig", "tools.behavior"}


@pytest.mark.parametrize(
    ("config", "kind", "schema"),
    [
        ({"responseMimeType": "application/json"}, "json_object", None),
        ({"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}}, "json_schema", "string"),
        ({"responseMimeType": "application/json", "responseJsonSchema": {"type": "string"}}, "json_schema", "string"),
        ({"responseMimeType": "text/plain"}, None, None),
    ],
)
def test_structured_output(config: dict[str, Any], kind: str | None, schema: str | None) -> None:
    found = read(generationConfig=config).response_format
    assert (found.kind if found else None) == kind
    assert isinstance(found, ResponseFormat) or found is None
    assert (json.loads(bytes(found.schema))["type"] if found and found.schema else None) == schema


def test_a_format_of_googles_own_is_kept_by_its_name() -> None:
    found = read(generationConfig={"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}})
    assert found.response_format is None
    assert found.rest.keys() == {"generationConfig.responseMimeType", "generationConfig.responseSchema"}


@pytest.mark.parametrize(
    ("thinking", "wanted"),
    [
        ({"thinkingLevel": "HIGH"}, ReasoningWish("high")),
        ({"thinkingBudget": 0}, ReasoningWish(enabled=False)),
        ({"thinkingBudget": -1, "includeThoughts": True}, ReasoningWish(enabled=True)),
        ({"thinking_budget": 512}, ReasoningWish(budget_tokens=512)),
        ({"includeThoughts": True}, ReasoningWish(enabled=True)),
        ({"includeThoughts": False}, None),
        ({}, None),
    ],
)
def test_how_much_to_think(thinking: dict[str, Any], wanted: ReasoningWish | None) -> None:
    assert read(generationConfig={"thinkingConfig": thinking}).reasoning == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"contents": [{"role": "boss", "parts": [{"text": "x"}]}]},
        {"contents": [{"role": 5, "parts": []}]},
        {"contents": [{"parts": "x"}]},
        {"contents": [{"parts": [{"text": {}}]}]},
        {"contents": [{"role": "model", "parts": [{"functionCall": {}}]}]},
        {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png"}}]}]},
        {"generationConfig": {"temperature": "hot"}},
        {"generationConfig": []},
        {"tools": [{"functionDeclarations": [{}]}]},
        {"tools": 5},
        {"toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}},
    ],
)
def test_a_wrong_field_is_named_and_not_quoted(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        read(**wrong)
    assert caught.value.failure.param
    assert "hot" not in caught.value.failure.message


def test_reading_and_writing_again_is_the_same_request() -> None:
    chat = read(
        contents=[
            *CONTENTS,
            {"role": "model", "parts": [{"functionCall": {"id": "a", "name": "tide", "args": {"b": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "a", "name": "tide", "response": {"output": "x"}}}]},
        ],
        systemInstruction={"parts": [{"text": "Be brief."}]},
        generationConfig={"temperature": 0.5, "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True}},
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    )
    written = json.loads(GEMINI.write_request(chat, "gemini-made-1", PLAIN, False).body)
    again: ChatRequest = GEMINI.read_request(splice(json.dumps(written).encode(), CHAT))
    assert again == chat


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_count_takes_a_chat_bare_or_wrapped(wrapped: bool) -> None:
    inner = {"contents": CONTENTS, "system_instruction": {"parts": [{"text": "Be brief."}]}}
    said = {"generate_content_request": {"model": "models/x", **inner}} if wrapped else inner
    spliced = splice(json.dumps(said).encode(), Asked("gemini.count", "house-model"))
    assert GEMINI_COUNT.peek_request(spliced).model == "house-model"
    count = GEMINI_COUNT.read_request(spliced)
    assert (count.model, len(count.chat.messages)) == ("house-model", 2)
    patched = json.loads(GEMINI_COUNT.patch_request(spliced, "made-1", PLAIN, True))
    bare = {"contents": CONTENTS, "systemInstruction": {"parts": [{"text": "Be brief."}]}}
    assert patched == ({"generateContentRequest": {"model": "models/made-1", **bare}} if wrapped else inner)
    unwrapped = Quirks(unsupported=frozenset({"generateContentRequest"}))
    found = json.loads(GEMINI_COUNT.patch_request(spliced, "made-1", unwrapped, True))
    assert found == (bare if wrapped else inner)


def test_one_input_or_many_to_embed() -> None:
    one = {"content": {"parts": [{"text": "tide"}]}, "taskType": "RETRIEVAL_QUERY", "output_dimensionality": 64}
    many = {"requests": [{"model": "models/x", **one}, {"model": "models/x", **one}]}
    for said, form, count in ((one, ONE, 1), (many, "", 2)):
        spliced = splice(json.dumps(said).encode(), Asked("gemini.embed", "house-model", False, form))
        assert GEMINI_EMBED.peek_request(spliced).form == form
        found: EmbedRequest = GEMINI_EMBED.read_request(spliced)
        assert (found.model, found.inputs) == ("house-model", ("tide",) * count)
        assert (found.purpose, found.dimensions) == ("RETRIEVAL_QUERY", 64)
        patched = json.loads(GEMINI_EMBED.patch_request(spliced, "made-1", PLAIN, True))
        wanted = {"model": "models/made-1", "content": one["content"], "taskType": "RETRIEVAL_QUERY"}
        assert patched == {"requests": [{**wanted, "outputDimensionality": 64}] * count}


def test_inputs_that_wish_different_things_have_no_words_elsewhere() -> None:
    content = {"content": {"parts": [{"text": "tide"}]}}
    said = {"requests": [{**content, "taskType": "CLUSTERING"}, content]}
    with pytest.raises(RequestError, match="taskType"):
        GEMINI_EMBED.read_request(json.dumps(said).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["contents", "parts", "role", "text", "thought", "thoughtSignature", "functionCall", "functionResponse", "name",
     "id", "response", "inlineData", "fileData", "systemInstruction", "tools", "functionDeclarations", "parameters",
     "toolConfig", "generationConfig", "thinkingConfig", "requests", "content"]
)  # fmt: skip
NEARLY = st.recursive(
    st.dictionaries(KEYS, JSON, max_size=4),
    lambda inner: st.dictionaries(KEYS, inner | st.lists(inner, max_size=2) | JSON, max_size=5),
    max_leaves=10,
)


@given(NEARLY, st.sampled_from([GEMINI, GEMINI_COUNT, GEMINI_EMBED]))
def test_whatever_comes_is_read_or_refused(said: dict[str, Any], dialect: Any) -> None:
    text = json.dumps(said).encode()
    for ask in (dialect.peek_request, dialect.read_request, lambda one: dialect.patch_request(one, "m", PLAIN, True)):
        with contextlib.suppress(RequestError):
            ask(text)


@pytest.mark.parametrize("nothing", [b"[]", b"{}", b"[ ]", b"null"])
def test_a_field_that_asks_for_nothing_is_none(nothing: bytes) -> None:
    """LangChain's Google class sends `"safetySettings": []` with every request; it must cross."""
    said = body(safetySettings="?").replace(b'"?"', nothing)
    assert GEMINI.read_request(splice(said, CHAT)).rest == {}
    asked = body(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}])
    assert list(GEMINI.read_request(splice(asked, CHAT)).rest) == ["safetySettings"]
