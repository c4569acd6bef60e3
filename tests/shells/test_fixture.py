"""Promise: people's own tests need no network: one fixture answers whatever they call, and shows the books of it."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from typing import Any

import pytest

import counterfoil
from counterfoil.langchain import ChatCounterfoil
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Tool, chat_reply, error_answer, fixture
from counterfoil.testing.fixture import ENVIRONMENT, CounterfoilPlayback
from tests.shells.clients import booked
from tests.tree import REPOSITORY

__all__: list[str] = []

pytest_plugins = ["counterfoil.testing.fixture", "pytester"]

HELLO: Any = [{"role": "user", "content": "Good morning"}]
USAGE = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)
MODEL = "openai/gpt-4o-mini"


def text_of(chunks: Any) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


# ---- who is answered


def by_function() -> str:
    return counterfoil.completion(MODEL, HELLO).choices[0].message.content or ""


def by_stream() -> str:
    return text_of(counterfoil.completion(MODEL, HELLO, stream=True))


def by_client() -> str:
    with counterfoil.Client() as client:
        return client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content or ""


def by_async_function() -> str:
    async def call() -> str:
        return (await counterfoil.acompletion(MODEL, HELLO)).choices[0].message.content or ""

    return asyncio.run(call())


def by_async_client() -> str:
    async def call() -> str:
        async with counterfoil.AsyncClient() as client:
            stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            return text_of([chunk async for chunk in stream])

    return asyncio.run(call())


def by_langchain() -> str:
    return str(ChatCounterfoil(model=MODEL).invoke("Good morning").text)


def by_langchain_stream() -> str:
    return "".join(str(chunk.text) for chunk in ChatCounterfoil(model=MODEL).stream("Good morning"))


WAYS = [
    by_function,
    by_stream,
    by_client,
    by_async_function,
    by_async_client,
    by_langchain,
    by_langchain_stream,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_call_is_answered_and_booked(counterfoil_playback: CounterfoilPlayback, way: Any) -> None:
    counterfoil_playback.reply("At noon, as ever.", usage=USAGE)
    assert way() == "At noon, as ever."
    (call,) = counterfoil_playback.calls
    assert call.request.json["messages"][-1]["content"] == "Good morning"
    (entry,) = counterfoil_playback.entries
    assert entry.exit is Exit.COMPLETED
    assert booked(entry) == call.usage == USAGE
    assert counterfoil_playback.usage == entry.usage


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_lives_on_finds_the_next_tests_provider(
    counterfoil_playback: CounterfoilPlayback, way: Any
) -> None:
    # The same functions as in the test above, whose providers are gone.
    assert way() == "The tide turns at noon and the boats come home."
    assert len(counterfoil_playback.calls) == len(counterfoil_playback.entries) == 1


def test_what_names_an_address_finds_it_there(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.reply("High.", usage=USAGE)
    with counterfoil.Client(base_url=counterfoil_playback.base_url, api_key="any") as client:
        assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "High."
    reply = counterfoil.completion(MODEL, HELLO, base_url=counterfoil_playback.base_url, api_key="any")
    assert reply.choices[0].message.content == "High."
    assert len(counterfoil_playback.calls) == 2


def test_an_anthropic_provider_is_answered_in_its_own_dialect(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.reply("High.", usage=USAGE, reasoning="High or low?", tools=(Tool("tide", '{"hour": 4}'),))
    counterfoil_playback.fail(429, "Too many.")
    origin = counterfoil_playback.provider.origin
    more: Any = {"base_url": origin, "custom_llm_provider": "anthropic", "api_key": "any", "max_retries": 0}
    reply = counterfoil.completion("claude-haiku-4-5", HELLO, **more)
    assert reply.choices[0].message.content == "High."
    assert reply.choices[0].message.reasoning_content == "High or low?"
    assert reply.choices[0].message.tool_calls[0].function.name == "tide"
    assert booked(reply.entry) == USAGE
    with pytest.raises(counterfoil.RateLimitError, match="Too many"):
        counterfoil.completion("claude-haiku-4-5", HELLO, **more)
    assert [call.path for call in counterfoil_playback.calls] == ["/v1/messages"] * 2


# ---- what is answered


def test_replies_come_in_turn_and_the_last_stays(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.reply("one")
    counterfoil_playback.reply("two")
    assert [by_function() for _ in range(4)] == ["one", "two", "two", "two"]
    counterfoil_playback.reply("three")
    assert [by_function() for _ in range(2)] == ["three", "three"]


def test_a_failure_that_stays_reaches_the_caller_after_its_retries(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.fail(429, "Slow down.", code="rate_limit_exceeded", retry_after="0")
    with pytest.raises(counterfoil.RateLimitError, match="Slow down") as raised:
        counterfoil.completion(MODEL, HELLO, max_retries=1)
    assert raised.value.status_code == 429
    assert raised.value.code == "rate_limit_exceeded"
    assert len(counterfoil_playback.calls) == len(counterfoil_playback.entries) == 2
    assert {entry.exit for entry in counterfoil_playback.entries} == {Exit.REJECTED}


def test_a_failure_that_passes_is_tried_again(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.fail(503, times=2)
    counterfoil_playback.reply("At last.", usage=USAGE)
    assert counterfoil.completion(MODEL, HELLO, max_retries=2).choices[0].message.content == "At last."
    assert [entry.exit for entry in counterfoil_playback.entries] == [Exit.REJECTED, Exit.REJECTED, Exit.COMPLETED]
    assert counterfoil_playback.calls[-1].usage == USAGE


def test_tools_reasoning_and_finish_are_what_the_test_says(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.reply("", tools=(Tool("tide", '{"hour": 4}', "call_one"),), reasoning="High or low?")
    counterfoil_playback.reply("Hi", finish="length")
    message = counterfoil.completion(MODEL, HELLO).choices[0].message
    assert [(call.id, call.function.name) for call in message.tool_calls or ()] == [("call_one", "tide")]
    assert message.reasoning_content == "High or low?"
    assert counterfoil.completion(MODEL, HELLO).choices[0].finish_reason == "length"


def test_any_script_can_be_played(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.play(chat_reply().cut_at(4), lambda request: error_answer(401, request.model))
    with pytest.raises(counterfoil.APIError):
        by_stream()
    (entry,) = counterfoil_playback.entries
    assert entry.exit is Exit.TRUNCATED
    with pytest.raises(counterfoil.AuthenticationError):
        by_function()


def test_threads_are_answered_and_their_calls_are_booked(counterfoil_playback: CounterfoilPlayback) -> None:
    counterfoil_playback.reply("Aye.", usage=USAGE)
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(by_function())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert said == ["Aye."] * 8
    assert len(counterfoil_playback.entries) == 8
    assert counterfoil_playback.usage.total_tokens == 8 * 57


# ---- around it


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Somebody's project that uses the fixture; whatever other plugins happen to be installed are left out."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest('pytest_plugins = ["counterfoil.testing.fixture"]')
    return pytester


def test_the_environment_is_as_it_was_afterwards(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "as it was")
    project.makepyfile(
        """
        import os
        from counterfoil.testing.fixture import ENVIRONMENT

        def test_within(counterfoil_playback):
            assert os.environ["COUNTERFOIL_BASE_URL"] == counterfoil_playback.base_url
            assert "as it was" not in [os.environ.get(name) for name in ENVIRONMENT]

        def test_afterwards():
            assert {os.environ[name] for name in ENVIRONMENT} == {"as it was"}
        """
    )
    project.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert {os.environ[name] for name in ENVIRONMENT} == {"as it was"}


def test_it_works_as_the_documentation_shows_it(project: pytest.Pytester) -> None:
    shown = re.search(r"```python\n# conftest.py\n(.*?)# test_mine.py\n(.*?)```", fixture.__doc__ or "", re.DOTALL)
    assert shown is not None
    assert shown[0] in (REPOSITORY / "docs" / "testing.md").read_text(encoding="utf-8")
    project.makeconftest(shown[1])
    project.makepyfile(
        mine="""
        import counterfoil

        def greet(name):
            reply = counterfoil.completion("openai/gpt-4o-mini", [{"role": "user", "content": name}])
            return reply.choices[0].message.content
        """,
        test_mine=shown[2],
        test_yours="""
        def test_nothing_is_left_of_another_test(counterfoil_playback):
            assert counterfoil_playback.calls == counterfoil_playback.entries == ()
        """,
    )
    project.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=4)


def test_a_test_that_fails_itself_is_told_so(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import counterfoil

        def wrong(request):
            raise LookupError("the chooser of the test is wrong")

        def test_it(counterfoil_playback):
            counterfoil_playback.play(wrong)
            try:
                counterfoil.completion("m", [{"role": "user", "content": "hello"}], max_retries=0)
            except counterfoil.Error:
                pass
        """
    )
    result = project.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the chooser of the test is wrong*"])
