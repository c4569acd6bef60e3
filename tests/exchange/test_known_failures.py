"""How gateways are known to lose, invent and double tokens in streams: a test for each way, named after it.

Each was seen in another system, in its code, its issue threads or on its wire; the thread is cited where there is one.
What only a door or a store can get wrong is tested there: batches of rows dropped on a database error, and openings
lost in a crash (tests/stores/test_books.py), a client that is not read to its end (tests/shells/test_client_gone.py),
usage that an in-process stream does not hand out, and streams that cannot be read without a loop (edgequake-litellm;
tests/sdk/test_streams.py), counts shown by real clients (tests/shells).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from counterfoil.config import ClientGone
from counterfoil.exchange.command import Abort, Close, Command, Deliver, Head, Interrupted, Post, Read
from counterfoil.ledger.entry import Exit
from counterfoil.testing import ChatReply, Counts, MessagesReply, Script, chat_reply, messages_reply
from counterfoil.usage.usage import Bucket, Provenance
from tests.exchange.world import CHAT, MESSAGES, Played, World, call, check_books, deployment, played

__all__: list[str] = []

TRUTH = Counts(input=1140, output=30, cache_read=900, cache_write=200)
WORDS = tuple(f"word{place} " for place in range(200))
ANTHROPIC = deployment(MESSAGES)


def run(script: Script, *, to: Any = None, client: Any = CHAT, **settings: Any) -> World:
    """One exchange with a provider that plays `script`, its books checked."""
    world = World(played(script), interrupt=settings.pop("interrupt", None))
    world.run(call(to or deployment(), dialect=client, **settings))
    check_books(world.log)
    return world


def gone_after(reads: int) -> Callable[[int, Command], Interrupted | None]:
    """The client hangs up while so many pieces have been read."""
    seen = 0

    def interrupt(_: int, command: Command) -> Interrupted | None:
        nonlocal seen
        seen += isinstance(command, Read)
        return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Deliver) and seen == reads else None

    return interrupt


def posted(world: World) -> dict[str, Any]:
    """What the provider was asked."""
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    body: dict[str, Any] = json.loads(post.body)
    return body


def sent_events(world: World) -> list[tuple[str, dict[str, Any]]]:
    """The frames that a messages client got."""
    blocks = [block for block in world.sent.decode().split("\n\n") if block]
    named = [block.split("\n", 1) for block in blocks]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in named]


# ---- what the client is shown


@pytest.mark.parametrize("shape", ["separate", "finish_chunk", "non_empty_choices", "repeated", "every_chunk"])
def test_usage_merged_into_a_frame_with_choices_is_counted_twice_by_clients(shape: Any) -> None:
    """maximhq/bifrost#5604, BerriAI/litellm#28735, tensorzero: usage beside a choice."""
    frames: Any = run(chat_reply(shape=shape, usage=TRUTH)).frames
    assert [frame["choices"] for frame in frames if frame["usage"]] == [[]]
    assert [bool(frame["usage"]) for frame in frames] == [False] * (len(frames) - 1) + [True]


def test_chunks_without_a_null_usage_are_not_what_was_asked_for() -> None:
    """BerriAI/litellm#9657, tensorzero: where usage was asked for, every other chunk says null."""
    frames: Any = run(chat_reply(shape="separate_no_nulls", usage=TRUTH)).frames
    assert all(frame["usage"] is None for frame in frames[:-1])


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": False}}], ids=["silent", "says no"])
def test_a_usage_frame_nobody_asked_for_breaks_clients_that_take_the_first_choice(asked: dict[str, Any]) -> None:
    """Arthur-Ficial/apfel#100, ferro: `choices: []` to a client that did not ask, with usage or without."""
    frames: Any = run(chat_reply(usage=TRUTH), usage_asked=False, **asked).frames
    assert all(frame["choices"] and "usage" not in frame for frame in frames)


def test_cumulative_usage_copied_into_every_frame_is_added_up_by_clients() -> None:
    """Portkey-AI/gateway: the running counts of a provider that reports in every frame."""
    frames: Any = run(chat_reply(shape="every_chunk", usage=TRUTH)).frames
    assert sum(bool(frame["usage"]) for frame in frames) == 1


def test_usage_at_the_start_and_again_at_the_end_is_added_up_by_clients() -> None:
    """Helicone's ai-gateway: a Claude's head and delta both become a usage frame."""
    frames: Any = run(messages_reply(usage=TRUTH), to=ANTHROPIC).frames
    (usage,) = [frame["usage"] for frame in frames if frame["usage"]]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1140, 30)


@pytest.mark.parametrize("delta", ["full", "output_only"])
def test_a_prompt_of_zero_because_the_delta_repeats_no_input(delta: Any) -> None:
    """agentgateway, liter-llm: the last frame made from `message_delta` alone."""
    frames: Any = run(messages_reply(usage=TRUTH, delta=delta), to=ANTHROPIC).frames
    assert frames[-1]["usage"]["prompt_tokens"] == 1140


def test_cached_tokens_left_out_of_the_prompt() -> None:
    """Portkey-AI/gateway#1210 and PR 1754, mozilla-ai/any-llm#622: a total of 5070 beside 10 and 40."""
    usage = Counts(input=5030, output=40, cache_read=5000, cache_write=20)
    frames: Any = run(messages_reply(usage=usage), to=ANTHROPIC).frames
    told = frames[-1]["usage"]
    assert told["prompt_tokens"] + told["completion_tokens"] == told["total_tokens"] == 5070
    assert told["prompt_tokens_details"] == {"cached_tokens": 5000, "cache_write_tokens": 20}


def test_an_error_that_a_crossing_swallows_looks_like_an_answer() -> None:
    """Helicone's ai-gateway: Anthropic's `error` event is dropped. Portkey-AI/gateway#1142: so are Bedrock's."""
    world = run(messages_reply(error="overloaded_error"), to=ANTHROPIC)
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent
    assert world.entry.exit is Exit.FAILED


@pytest.mark.parametrize("client", [CHAT, MESSAGES], ids=lambda client: client.name)
def test_a_stream_that_broke_off_closed_as_if_it_were_whole(client: Any) -> None:
    """Portkey-AI/gateway#1047, liter-llm, BerriAI/litellm: a clean end mark after a cut or an error."""
    world = run(chat_reply(text=WORDS).then_at(20), client=client)
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent
    assert b"message_stop" not in world.sent
    assert world.entry.exit is Exit.TRUNCATED


def test_a_messages_stream_that_ends_in_an_event_that_does_not_exist() -> None:
    """Otari: `event: done`. The dialect ends in message_delta and message_stop."""
    events = sent_events(run(chat_reply(usage=TRUTH), client=MESSAGES))
    assert [name for name, _ in events][-2:] == ["message_delta", "message_stop"]
    assert all(name == data["type"] for name, data in events)


def test_a_stream_held_back_until_it_is_whole() -> None:
    """liter-llm: the reply is collected before the first byte leaves."""
    world = run(chat_reply(text=WORDS))
    kinds = [type(command) for command in world.log]
    assert kinds.index(Deliver) < len(kinds) - kinds[::-1].index(Read) - 1
    assert kinds.count(Deliver) > 100


def test_a_role_that_gets_lost_with_an_empty_first_delta() -> None:
    """maximhq/bifrost#6523: LangChain.js counts nothing of a choice that never said its role."""
    frames: Any = run(chat_reply(role="missing", usage=TRUTH)).frames
    assert frames[0]["choices"][0]["delta"]["role"] == "assistant"


# ---- what the provider is asked


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {}], ids=["absent", "says no", "empty"])
def test_a_client_that_evades_metering_by_not_asking_for_usage(asked: dict[str, bool] | None) -> None:
    """Otari, agentgateway, any-llm, Portkey-AI/gateway#691, Kong, one-api: usage is asked for only sometimes."""
    more: dict[str, Any] = {} if asked is None else {"stream_options": asked}
    world = run(chat_reply(usage=TRUTH), usage_asked=False, **more)
    assert posted(world)["stream_options"]["include_usage"] is True
    assert world.entry.usage.output_tokens == 30


# ---- how reports are read


def test_a_correction_downwards_lost_to_the_largest_number() -> None:
    """tensorzero: the field-wise maximum cannot say that a provider took something back."""
    script = messages_reply(start=Counts(input=5000, output=0), usage=Counts(input=900, output=12))
    entry = run(script, to=ANTHROPIC).entry
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (900, 12)
    assert {found.kind for found in entry.discrepancies} == {"counter_fell"}


def test_counters_of_an_earlier_report_erased_by_a_later_one_that_lacks_them() -> None:
    """ferro keeps the last block whole; envoyproxy/ai-gateway PR 2236 added them up: neither joins."""
    entry = run(messages_reply(usage=TRUTH, delta="output_only"), to=ANTHROPIC).entry
    assert entry.usage.buckets[Bucket.CACHE_READ] == 900
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (1140, 30)


def test_cache_counts_that_come_only_at_the_end() -> None:
    """envoyproxy/ai-gateway#2115 and PR 2116: 37 % of the cache writes were lost."""
    script = messages_reply(start=Counts(input=40, output=0, cache_read=0, cache_write=0), usage=TRUTH)
    usage = run(script, to=ANTHROPIC, client=MESSAGES).entry.usage
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (900, 200)


@pytest.mark.parametrize("shape", ["repeated", "every_chunk", "every_chunk_and_separate"])
def test_reports_that_repeat_or_run_added_up(shape: Any) -> None:
    """Kong adds the metadata of every frame; Groq says the same three times, vLLM counts on in each."""
    entry = run(chat_reply(shape=shape, usage=TRUTH)).entry
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (1140, 30)


def test_cache_creation_counted_in_the_start_and_in_the_delta() -> None:
    """maximhq/bifrost#3451: 1.86 dollars instead of 1.06."""
    entry = run(messages_reply(usage=TRUTH), to=ANTHROPIC, client=MESSAGES).entry
    assert entry.usage.cache_write_tokens == 200
    assert entry.usage.total_tokens == 1170


def test_usage_that_is_not_in_the_last_frame() -> None:
    """new-api looks at the last frame; Portkey-AI/gateway#1259 lost Mistral's, which is beside the content."""
    entry = run(chat_reply(shape="finish_chunk", usage=TRUTH)).entry
    assert entry.usage.output_tokens == 30


# ---- what nobody reported


def test_a_call_without_a_report_booked_as_a_free_call() -> None:
    """ferro, QuantumNous/new-api#7062: 0 tokens, cost 0.0, no error."""
    entry = run(chat_reply(text=WORDS, shape="absent")).entry
    assert entry.usage.output_tokens
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert entry.finality == "none"


def test_an_estimate_shown_as_a_fact() -> None:
    """Kong divides characters by four, BerriAI/litellm counts with a tokenizer of its own: neither says so."""
    frames: Any = run(chat_reply(text=WORDS, shape="absent")).frames
    assert frames[-1]["usage"]["estimated"] is True
    known: Any = run(chat_reply(text=WORDS, usage=TRUTH)).frames
    assert "estimated" not in known[-1]["usage"]


def test_details_made_up_where_the_provider_said_nothing() -> None:
    """BerriAI/litellm: reasoning_tokens 0 where nobody knows. Unknown is left out."""
    frames: Any = run(chat_reply(usage=Counts(input=11, output=7))).frames
    assert "completion_tokens_details" not in frames[-1]["usage"]
    assert "prompt_tokens_details" not in frames[-1]["usage"]


# ---- what goes wrong on the way


def _chat(**changes: Any) -> Script:
    return ChatReply(text=WORDS, usage=TRUTH, shape="every_chunk", **changes).script()


def _messages(**changes: Any) -> Script:
    return MessagesReply(text=WORDS, usage=TRUTH, **changes).script()


def _failing(script: Script, how: str) -> World:
    provider = deployment() if b"choices" in script.body else ANTHROPIC
    if how == "cut":
        return run(script.then_at(90), to=provider)
    if how == "gone":
        return run(script, to=provider, interrupt=gone_after(90))
    broken = played(script.then_at(90), then=Interrupted(Exit[how]))
    world = World(broken)
    world.run(call(provider))
    check_books(world.log)
    return world


@pytest.mark.parametrize("how", ["cut", "gone", "LOST", "TIMED_OUT", "SHUTDOWN"])
@pytest.mark.parametrize("script", [_chat(), _messages()], ids=["chat", "messages"])
def test_a_stream_that_fails_billed_without_its_cache_or_not_at_all(script: Script, how: str) -> None:
    """maximhq/bifrost#3357, PR 4575 and PR 4842: 25 % under-billed in thirty days; ferro: 0/0/0 after a cut."""
    entry = _failing(script, how).entry
    assert entry.exit is not Exit.COMPLETED
    usage = entry.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (1140, 900, 200)
    assert usage.output_tokens
    assert Provenance.REPORTED not in usage.provenance.values()


def test_hundreds_of_delivered_deltas_booked_as_one_token() -> None:
    """maximhq/bifrost PR 3709: the head's provisional 1 taken for the output of 806 deltas."""
    entry = run(_messages(provisional=1), to=ANTHROPIC, client=MESSAGES, interrupt=gone_after(150)).entry
    assert (entry.usage.output_tokens or 0) > 100
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED


@pytest.mark.parametrize("client", [CHAT, MESSAGES], ids=lambda client: client.name)
def test_a_client_that_hangs_up_gets_its_tokens_for_nothing(client: Any) -> None:
    """Otari refunds and keeps no row, tensorzero writes none: pollinations/pollinations#5594."""
    provider = deployment(client)
    script = chat_reply(text=WORDS, usage=TRUTH) if client is CHAT else _messages()
    entry = run(script, to=provider, client=client, interrupt=gone_after(120)).entry
    assert entry.exit is Exit.CLIENT_GONE
    assert entry.lines[0].cost
    assert (entry.usage.output_tokens or 0) > 20


def test_a_client_that_leaves_right_after_the_last_frame_loses_all_usage() -> None:
    """envoyproxy/ai-gateway#2563."""
    script = chat_reply(text="Ebb.", usage=TRUTH)
    entry = run(script, interrupt=gone_after(len(script.frames) - 1)).entry
    assert (entry.exit, entry.usage.output_tokens) == (Exit.COMPLETED, 30)
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED


def test_heartbeats_that_keep_a_finished_stream_open() -> None:
    """maximhq/bifrost#6784: the wait for the last usage is not begun again by what says nothing."""
    script = chat_reply(text="Ebb.", usage=None)
    heartbeats = [b": heartbeat\n\n"] * 50
    finish = next(place for place, frame in enumerate(script.frames) if b'"stop"' in frame.data)
    spoken = [frame.data for frame in script.frames[: finish + 1]]
    provider = Played(
        Head(200, dict(script.headers)), [*spoken, *heartbeats, Interrupted(Exit.TIMED_OUT, "no frame in time")]
    )
    world = World(provider)
    world.run(call(deployment()))
    check_books(world.log)
    after_the_end = [read.deadline for read in world.all(Read)[finish + 1 :] if isinstance(read, Read)]
    assert len(after_the_end) == len(heartbeats) + 1
    assert len(set(after_the_end)) == 1
    assert world.entry.exit is Exit.COMPLETED


def test_books_closed_only_after_the_end_mark_was_released() -> None:
    """Otari, in its default order: a crash after [DONE] is a full answer without a row."""
    log = run(chat_reply(usage=TRUTH)).log
    (closed,) = (place for place, command in enumerate(log) if isinstance(command, Close))
    (released,) = (place for place, command in enumerate(log) if isinstance(command, Deliver) and command.last)
    assert closed < released


def test_a_provider_read_on_for_nobody_and_paid_for() -> None:
    """tensorzero drains every stream that was left, Wei-Shaw/sub2api#4408: by default the call is stopped."""
    stopped = run(_chat(), interrupt=gone_after(50))
    assert any(isinstance(command, Abort) for command in stopped.log)
    assert len(stopped.all(Read)) == 50
    drained = run(_chat(), interrupt=gone_after(50), client_gone=ClientGone(action="drain"))
    assert drained.entry.usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED


def test_usage_known_only_from_the_last_event_is_gone_when_the_stream_is_aborted() -> None:
    """any-llm: usage exists only in the snapshot at MessageStop."""
    entry = run(_messages().then_at(30), to=ANTHROPIC, client=MESSAGES).entry
    assert entry.usage.input_tokens == 1140
    assert entry.usage.provenance[Bucket.CACHE_READ] is Provenance.PARTIAL
