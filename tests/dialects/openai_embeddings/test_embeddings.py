"""OpenAI's embeddings: a list of vectors, what they used, and the two ways of writing them."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import Embedding, EmbeddingsGiven, ReplyStarted
from counterfoil.core.message import Image, Text
from counterfoil.core.operation import EmbedRequest, Operation
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from counterfoil.dialects.openai_embeddings.request import NUMBERS_BY_NAME
from counterfoil.dialects.openai_embeddings.vectors import as_base64, as_numbers
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket, Provenance, Usage
from tests import wire
from tests.dialects.recorded import check_recording

__all__: list[str] = []

FACTS = ReplyFacts("ours", 1_700_000_000, "house-vectors", streamed=False, usage_asked=False)
FINAL = FinalUsage(Usage({Bucket.INPUT: 8, Bucket.OUTPUT: 0}))


def _body(**more: Any) -> bytes:
    data = [
        {"object": "embedding", "index": 0, "embedding": [0.5, -1.25]},
        {"object": "embedding", "index": 1, "embedding": [2.0, 0.125]},
    ]
    return msgspec.json.encode({"object": "list", "data": data, "model": "vectors-1", **more})


def _read(body: bytes, status: int = 200) -> ReadReply:
    return read_reply([body], OPENAI_EMBEDDINGS, streamed=False, status=status)


def _given(reply: ReadReply) -> EmbeddingsGiven:
    (event,) = [event for event in reply.events if isinstance(event, EmbeddingsGiven)]
    return event


# ---- recordings


@pytest.mark.parametrize("name", wire.params("openai.embeddings/"))
def test_a_recorded_reply_is_read_as_the_oracle_says(name: str) -> None:
    reply = check_recording(name)
    recording = wire.read(name)
    if recording.response.status >= 300:
        assert reply.exit is Exit.REJECTED
        return
    assert reply.exit is Exit.COMPLETED
    assert reply.settlement.usage.output_tokens == 0
    assert not reply.settlement.discrepancies
    asked = OPENAI_EMBEDDINGS.read_request(msgspec.json.encode(recording.request_body))
    assert [vector.index for vector in _given(reply).embeddings] == list(range(len(asked.inputs)))


# ---- reading a reply


def test_vectors_come_in_the_order_of_the_inputs_word_for_word() -> None:
    body = (
        b'{"id":"e1","model":"m","data":[{"index":1,"embedding":[1.10, 2e-3]},{"index":0,"embedding":"AAAAPw=="}],'
        b'"usage":{"prompt_tokens":8,"total_tokens":8}}'
    )
    reply = _read(body)
    assert reply.events[0] == ReplyStarted(id="e1", model="m")
    assert _given(reply).embeddings == (
        Embedding(0, msgspec.Raw(b'"AAAAPw=="')),
        Embedding(1, msgspec.Raw(b"[1.10, 2e-3]")),
    )
    assert reply.reading.raw == (b'{"prompt_tokens":8,"total_tokens":8}',)


def test_vectors_without_an_index_are_counted() -> None:
    reply = _read(b'{"data":[{"embedding":[1]},{"embedding":[2]}]}')
    assert [vector.index for vector in _given(reply).embeddings] == [0, 1]


@pytest.mark.parametrize(
    ("usage", "given_input", "vouched"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, 8, Provenance.REPORTED),
        ({"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}, 8, Provenance.REPORTED),
        ({"total_tokens": 8}, 8, Provenance.DERIVED),
        ({"prompt_tokens": None, "total_tokens": None}, None, Provenance.UNKNOWN),
        (None, None, Provenance.UNKNOWN),
    ],
)
def test_what_vectors_used_is_input_and_nothing_else(
    usage: object, given_input: int | None, vouched: Provenance
) -> None:
    settled = _read(_body(usage=usage)).settlement
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (given_input, 0)
    assert settled.usage.vouched([Bucket.INPUT]) is vouched
    assert not settled.discrepancies


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"data":{}}',
        b'{"data":[{"embedding":7}]}',
        b'{"data":[{"index":0}]}',
        b"<html>",
        b"\xff",
        b"[" * 50_000,
        b'{"data":[{"embedding":[NaN]}]}',
    ],
)
def test_what_is_no_list_of_vectors_fails_by_name(body: bytes) -> None:
    reply = _read(body)
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


def test_an_error_that_was_answered_200_is_told() -> None:
    reply = _read(b'{"error":{"message":"Too busy.","type":"rate_limit_error"}}')
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.RATE_LIMITED


# ---- the client's request


@pytest.mark.parametrize(
    ("said", "inputs"),
    [
        ("one text", ("one text",)),
        (["one", "two"], ("one", "two")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["one", [3]], ("one", (3,))),
    ],
)
def test_inputs_are_texts_or_tokens(said: object, inputs: tuple[object, ...]) -> None:
    body = msgspec.json.encode({"model": "m", "input": said})
    assert OPENAI_EMBEDDINGS.operation is Operation.EMBED
    assert OPENAI_EMBEDDINGS.peek_request(body).model == "m"
    assert OPENAI_EMBEDDINGS.read_request(body).inputs == inputs


def test_everything_a_client_says_is_read() -> None:
    body = msgspec.json.encode(
        {
            "model": "m",
            "input": "text",
            "dimensions": 256,
            "encoding_format": "base64",
            "user": "u",
            "input_type": "query",
            "truncate": True,
            "nothing": None,
        }
    )
    read = OPENAI_EMBEDDINGS.read_request(body)
    assert read == EmbedRequest("m", ("text",), 256, "base64", "query", None, "u", {"truncate": msgspec.Raw(b"true")})
    peek = OPENAI_EMBEDDINGS.peek_request(body)
    assert (peek.encoding, peek.user, peek.streamed) == ("base64", "u", False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"nothing", None),
        (b"[]", None),
        (b'{"input":"x"}', "model"),
        (b'{"model":"m"}', "input"),
        (b'{"model":"","input":"x"}', "model"),
        (b'{"model":"m","input":[]}', "input"),
        (b'{"model":"m","input":null}', "input"),
        (b'{"model":7,"input":"x"}', "model"),
        (b"[" * 50_000, None),
    ],
)
def test_a_request_that_asks_for_nothing_is_refused_by_name(body: bytes, param: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        OPENAI_EMBEDDINGS.peek_request(body)
    assert refused.value.failure.param == param


@pytest.mark.parametrize("said", [[1, "one"], [[1], 2], [["one"]], {"text": "one"}, 7, [True], [1.5]])
def test_inputs_of_another_type_are_refused_when_they_have_to_be_read(said: object) -> None:
    with pytest.raises(RequestError) as refused:
        OPENAI_EMBEDDINGS.read_request(msgspec.json.encode({"model": "m", "input": said}))
    assert (refused.value.failure.param or "").partition("[")[0] == "input"


# ---- the provider's request


def test_a_request_is_written_in_this_wires_words() -> None:
    request = EmbedRequest("house", ("one", (Text("tw"), Text("o"))), 64, "base64", user="u")
    written = OPENAI_EMBEDDINGS.write_request(request, "vectors-1", Quirks(), False)
    assert msgspec.json.decode(written.body) == {
        "model": "vectors-1",
        "input": ["one", "two"],
        "dimensions": 64,
        "encoding_format": "base64",
        "user": "u",
    }
    tokens = OPENAI_EMBEDDINGS.write_request(EmbedRequest("house", ((1, 2),)), "vectors-1", Quirks(), False)
    assert msgspec.json.decode(tokens.body) == {"model": "vectors-1", "input": [[1, 2]]}


@pytest.mark.parametrize(
    ("more", "name"),
    [({"purpose": "query"}, "input_type"), ({"title": "t"}, "title"), ({"rest": {"x": msgspec.Raw(b"1")}}, "x")],
)
def test_what_this_wire_cannot_say_is_refused_or_dropped_by_name(more: dict[str, Any], name: str) -> None:
    request = EmbedRequest("house", ("one",), **more)
    with pytest.raises(RequestError) as refused:
        OPENAI_EMBEDDINGS.write_request(request, "m", Quirks(), False)
    assert refused.value.failure.param == name
    written = OPENAI_EMBEDDINGS.write_request(request, "m", Quirks(), True)
    assert written.dropped == (name,)
    assert msgspec.json.decode(written.body) == {"model": "m", "input": ["one"]}


def test_pictures_are_refused_even_where_dropping_is_allowed() -> None:
    request = EmbedRequest("house", ((Text("a"), Image(url="https://pictures.test/1")),))
    with pytest.raises(RequestError):
        OPENAI_EMBEDDINGS.write_request(request, "m", Quirks(), True)


def test_a_field_the_provider_refuses_is_not_sent() -> None:
    quirks = Quirks(unsupported=frozenset({"user", NUMBERS_BY_NAME}), dimensions_field="output_dimension")
    request = EmbedRequest("house", ("one",), 64, "float", user="u")
    written = OPENAI_EMBEDDINGS.write_request(request, "m", quirks, True)
    assert written.dropped == ("user",)
    assert msgspec.json.decode(written.body) == {"model": "m", "input": ["one"], "output_dimension": 64}


def test_a_patch_changes_the_model_and_what_a_quirk_names() -> None:
    body = b'{"input": "x", "dimensions": 8, "encoding_format": "float", "model": "house", "x": [1.0]}'
    assert (
        OPENAI_EMBEDDINGS.patch_request(body, "vectors-1", Quirks(), True)
        == b'{"input":"x","dimensions":8,"encoding_format":"float","model":"vectors-1","x":[1.0]}'
    )
    quirks = Quirks(unsupported=frozenset({NUMBERS_BY_NAME}), dimensions_field="output_dimension")
    assert (
        OPENAI_EMBEDDINGS.patch_request(body, "vectors-1", quirks, True)
        == b'{"input":"x","output_dimension":8,"model":"vectors-1","x":[1.0]}'
    )
    coded = body.replace(b'"float"', b'"base64"')
    assert b'"encoding_format":"base64"' in OPENAI_EMBEDDINGS.patch_request(coded, "vectors-1", quirks, True)
    with pytest.raises(RequestError):
        OPENAI_EMBEDDINGS.patch_request(b"[]", "m", Quirks(), True)


# ---- the client's reply


def _relayed(body: bytes, final: FinalUsage = FINAL) -> bytes:
    relay = OPENAI_EMBEDDINGS.relay(FACTS, Quirks())
    relay.carry(Frame(body), ())
    return relay.close(final)


def test_a_provider_of_this_dialect_is_carried_but_for_model_and_usage() -> None:
    body = (
        b'{"object": "list", "data": [{"embedding": [1.10]}], "model": "vectors-1", "provider": "x",'
        b' "usage": {"total_tokens": 8, "cost": 1.4e-7}}'
    )
    assert _relayed(body) == (
        b'{"object":"list","data":[{"embedding": [1.10]}],"model":"house-vectors","provider":"x",'
        b'"usage":{"total_tokens":8,"cost":1.4e-7,"prompt_tokens":8}}'
    )


def test_a_body_in_order_keeps_its_bytes() -> None:
    body = b'{ "data": [], "model": "house-vectors", "usage": { "prompt_tokens": 8, "total_tokens": 8 } }'
    assert _relayed(body) == body


def test_usage_that_nobody_knows_is_left_out_and_a_guess_is_marked() -> None:
    assert b"usage" not in _relayed(_body(usage=None), FinalUsage(None))
    guessed = msgspec.json.decode(_relayed(_body(), FinalUsage(FINAL.usage, estimated=True)))
    assert guessed["usage"] == {"prompt_tokens": 8, "total_tokens": 8, "estimated": True}


@pytest.mark.parametrize(
    ("asked", "vector"), [("float", [0.5, -1.25]), (None, [0.5, -1.25]), ("base64", "AAAAPwAAoL8=")]
)
@pytest.mark.parametrize("came", [b"[0.5,-1.25]", b'"AAAAPwAAoL8="'])
def test_a_client_gets_vectors_as_it_asked_however_the_provider_writes_them(
    asked: Any, vector: object, came: bytes
) -> None:
    encoder = OPENAI_EMBEDDINGS.encoder(msgspec.structs.replace(FACTS, encoding=asked))
    assert encoder.encode((EmbeddingsGiven((Embedding(0, msgspec.Raw(came)),)),)) == b""
    assert msgspec.json.decode(encoder.close(FINAL)) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": "house-vectors",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }


def test_of_several_kinds_the_floats_are_told() -> None:
    vectors = (
        Embedding(0, msgspec.Raw(b"[1,2]"), "int8"),
        Embedding(0, msgspec.Raw(b"[0.5]"), "float"),
        Embedding(1, msgspec.Raw(b"[3,4]"), "int8"),
    )
    encoder = OPENAI_EMBEDDINGS.encoder(FACTS)
    encoder.encode((EmbeddingsGiven(vectors),))
    told = msgspec.json.decode(encoder.close(FINAL))["data"]
    assert [item["embedding"] for item in told] == [[0.5], [3, 4]]


# ---- vectors


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=40))
def test_numbers_survive_both_ways_of_writing_exactly(numbers: list[float]) -> None:
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    coded = as_base64(msgspec.Raw(msgspec.json.encode(numbers)))
    assert base64.b64decode(msgspec.json.decode(coded)) == packed
    assert msgspec.json.decode(as_numbers(coded)) == numbers


@given(st.lists(st.floats(min_value=-1e30, max_value=1e30), max_size=40))
def test_a_number_becomes_the_nearest_of_32_bits(numbers: list[float]) -> None:
    coded = as_base64(msgspec.Raw(msgspec.json.encode(numbers)))
    again = msgspec.json.decode(as_numbers(coded))
    assert again == [struct.unpack("<f", struct.pack("<f", number))[0] for number in numbers]


@pytest.mark.parametrize(
    "vector",
    [
        b'"not base64!"',
        b'"AAA="',
        b"{}",
        b"[1e39]",
        b"[null]",
        b'["1"]',
        b'"' + base64.b64encode(struct.pack("<f", math.nan)) + b'"',
        b'"' + base64.b64encode(struct.pack("<f", math.inf)) + b'"',
    ],
)
def test_a_vector_that_is_none_stays_as_it_came(vector: bytes) -> None:
    raw = msgspec.Raw(vector)
    assert bytes(as_numbers(raw)) == vector
    if not vector.startswith(b'"'):
        assert bytes(as_base64(raw)) == vector
