"""A call says the same in every way it can be made, and its entry agrees with what the provider served."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

import counterfoil
from counterfoil.ledger.entry import Exit
from counterfoil.testing import (
    ChatReply,
    Counts,
    MessagesReply,
    Playback,
    chat_player,
    error_answer,
    in_turn,
    messages_player,
)
from counterfoil.usage.usage import Provenance
from tests.sdk.support import CHATTING, HELLO, WAYS, Way, ask, provider_in_environment

__all__: list[str] = []

COUNTS = Counts(input=40, output=12, cache_read=16, reasoning=5)
PLAN = ChatReply(text="The harbour is calm", usage=COUNTS, reasoning="Look at the sea")

each_way = pytest.mark.parametrize("way", WAYS, ids=str)


@each_way
def test_a_reply_its_usage_and_its_entry_are_what_was_served(way: Way, provider: Playback) -> None:
    provider.default = chat_player(PLAN)
    asked = ask(way, {"base_url": provider.base_url})
    assert asked.error is None
    assert asked.text == "The harbour is calm"
    assert asked.reply is not None
    assert asked.reply.choices[0].message.reasoning_content == "Look at the sea"
    assert asked.reply.choices[0].finish_reason == "stop"
    usage = asked.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (40, 12, 52)
    assert usage.prompt_tokens_details.cached_tokens == 16
    assert usage.completion_tokens_details.reasoning_tokens == 5
    assert usage.provenance["input_tokens"] is Provenance.REPORTED
    entry = asked.entry
    assert entry is not None
    assert entry.exit is Exit.COMPLETED
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (COUNTS.input, COUNTS.output)
    assert entry.opening.streamed is way.streamed
    assert entry.provider_id == f"chatcmpl-{provider.served[0].reply_id}"
    assert provider.served[0].ended == "completed"


@each_way
def test_a_provider_of_another_dialect_says_the_same(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_in_environment(monkeypatch, "ANTHROPIC") as provider:
        counts = Counts(input=30, output=9, cache_read=10, cache_write=4)
        provider.default = messages_player(MessagesReply(text="The harbour is calm", usage=counts))
        asked = ask(way, {}, model="anthropic/claude-haiku-4-5", max_tokens=100)
    assert asked.text == "The harbour is calm"
    assert (asked.usage.prompt_tokens, asked.usage.completion_tokens) == (30, 9)
    assert asked.usage.prompt_tokens_details.cached_tokens == 10
    assert asked.entry is not None
    assert asked.entry.opening.provider_dialect == "anthropic_messages"
    assert asked.cost is not None
    assert asked.cost == counterfoil.completion_cost(asked.entry)
    assert isinstance(asked.cost, Decimal)


@pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
def test_the_usage_chunk_comes_only_when_it_is_asked_for(way: Way, provider: Playback) -> None:
    settings = {"base_url": provider.base_url}
    asked = ask(way, settings, stream_options={"include_usage": True})
    assert asked.chunks[-1].choices == []
    assert asked.chunks[-1].usage is not None
    assert asked.chunks[-1].usage.total_tokens == asked.usage.total_tokens == 21
    assert asked.chunks[-1].entry == asked.entry
    assert all(chunk.choices for chunk in asked.chunks[:-1])
    unasked = ask(way, settings)
    assert all(chunk.choices for chunk in unasked.chunks)
    assert unasked.usage.total_tokens == 21, "metered all the same"


@each_way
def test_what_we_do_not_know_is_carried_and_none_is_not_given(way: Way, provider: Playback) -> None:
    ask(
        way,
        {"base_url": provider.base_url, "headers": {"X-Team": "harbour"}},
        temperature=None,
        top_p=0.5,
        grammar="root ::= [a-z]",
        extra_body={"top_k": 7, "mirostat": {"tau": 5}},
        extra_headers={"x-trace": "abc"},
        tags=["night", "batch"],
        user="ada",
    )
    served = provider.served[0]
    said = served.request.json
    assert "temperature" not in said
    assert (said["top_p"], said["grammar"], said["top_k"], said["mirostat"]) == (0.5, "root ::= [a-z]", 7, {"tau": 5})
    assert not {"tags", "extra_body", "extra_headers", "base_url"} & said.keys()
    assert (served.headers["x-team"], served.headers["x-trace"]) == ("harbour", "abc")


@each_way
def test_a_call_says_its_own_key_tags_and_user(way: Way, provider: Playback) -> None:
    asked = ask(
        way,
        {"base_url": provider.base_url, "api_key": "general-key-1", "tags": ["general"]},
        api_key="own-key-22222",
        tags=["night"],
        user="ada",
    )
    assert provider.served[0].headers["authorization"] == "Bearer own-key-22222"
    assert asked.entry is not None
    assert asked.entry.opening.tags == ("night",)
    assert asked.entry.opening.user == "ada"
    assert "own-key" not in repr(asked.entry)


@each_way
def test_a_failed_attempt_is_made_again_with_an_entry_for_each(way: Way, provider: Playback) -> None:
    provider.default = in_turn(error_answer(503), chat_player(PLAN))
    with counterfoil.meter() as meter:
        asked = ask(way, {"base_url": provider.base_url})
    assert asked.text == "The harbour is calm"
    assert [entry.exit for entry in meter.entries] == [Exit.REJECTED, Exit.COMPLETED]
    assert len({entry.opening.exchange for entry in meter.entries}) == 1
    assert meter.usage.total_tokens == 52


@each_way
def test_without_retries_there_is_one_attempt(way: Way, provider: Playback) -> None:
    provider.default = error_answer(503)
    asked = ask(way, {"base_url": provider.base_url, "max_retries": 0})
    assert isinstance(asked.error, counterfoil.ServiceUnavailableError)
    assert len(provider.served) == 1


@each_way
def test_the_number_of_retries_is_the_one_asked_for(way: Way, provider: Playback) -> None:
    provider.default = error_answer(429, retry_after="0.01")
    asked = ask(way, {"base_url": provider.base_url}, max_retries=1)
    assert isinstance(asked.error, counterfoil.RateLimitError)
    assert len(provider.served) == 2


@each_way
def test_a_fallback_answers_where_the_first_model_cannot(way: Way, provider: Playback) -> None:
    provider.models = {"broken": error_answer(404, code="model_not_found"), "play-2": chat_player(PLAN)}
    asked = ask(way, {"base_url": provider.base_url, "api_key": "general-key-1"}, model="broken", fallbacks=["play-2"])
    assert asked.text == "The harbour is calm"
    assert [served.model for served in provider.served] == ["broken", "play-2"]
    assert asked.entry is not None
    assert asked.entry.opening.model == "play-2"
    assert asked.reply is not None
    assert asked.reply.model == "broken", "one name for the whole call: the one that was asked for"


@each_way
def test_a_fallback_of_another_provider_never_gets_the_first_ones_secret(
    way: Way, provider: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.default = error_answer(404)
    with provider_in_environment(monkeypatch, "ANTHROPIC") as other:
        fallbacks: list[Any] = [{"model": "anthropic/claude-haiku-4-5"}]
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        asked = ask(way, {}, model="openai/gpt-4o-mini", api_key="sk-first-0001", fallbacks=fallbacks, max_tokens=9)
        assert asked.error is None
        assert provider.served[0].headers["authorization"] == "Bearer sk-first-0001"
        assert other.served[0].headers["x-api-key"] == "sk-play-000001"
        assert "authorization" not in other.served[0].headers


@each_way
def test_what_another_dialect_cannot_say_is_refused_by_name_or_left_out_where_that_is_wished(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    with provider_in_environment(monkeypatch, "ANTHROPIC") as provider:
        model = "anthropic/claude-haiku-4-5"
        refused = ask(way, {}, model=model, logit_bias={"50256": -100}, seed=4)
        assert isinstance(refused.error, counterfoil.UnsupportedParamsError)
        assert refused.error.param in ("logit_bias", "seed")
        assert refused.error.status_code == 400
        assert provider.served == []
        dropped = ask(way, {"drop": True}, model=model, logit_bias={"50256": -100}, seed=4)
        assert dropped.error is None
        assert set(dropped.dropped) == {"logit_bias", "seed"}


def test_both_spellings_of_the_module_calls_share_one_client_and_work_in_any_loop(provider: Playback) -> None:
    first = counterfoil.completion("play-1", HELLO, base_url=provider.base_url)
    second = counterfoil.completion("play-1", HELLO, base_url=provider.base_url)
    assert first.choices[0].message.content == second.choices[0].message.content
    assert provider.connections == 1, "the connection is used again"

    async def asked() -> str:
        reply = await counterfoil.acompletion("play-1", HELLO, base_url=provider.base_url)
        again = await counterfoil.acompletion("play-1", HELLO, base_url=provider.base_url)
        assert reply == again or reply.id != again.id
        return str(reply.choices[0].message.content)

    texts = [asyncio.run(asked()) for _ in range(2)]
    assert texts == [first.choices[0].message.content] * 2
    assert provider.connections == 3, "one more for each loop, used again within it"


def test_messages_may_be_parts_of_earlier_replies_and_pydantic_like_objects(provider: Playback) -> None:
    class Pydantic:
        def model_dump(self, *, mode: str, exclude_none: bool) -> dict[str, Any]:
            return {"role": "user", "content": "And now?"}

    with counterfoil.Client(base_url=provider.base_url) as client:
        reply = client.chat.completions.create(**CHATTING)
        messages = [*HELLO, reply.choices[0].message, Pydantic()]
        client.chat.completions.create(model="play-1", messages=messages)
    said = provider.served[1].request.json["messages"]
    assert said[1]["content"] == reply.choices[0].message.content
    assert said[2] == {"role": "user", "content": "And now?"}


@each_way
def test_a_request_that_is_not_json_is_refused_before_anything_is_sent(way: Way, provider: Playback) -> None:
    asked = ask(way, {"base_url": provider.base_url}, metadata={"when": object()})
    assert isinstance(asked.error, counterfoil.BadRequestError)
    assert provider.served == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", "soon"),
        ("max_retries", -1),
        ("max_retries", 100),
        ("fallbacks", [7]),
        ("tags", ["x" * 65]),
        ("tags", 7),
        ("extra_body", "text"),
        ("extra_headers", "text"),
        ("extra_headers", {"authorization": "Bearer sk-mine"}),
        ("api_key", "line\nbreak"),
        ("base_url", "ftp://nowhere"),
        ("api_base", "http://127.0.0.1:9/other"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(option: str, value: object, provider: Playback) -> None:
    settings = {} if option == "base_url" else {"base_url": provider.base_url}
    call = {"base_url": "http://127.0.0.1:9/v1"} if option == "api_base" else {}
    asked = ask(WAYS[0], settings, **call, **{option: value})
    assert isinstance(asked.error, counterfoil.BadRequestError)
    assert asked.error.message
    assert "sk-mine" not in asked.error.message
    assert provider.served == []


@each_way
@pytest.mark.parametrize(("row", "known"), [("openai", "max_completion_tokens"), ("deepseek", "max_tokens")])
def test_the_output_bound_is_written_by_the_name_the_provider_knows(
    way: Way, row: str, known: str, provider: Playback
) -> None:
    provider.default = chat_player(PLAN)
    where = {"base_url": provider.base_url, "custom_llm_provider": row, "api_key": "sk-play-000001"}
    assert ask(way, {}, **where, model="play-1", max_tokens=64).error is None
    sent = provider.served[0].request.json
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {known: 64}
