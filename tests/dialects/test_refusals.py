"""A client's body that cannot be read is the client's error in every dialect, and none of its values are repeated."""

from __future__ import annotations

import pytest

from counterfoil.core.error import Fault, RequestError
from counterfoil.dialects.registry import CLIENT_DIALECTS

__all__: list[str] = []

SAID = "harbour"
WRONG = {
    "no JSON": b"harbour",
    "cut": b'{"model":"harbour',
    "no object": b'["harbour"]',
    "a model that is no text": b'{"model":{"harbour":1}}',
    "a model that is not UTF-8": b'{"model":"harbour\xff","messages":[],"input":"","prompt":"","max_tokens":1}',
    "nested without end": b'{"model":' + b"[" * 100_000,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", CLIENT_DIALECTS)
def test_a_body_that_cannot_be_read_is_refused_and_not_quoted(name: str, wrong: str) -> None:
    dialect = CLIENT_DIALECTS[name]
    for read in (dialect.peek_request, dialect.read_request):
        with pytest.raises(RequestError) as refused:
            read(WRONG[wrong])
        failure = refused.value.failure
        assert (failure.fault, failure.status) == (Fault.CLIENT, 400)
        assert SAID not in failure.message


@pytest.mark.parametrize(
    ("name", "body", "param", "message"),
    [
        ("openai_chat", b'{"model":"m"}', "messages", "`messages` is missing."),
        ("openai_chat", b'{"model":7,"messages":[]}', "model", "`model`: expected `str`, got `int`."),
        ("anthropic_messages", b'{"model":"m","messages":[]}', "max_tokens", "`max_tokens` is missing."),
        ("anthropic_messages.count", b'{"model":"m"}', "messages", "`messages` is missing."),
        ("openai_completions", b"{}", "model", "`model` is missing."),
        ("openai_embeddings", b'{"model":"m"}', "input", "`input` is missing."),
        ("cohere.rerank", b'{"model":"m","query":"q"}', "documents", "`documents` is missing."),
    ],
)
def test_what_is_wrong_is_said_in_the_clients_own_names(name: str, body: bytes, param: str, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        CLIENT_DIALECTS[name].peek_request(body)
    assert (refused.value.failure.param, refused.value.failure.message) == (param, message)
