"""Every attempt ends in exactly one exit, and its entry says what was seen until then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.config import ClientGone, Retries, Timeouts
from counterfoil.core.error import FailureKind
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.exchange.call import Call
from counterfoil.exchange.command import (
    Abort,
    Close,
    Command,
    Deliver,
    Finish,
    Head,
    Interrupted,
    Note,
    Open,
    Post,
    Read,
)
from counterfoil.exchange.meter import LONGEST_ID
from counterfoil.exchange.route import Route
from counterfoil.ledger.entry import Exit, Opening, figures
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.testing import Counts, Script, chat_reply, gemini_reply, messages_reply
from counterfoil.usage.usage import Bucket, Provenance
from tests.exchange.world import CHAT, MESSAGES, Played, World, call, check_books, deployment, lost, played, refused

WORDS = tuple(f"word{number} " for number in range(20))
TRUTH = Counts(input=40, output=30, cache_read=16, reasoning=0)


def chat(**fields: object) -> Script:
    return chat_reply(text=WORDS, usage=TRUTH, **fields)  # type: ignore[arg-type]  # any field of ChatReply


def gone_at(read: int) -> object:
    """The client hangs up while the given read (from 0) waits."""
    seen = iter(range(10**6))

    def interrupt(number: int, command: Command) -> Interrupted | None:
        return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Read) and next(seen) == read else None

    return interrupt


def test_a_whole_stream_is_completed_with_the_providers_numbers() -> None:
    world = World(played(chat()))
    world.run(call())
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.COMPLETED
    shown = figures(entry.usage)
    assert (shown.input_tokens, shown.output_tokens, shown.cache_read_tokens) == (40, 30, 16)
    assert entry.usage.vouched((Bucket.INPUT, Bucket.OUTPUT)) is Provenance.REPORTED
    assert not entry.discrepancies


def test_the_entry_is_closed_before_the_end_mark_is_released() -> None:
    world = World(played(chat()))
    world.run(call())
    kinds = [type(command) for command in world.log]
    assert kinds.index(Close) < len(kinds) - 1 - kinds[::-1].index(Deliver)
    assert world.sent.endswith(b"data: [DONE]\n\n")


def test_a_stream_cut_in_the_middle_is_truncated_and_estimated_from_what_was_delivered() -> None:
    script = chat()
    world = World(played(script.then_at(10)))
    world.run(call())
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.TRUNCATED
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert 0 < (entry.usage.output_tokens or 0) < 60
    assert entry.usage.input_tokens == 9, "the request's own estimate"
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent, "a cut is never passed off as an end"


def test_a_cut_after_the_end_is_no_cut() -> None:
    script = chat(shape="finish_chunk", done=False)
    world = World(played(script, then=Interrupted(Exit.TRUNCATED)))
    world.run(call())
    assert world.entry.exit is Exit.COMPLETED
    assert world.sent.endswith(b"data: [DONE]\n\n")
    assert world.all(Abort), "a broken connection is not kept"
    assert not world.all(Finish)


def test_the_first_report_is_noted_at_once_because_it_may_be_the_last() -> None:
    script = chat(shape="every_chunk")
    world = World(played(script.then_at(3)))
    world.run(call())
    (note,) = world.all(Note)
    assert isinstance(note, Note)
    assert note.progress.reading.reports == 1
    assert world.log.index(note) < next(at for at, command in enumerate(world.log) if isinstance(command, Deliver))


def test_usage_read_before_a_cut_is_kept_and_what_came_after_it_is_added() -> None:
    script = chat(shape="every_chunk")
    world = World(played(script.then_at(12)))
    world.run(call())
    entry = world.entry
    assert entry.exit is Exit.TRUNCATED
    assert entry.usage.provenance[Bucket.INPUT] is Provenance.PARTIAL
    assert entry.usage.input_tokens == 40


def test_a_reply_that_never_begins_is_a_502_and_truncated() -> None:
    world = World(Played(played(chat()).head, [b""]))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.TRUNCATED
    assert world.status == 502


def test_an_error_frame_before_any_content_is_a_real_error_status() -> None:
    world = World(Played(played(chat()).head, [b'data: {"error":{"message":"no room","code":503}}\n\n', b""]))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert world.status >= 500


def test_an_error_frame_after_content_fails_the_attempt_and_reaches_the_client() -> None:
    world = World(played(chat(error="groq")))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert world.status == 200
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent


def test_a_client_that_hangs_up_ends_the_upstream_call_and_pays_for_what_it_got() -> None:
    world = World(played(chat()), interrupt=gone_at(8))  # type: ignore[arg-type]  # see gone_at
    world.run(call())
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.CLIENT_GONE
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert any(isinstance(command, Abort) for command in world.log)


def test_a_client_that_hangs_up_is_drained_where_the_route_says_so() -> None:
    world = World(played(chat()), interrupt=gone_at(8))  # type: ignore[arg-type]  # see gone_at
    world.run(call(client_gone=ClientGone(action="drain", drain=30)))
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.COMPLETED
    assert entry.usage.output_tokens == 30
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED


def test_a_client_that_hangs_up_after_the_end_changes_nothing_in_the_books() -> None:
    script = chat()
    finish = len(script.frames) - 2
    world = World(played(script), interrupt=gone_at(finish))  # type: ignore[arg-type]  # see gone_at
    world.run(call())
    assert world.entry.exit is Exit.COMPLETED
    assert world.entry.usage.output_tokens == 30


def test_the_usage_is_awaited_no_longer_than_the_setting_says() -> None:
    script = chat(shape="absent", done=False)
    world = World(played(script, then=Interrupted(Exit.TIMED_OUT)))
    world.run(call())
    reads = [command for command in world.log if isinstance(command, Read)]
    assert reads[-1].deadline - reads[-2].deadline < 0
    assert world.entry.exit is Exit.COMPLETED
    assert world.sent.endswith(b"data: [DONE]\n\n")


def test_anthropic_input_known_at_the_start_survives_a_cut_and_output_is_estimated() -> None:
    script = messages_reply(text=WORDS, usage=TRUTH)
    world = World(played(script.then_at(9)))
    world.run(call(deployment(MESSAGES)))
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.TRUNCATED
    assert entry.usage.input_tokens == 40
    assert entry.usage.provenance[Bucket.INPUT] is Provenance.PARTIAL
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert (entry.usage.output_tokens or 0) > 3, "not the provisional 1 of message_start"


def test_a_provider_that_was_never_reached_used_nothing_and_costs_nothing() -> None:
    world = World(lost())
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.LOST
    assert world.entry.cost == 0
    assert world.entry.usage.total_tokens is None
    assert world.status == 502


def test_what_a_provider_that_hangs_up_without_a_word_has_used_is_unknown() -> None:
    world = World(Played(Interrupted(Exit.LOST, "the provider hung up without an answer")))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.LOST
    assert world.entry.usage.total_tokens is None
    assert world.entry.cost is None, "unknown is not zero"


def test_a_rejected_request_used_nothing_and_costs_nothing() -> None:
    world = World(refused(401, b'{"error":{"message":"Bad key","type":"invalid_request_error","code":"bad"}}'))
    world.run(call())
    assert world.entry.exit is Exit.REJECTED
    assert world.entry.status == 401
    assert world.entry.cost == 0
    assert world.status == 401


@pytest.mark.parametrize(
    ("secret", "said"),
    [("KEY", "refused the credential it was called with"), (None, "wants a credential, and was called without one")],
)
def test_a_credential_that_the_provider_refuses_is_told_apart_from_the_clients(secret: str | None, said: str) -> None:
    world = World(refused(401, b'{"error":{"message":"Bad key"}}'))
    world.run(call(msgspec.structs.replace(deployment(), secret=secret)))
    assert f"The provider {said}: Bad key".encode() in world.sent


def test_nothing_is_sent_when_the_books_cannot_be_opened() -> None:
    def full(opening: Opening) -> None:
        raise BooksUnavailable("no space left")

    world = World(books_open=full)
    outcome = world.run(call())
    assert next(type(command) for command in world.log) is Open
    assert not world.entries
    assert world.status == 503
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.UNAVAILABLE


@pytest.mark.parametrize(
    ("exit_", "status"), [(Exit.LOST, 502), (Exit.TIMED_OUT, 504), (Exit.SHUTDOWN, 503)], ids=lambda value: str(value)
)
def test_an_interruption_before_the_reply_has_its_own_exit_and_status(exit_: Exit, status: int) -> None:
    world = World(Played(Interrupted(exit_)))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is exit_
    assert world.status == status


def test_a_client_that_leaves_before_the_reply_is_told_nothing() -> None:
    world = World(Played(Interrupted(Exit.CLIENT_GONE)))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.CLIENT_GONE
    assert not world.sent
    assert world.entry.usage.input_tokens == 9, "the provider may have read it"


def test_output_beyond_a_frame_limit_fails_the_attempt() -> None:
    world = World(Played(played(chat()).head, [b"data: " + b"x" * (9 << 20), b""]))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED


def test_a_web_page_is_no_reply() -> None:
    from counterfoil.testing import html_answer

    world = World(played(html_answer(200)))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert world.status == 502


EXITS = st.sampled_from([Exit.LOST, Exit.TIMED_OUT, Exit.CLIENT_GONE, Exit.SHUTDOWN, Exit.TRUNCATED])
SCRIPTS = st.sampled_from(
    [
        (CHAT, chat()),
        (CHAT, chat(shape="finish_chunk")),
        (CHAT, chat(shape="every_chunk")),
        (CHAT, chat(shape="repeated")),
        (CHAT, chat(shape="absent")),
        (CHAT, chat(shape="non_empty_choices", error="openrouter")),
        (CHAT, chat(stream=False)),
        (MESSAGES, messages_reply(text=WORDS, usage=TRUTH)),
        (MESSAGES, messages_reply(text=WORDS, usage=TRUTH, delta="output_only")),
        (MESSAGES, messages_reply(text=WORDS, usage=TRUTH, error="overloaded_error")),
        (MESSAGES, messages_reply(text=WORDS, usage=TRUTH, stream=False)),
    ]
)


@given(
    script=SCRIPTS,
    stream=st.booleans(),
    where=st.sets(st.integers(0, 60), max_size=3),
    exit_=EXITS,
    drain=st.booleans(),
    attempts=st.integers(1, 3),
    cut=st.integers(0, 40),
)
def test_whatever_interrupts_whenever_each_attempt_has_exactly_one_entry(
    script: tuple[object, Script],
    stream: bool,
    where: set[int],
    exit_: Exit,
    drain: bool,
    attempts: int,
    cut: int,
) -> None:
    dialect, whole = script
    plays = [played(whole.then_at(min(cut, len(whole.frames)))) for _ in range(attempts)]
    world = World(
        *plays,
        interrupt=lambda number, command: Interrupted(exit_) if number in where else None,
    )
    world.run(
        call(
            deployment(dialect),  # type: ignore[arg-type]  # the first of the pair is a Dialect
            stream=stream,
            retries=Retries(attempts=attempts),
            client_gone=ClientGone(action="drain" if drain else "cancel"),
        )
    )
    check_books(world.log)
    for entry in world.entries:
        usage = entry.usage
        assert all(value >= 0 for value in usage.buckets.values())
        if entry.exit is Exit.COMPLETED and Finish in {type(command) for command in world.log}:
            assert usage.output_tokens is not None


def test_a_last_report_that_lacks_only_the_end_of_its_frame_is_read_when_the_connection_is_cut() -> None:
    whole = chat(done=False)
    frames = [frame.data for frame in whole.frames]
    head = Head(200, dict(whole.headers))
    world = World(Played(head, [*frames[:-1], frames[-1][:-2], Interrupted(Exit.TRUNCATED)]))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (40, 30)
    assert not world.entry.usage.estimated


def fewer_than_asked(client: ClientDialect[Any]) -> tuple[Call, Script]:
    """A call for two choices, and the stream of a provider that gives one and sends no end mark."""
    if client.name == "gemini":
        body = {"contents": [{"parts": [{"text": "Tell me of the tide."}]}], "generationConfig": {"candidateCount": 2}}
        raw = msgspec.json.encode(body)
        peek = msgspec.structs.replace(client.peek_request(raw), model="house-model", streamed=True)
        asked = Call("exchange-1", Route("house-model", (deployment(client),)), client, raw, peek, input_estimate=9)
        return asked, gemini_reply(text=WORDS, usage=TRUTH, placement="last")
    return call(n=2), chat(shape="finish_chunk", done=False)


@pytest.mark.parametrize("name", ["openai_chat", "gemini"])
def test_a_provider_that_gives_fewer_choices_than_asked_has_ended_when_its_bytes_are_over(name: str) -> None:
    asked, script = fewer_than_asked(CLIENT_DIALECTS[name])
    assert asked.peek.choices == 2
    world = World(played(script))
    world.run(asked)
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (40, 30)
    assert not world.entry.usage.estimated
    assert b'"error"' not in world.sent


@pytest.mark.parametrize("name", ["openai_chat", "gemini"])
def test_what_breaks_off_while_a_choice_is_still_to_come_is_truncated(name: str) -> None:
    asked, script = fewer_than_asked(CLIENT_DIALECTS[name])
    broken = World(played(script, then=Interrupted(Exit.TRUNCATED)))
    broken.run(asked)
    frames = [frame.data for frame in script.frames]
    half = World(Played(Head(200, dict(script.headers)), [*frames, frames[0][:-9], b""]))
    half.run(asked)
    unfinished = World(played(script.then_at(len(frames) - 1)))
    unfinished.run(asked)
    for world in (broken, half, unfinished):
        check_books(world.log)
        assert world.entry.exit is Exit.TRUNCATED


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_reply_that_is_compressed_all_the_same_is_a_bad_reply(encoding: str) -> None:
    head = Head(200, {"content-type": "text/event-stream", "content-encoding": encoding})
    world = World(Played(head, [b"\x1f\x8b\x08", b""]))
    world.run(call())
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert world.status == 502
    assert b"compressed" in world.sent


def test_a_switch_of_protocols_is_no_reply() -> None:
    world = World(Played(Head(101, {"upgrade": "h2c"}), [b""]))
    world.run(call())
    assert world.entry.exit is Exit.FAILED
    assert world.status == 502


def test_a_providers_id_is_kept_as_far_as_an_id_goes() -> None:
    script = chat_reply(text=("word ",), usage=TRUTH)
    data = script.body.replace(b"chatcmpl-", b"chatcmpl-" + b"x" * 100_000)
    world = World(Played(Head(200, dict(script.headers)), [data, b""]))
    world.run(call())
    assert world.entry.exit is Exit.COMPLETED
    assert len(world.entry.provider_id or "") == LONGEST_ID


def test_a_refusal_has_the_id_that_the_provider_gave_it() -> None:
    world = World(refused(503, x_request_id="req-7"))
    world.run(call())
    assert (world.entry.exit, world.entry.provider_id) == (Exit.REJECTED, "req-7")


@pytest.mark.parametrize(("total", "latest"), [(600, 1010), (5, 1005)])
def test_the_words_of_a_refusal_are_awaited_shortly_and_never_beyond_the_attempts_whole_time(
    total: float, latest: float
) -> None:
    world = World(refused(503))
    world.run(call(deployment(timeouts=Timeouts(total=total))))
    deadlines = [read.deadline for read in world.all(Read) if isinstance(read, Read)]
    assert deadlines
    assert all(latest <= deadline < latest + 0.1 for deadline in deadlines)


def test_a_stream_for_a_client_that_asked_for_none_is_no_larger_than_a_whole_reply_may_be() -> None:
    script = chat_reply(text=("x" * 1_000_000,) * 70, usage=TRUTH)
    world = World(played(script))
    world.run(call(stream=False))
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert len(world.all(Read)) < 70
    assert world.status == 502


@pytest.mark.parametrize("exit_", [Exit.CLIENT_GONE, Exit.SHUTDOWN])
def test_an_interruption_while_a_refusal_is_read_ends_the_exchange(exit_: Exit) -> None:
    def interrupt(number: int, command: Command) -> Interrupted | None:
        return Interrupted(exit_) if isinstance(command, Read) else None

    world = World(refused(503), played(chat()), interrupt=interrupt)
    world.run(call(deployment(name="first"), deployment(name="second"), retries=Retries(attempts=3)))
    check_books(world.log)
    assert [entry.exit for entry in world.entries] == [Exit.REJECTED]
    assert bool(world.sent) is (exit_ is Exit.SHUTDOWN)


def test_an_attempt_waits_for_its_head_no_longer_than_its_whole_time() -> None:
    world = World(played(chat()))
    world.run(call(deployment(timeouts=Timeouts(first_byte=100, total=5))))
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    assert post.deadline <= 1005.1


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_without_usage_that_the_operator_refuses_is_told_once_and_not_tried_elsewhere(stream: bool) -> None:
    script = chat_reply(text=WORDS, usage=TRUTH, shape="absent")
    world = World(played(script), played(chat()))
    here = (deployment(name="first"), deployment(name="second"))
    world.run(call(*here, stream=stream, missing_usage="error", retries=Retries(attempts=2)))
    check_books(world.log)
    assert [entry.exit for entry in world.entries] == [Exit.COMPLETED]
    assert world.status == (200 if stream else 502)
    assert world.sent.count(b"reported no usage") == 1
    assert b"[DONE]" not in world.sent
