"""Operations whose replies come whole: a body is read once, mended only where a dialect says so, and never raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.schema import Fields, encode, fields_of, given, text_of
from counterfoil.dialects.whole import whole_decoder, whole_encoder, whole_relay
from counterfoil.framing.frame import Frame

__all__: list[str] = []

FACTS = ReplyFacts("ours", 1_700_000_000, "house-model", streamed=False, usage_asked=False)
FINAL = FinalUsage(None)
BAD = Failure(FailureKind.BAD_REPLY, "The provider sent a body that is no count.", Fault.PROVIDER, 502)


def _read(body: bytes) -> Sequence[Event]:
    return (TokensCounted(msgspec.json.decode(fields_of(body).get("n", b"null"), type=int)),)


def _write_failure(failure: Failure) -> bytes:
    return encode({"error": failure.message})


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    return {"model": msgspec.Raw(encode(facts.model)), "usage": None}


DECODER = whole_decoder(_read, lambda body: BAD)
ENCODER = whole_encoder(lambda events, facts, final: encode([facts.model, len(events)]), _write_failure)
RELAY = whole_relay(_mend, _write_failure)


def _relayed(body: bytes) -> bytes:
    relay = RELAY(FACTS, Quirks())
    assert relay.carry(Frame(body), ()) == b""
    assert relay.carry(Frame(b"", comment=True), ()) == b""
    return relay.close(FINAL)


def test_a_body_is_the_whole_reply() -> None:
    decoder = DECODER(False, 1, Quirks())
    assert not decoder.ended
    assert not decoder.done
    assert decoder.feed(Frame(b"", comment=True)) == ()
    assert decoder.feed(Frame(b'{"n": 3}')) == (TokensCounted(3),)
    assert decoder.ended
    assert decoder.done
    assert decoder.feed(Frame(b'{"n": 4}')) == ()
    assert decoder.close() == ()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"n":"3"}', b'{"n":', b"\xff", b"[" * 100_000, b'{"n":NaN}', b'{"\xee":1}', b"{}"]
)
def test_a_body_that_cannot_be_read_fails_by_name_and_is_no_reply(body: bytes) -> None:
    decoder = DECODER(False, 1, Quirks())
    assert decoder.feed(Frame(body)) == (ReplyFailed(BAD),)
    assert decoder.done
    assert not decoder.ended


def test_a_failure_that_a_body_tells_is_no_reply() -> None:
    decoder = whole_decoder(lambda body: (ReplyFailed(BAD),), lambda body: BAD)(False, 1, Quirks())
    assert decoder.feed(Frame(b"{}")) == (ReplyFailed(BAD),)
    assert not decoder.ended


def test_what_is_not_mended_keeps_its_bytes_and_its_place() -> None:
    body = b'{ "a" : [1.10, 2e3], "model":"theirs", "b": "\\u00e9", "usage": {"n":1}, "c": null}'
    assert _relayed(body) == b'{"a":[1.10, 2e3],"model":"house-model","b":"\\u00e9","c":null}'


@pytest.mark.parametrize("body", [b'{ "model" : "house-model", "a": 1 }', b'{"model":"house\\u002dmodel"}'])
def test_a_body_that_needs_nothing_keeps_all_of_its_bytes(body: bytes) -> None:
    assert _relayed(body) == body


def test_a_member_that_is_missing_is_put_at_the_end() -> None:
    assert _relayed(b'{"a":1}') == b'{"a":1,"model":"house-model"}'


@pytest.mark.parametrize("body", [b"", b"nothing", b"[1]"])
def test_a_body_that_is_no_object_is_carried_as_it_came(body: bytes) -> None:
    assert _relayed(body) == body


def test_an_encoder_writes_at_the_end_what_it_was_told_in_pieces() -> None:
    encoder = ENCODER(FACTS)
    assert encoder.encode((TokensCounted(1),)) == b""
    assert encoder.encode((TokensCounted(2), TokensCounted(3))) == b""
    assert encoder.close(FINAL) == b'["house-model",3]'
    assert encoder.fail(BAD) == RELAY(FACTS, Quirks()).fail(BAD) == _write_failure(BAD)


def test_members_are_read_without_raising() -> None:
    fields = fields_of(b'{"a":null,"b":"x","c":1}')
    assert [given(fields.get(key)) for key in "abcd"] == [False, True, True, False]
    assert [text_of(fields.get(key)) for key in "abcd"] == ["", "x", "", ""]
