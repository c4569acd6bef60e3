"""Promise: a chat client in front of an Anthropic provider gets what it says, and counts what it says, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from counterfoil.ledger.entry import Exit
from counterfoil.testing import (
    Counts,
    MessagesReply,
    Tool,
    error_answer,
    in_turn,
    messages_player,
    messages_reply,
)
from tests.shells.clients import (
    ASKED,
    MESSAGES,
    Heard,
    Stage,
    booked,
    estimated,
    hear,
    hear_whole,
    staged,
)
from tests.shells.gateway import SECONDS

USAGE = Counts(input=120, output=19, cache_read=100, cache_write=8)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

PLANS = {
    "text": MessagesReply(usage=USAGE),
    "older delta": MessagesReply(usage=USAGE, delta="output_only"),
    "no ping, no provisional count": MessagesReply(usage=USAGE, ping=False, provisional=0),
    "large provisional count": MessagesReply(usage=USAGE, provisional=12),
    "start says less": MessagesReply(usage=USAGE, start=Counts(input=20, cache_read=4, cache_write=8)),
    "thinking": MessagesReply(usage=USAGE, thinking="High or low?"),
    "thinking, counted": MessagesReply(
        usage=Counts(input=120, output=19, cache_read=0, cache_write=0, reasoning=6), thinking="High or low?"
    ),
    "hidden thinking": MessagesReply(usage=USAGE, thinking="High or low?", redacted="ZW5jcnlwdGVk"),
    "tools": MessagesReply(usage=USAGE, text="", tools=(Tool("tide", '{"port": "north"}'), Tool("boats"))),
    "text and tools": MessagesReply(usage=USAGE, tools=(Tool("tide", '{"port": "north"}'),)),
    "no message_stop": MessagesReply(usage=USAGE, stop=False),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as made:
        yield made


def check_content(heard: Heard, plan: MessagesReply) -> None:
    """Text, finish and calls of the plan."""
    assert heard.texts == ({0: plan.text} if plan.text else {})
    calls = [(f"toolu_play{place}", tool.name, tool.arguments) for place, tool in enumerate(plan.tools)]
    assert [call[:2] for call in heard.calls.get(0, [])] == [call[:2] for call in calls]
    for (*_, said), (*_, wanted) in zip(heard.calls.get(0, []), calls, strict=True):
        assert said.replace(" ", "") == wanted.replace(" ", "")
    assert heard.finishes == {0: ["tool_calls" if plan.tools else "stop"]}


@pytest.mark.parametrize("way", ["create", "helper", "whole"])
@pytest.mark.parametrize("name", PLANS)
def test_a_reply_is_counted_once_with_its_cache(client: openai.OpenAI, stage: Stage, name: str, way: str) -> None:
    plan = PLANS[name]
    ticket = stage.put(messages_player(plan))
    create = client.chat.completions.create
    options: Any = ASKED["stream_options"]
    if way == "create":
        heard = hear(create(model="claude", messages=MESSAGES, user=ticket, **ASKED))
    elif way == "whole":
        heard = hear_whole(create(model="claude", messages=MESSAGES, user=ticket))
    else:
        with client.chat.completions.stream(
            model="claude", messages=MESSAGES, user=ticket, stream_options=options
        ) as stream:
            heard = hear_whole(stream.get_final_completion())
    check_content(heard, plan)
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.COMPLETED
    assert heard.counts == booked(entry) == served.reported == served.usage
    assert (entry.opening.client_dialect, entry.opening.provider_dialect) == ("openai_chat", "anthropic_messages")


def test_who_does_not_ask_sees_no_usage_and_the_ledger_is_as_exact(client: openai.OpenAI, stage: Stage) -> None:
    ticket = stage.put(messages_reply(usage=USAGE))
    heard = hear(client.chat.completions.create(model="claude", messages=MESSAGES, user=ticket, stream=True))
    assert heard.usages == []
    assert booked(stage.once(ticket)[1]) == USAGE


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_thinking_arrives_as_reasoning_and_goes_back_signed_with_the_tools_result(
    client: openai.OpenAI, stage: Stage, streamed: bool
) -> None:
    thought = MessagesReply(
        thinking=("High", " or low?"),
        redacted="ZW5jcnlwdGVk",
        text="Let me look.",
        tools=(Tool("tide", '{"port": "north"}', "toolu_one"), Tool("boats", id="toolu_two")),
        usage=USAGE,
    )
    ticket = stage.put(in_turn(messages_player(thought), messages_player(MessagesReply(text="High.", usage=USAGE))))
    tool = {"name": "tide", "description": "The tide.", "parameters": {"type": "object", "properties": {}}}
    request: dict[str, Any] = {
        "model": "claude",
        "user": ticket,
        "tools": [{"type": "function", "function": one} for one in (tool, {**tool, "name": "boats"})],
    }
    options: Any = ASKED["stream_options"]

    def ask(messages: Any) -> Any:
        if not streamed:
            return client.chat.completions.create(messages=messages, **request).choices[0].message
        with client.chat.completions.stream(messages=messages, stream_options=options, **request) as stream:
            return stream.get_final_completion().choices[0].message

    message = ask(MESSAGES)
    assert message.reasoning_content == "High or low?"
    back = message.model_dump(exclude_none=True, exclude={"parsed"})
    results = [
        {"role": "tool", "tool_call_id": f"toolu_{name}", "content": f"result {name}"} for name in ("one", "two")
    ]
    answer = ask([*MESSAGES, back, *results])
    assert answer.content == "High."
    _, said, told_back = stage.served(ticket)[1].request.json["messages"]
    assert said["role"] == "assistant"
    assert said["content"] == [
        {"type": "thinking", "thinking": "High or low?", "signature": thought.signature},
        {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_one", "name": "tide", "input": {"port": "north"}},
        {"type": "tool_use", "id": "toolu_two", "name": "boats", "input": {}},
    ]
    assert told_back["role"] == "user"
    assert [(block["type"], block["tool_use_id"]) for block in told_back["content"]] == [
        ("tool_result", "toolu_one"),
        ("tool_result", "toolu_two"),
    ]
    assert [booked(entry) for entry in stage.entries(ticket)] == [USAGE, USAGE]


def test_pictures_system_words_and_bounds_reach_the_provider_in_its_own_words(
    client: openai.OpenAI, stage: Stage
) -> None:
    ticket = stage.put(messages_player(MessagesReply(usage=USAGE)))
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"type": "image_url", "image_url": {"url": "https://pictures.example/harbour.png"}},
    ]
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    client.chat.completions.create(model="claude", messages=messages, user=ticket, max_tokens=77, stop=["tide"])
    served, entry = stage.once(ticket)
    sent = served.request.json
    blocks = sent["messages"][0]["content"]
    assert [block["type"] for block in blocks] == ["text", "image", "image"]
    assert blocks[1]["source"] == {"type": "base64", "media_type": "image/png", "data": PICTURE}
    assert blocks[2]["source"] == {"type": "url", "url": "https://pictures.example/harbour.png"}
    assert "Be brief." in str(sent["system"])
    assert (sent["max_tokens"], sent["stop_sequences"]) == (77, ["tide"])
    assert served.headers["x-api-key"] == "play"
    assert booked(entry) == USAGE


def test_what_cannot_be_said_to_the_provider_is_refused_before_anything_is_booked(
    client: openai.OpenAI, stage: Stage
) -> None:
    ticket = stage.put(messages_reply())
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        client.chat.completions.create(model="claude", messages=MESSAGES, user=ticket, logprobs=True)
    assert stage.served(ticket) == []
    assert stage.entries(ticket) == []


@pytest.mark.parametrize("end", ["cut", "error"])
def test_a_reply_that_breaks_off_is_an_error_and_its_input_is_kept(
    client: openai.OpenAI, stage: Stage, end: str
) -> None:
    script = messages_reply(usage=USAGE).cut_at(8) if end == "cut" else messages_reply(usage=USAGE, error="api_error")
    ticket = stage.put(script)
    stream = client.chat.completions.create(model="claude", messages=MESSAGES, user=ticket, **ASKED)
    with pytest.raises(openai.APIError):
        list(stream)
    served, entry = stage.once(ticket)
    assert entry.exit is (Exit.TRUNCATED if end == "cut" else Exit.FAILED)
    assert (booked(entry).input, booked(entry).cache_read, booked(entry).cache_write) == (120, 100, 8)
    assert estimated(entry) == {"output_tokens"}
    assert served.text


def test_a_provider_that_is_overloaded_is_an_error_in_the_clients_own_words(
    client: openai.OpenAI, stage: Stage
) -> None:
    ticket = stage.put(error_answer(529, "Overloaded", dialect="messages", retry_after="3"))
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="claude", messages=MESSAGES, user=ticket)
    assert caught.value.status_code == 529
    assert caught.value.response.headers["retry-after"] == "3"
    assert stage.once(ticket)[1].exit is Exit.REJECTED
