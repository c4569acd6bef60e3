"""Whoever runs an exchange, its client reads the same bytes and its books have the same entries."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from counterfoil.config import ClientGone, Retries, Timeouts
from counterfoil.driver.sending import Blanking
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Exit
from counterfoil.providers.provider import EMBEDDED
from counterfoil.testing import (
    CHAT_SHAPES,
    Answer,
    Counts,
    Pause,
    Playback,
    Reset,
    Script,
    Send,
    Tool,
    bad_json,
    chat_reply,
    empty_answer,
    error_answer,
    html_answer,
    messages_reply,
    no_answer,
    redirect,
    running,
    silent_answer,
    wrong_type,
)
from tests.exchange.ways import SECONDS, WAYS, Ledger, Seen
from tests.exchange.world import MESSAGES, call, deployment

WORDS = tuple(f"word{number} " for number in range(12))
COUNTS = Counts(input=11, output=7)
REPLY = chat_reply(text=WORDS, usage=COUNTS)
WHOLE = chat_reply(text=WORDS, usage=COUNTS, stream=False)
ACROSS = messages_reply(text=WORDS, thinking="First the moon. ", usage=Counts(input=40, output=21, cache_read=32))
ACROSS_WHOLE = messages_reply(text=WORDS, usage=Counts(input=40, output=21), stream=False)
QUICK = Timeouts(first_byte=0.3, between_frames=0.3, last_usage=0.2)
TWICE = Retries(attempts=2, backoff=0.01)


@dataclass
class Case:
    """What the provider does, and what is asked of it."""

    answers: tuple[Answer, ...]
    exits: tuple[Exit, ...]
    to: tuple[Mapping[str, Any], ...] = ({},)
    """Deployments: fields over the ordinary one."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    until: bytes | None = None
    """The client leaves once it has read this."""


DONE, LOST, CUT, LATE = Exit.COMPLETED, Exit.LOST, Exit.TRUNCATED, Exit.TIMED_OUT
ANTHROPIC: Mapping[str, Any] = {"dialect": MESSAGES, "convention": MESSAGES.convention}
LAST = len(REPLY.frames)

CASES: Mapping[str, Case] = {
    **{
        f"usage {shape}": Case((chat_reply(text=WORDS, usage=COUNTS, shape=shape, reasoning="Hm. "),), (DONE,))
        for shape in CHAT_SHAPES
    },
    **{
        f"usage {shape}, n=2, not asked for": Case(
            (chat_reply(text=WORDS, usage=COUNTS, shape=shape, n=2),), (DONE,), asked={"usage_asked": False, "n": 2}
        )
        for shape in ("separate", "per_choice", "finish_chunk")
    },
    "every byte apart": Case((REPLY.delivered("bytes"),), (DONE,)),
    "all at once": Case((REPLY.delivered("whole"),), (DONE,)),
    "ended by closing": Case((REPLY.framed("close"),), (DONE,)),
    "no end mark": Case((chat_reply(text=WORDS, usage=COUNTS, done=False),), (DONE,)),
    "tools": Case((chat_reply(text=(), tools=(Tool("tide", '{"at":"noon"}'), Tool("moon"))),), (DONE,)),
    "whole": Case((WHOLE,), (DONE,), asked={"stream": False}),
    "whole where a stream was asked": Case((WHOLE,), (DONE,)),
    "a stream where the whole was asked": Case((REPLY,), (DONE,), asked={"stream": False}),
    "cut": Case((REPLY.cut_at(5),), (CUT,)),
    "cut in a frame": Case((REPLY.half_frame_at(4),), (CUT,)),
    "cut in a whole reply": Case((WHOLE.framed("length").half_frame_at(0),), (CUT,), asked={"stream": False}),
    "ended too early": Case((REPLY.half_frame_at(4, clean=True),), (CUT,)),
    "reset": Case((REPLY.then_at(5, Pause(0.2), Reset()),), (LOST,)),
    "stalled": Case((REPLY.stall_at(5),), (LATE,), to=({"timeouts": QUICK},)),
    "stalled before the first frame": Case((REPLY.stall_at(0),), (LATE,), to=({"timeouts": QUICK},)),
    "silent": Case((silent_answer(),), (LATE,), to=({"timeouts": QUICK},)),
    "no time left": Case((REPLY.stall_at(5),), (LATE,), to=({"timeouts": Timeouts(total=0.3)},)),
    "the last usage never comes": Case((REPLY.stall_at(LAST - 2),), (DONE,), to=({"timeouts": QUICK},)),
    "an error frame": Case((chat_reply(text=WORDS, error="plain"),), (Exit.FAILED,)),
    "refused": Case((error_answer(400, "no"),), (Exit.REJECTED,)),
    "refused slowly": Case(
        (error_answer(400, "no").stall_at(0),), (Exit.REJECTED,), to=({"timeouts": Timeouts(total=0.3)},)
    ),
    "busy, then not": Case((error_answer(429, "later"), REPLY), (Exit.REJECTED, DONE), asked={"retries": TWICE}),
    "no answer, then one": Case((no_answer(), REPLY), (LOST, DONE), asked={"retries": TWICE}),
    "down, then another": Case((error_answer(503, "down"), REPLY), (Exit.REJECTED, DONE), to=({}, {"model": "play-2"})),
    "late, then another": Case((silent_answer(), REPLY), (LATE, DONE), to=({"timeouts": QUICK}, {})),
    "redirected": Case((redirect("http://elsewhere.test/"),), (Exit.REJECTED,)),
    "a web page": Case((html_answer(),), (Exit.FAILED,)),
    "no JSON": Case((bad_json(),), (Exit.FAILED,), asked={"stream": False}),
    "nothing": Case((empty_answer(),), (CUT,)),
    "another content type": Case((wrong_type(REPLY),), (DONE,)),
    "across": Case((ACROSS,), (DONE,), to=(ANTHROPIC,)),
    "across, whole": Case((ACROSS_WHOLE,), (DONE,), to=(ANTHROPIC,), asked={"stream": False}),
    "across, cut": Case((ACROSS.cut_at(6),), (CUT,), to=(ANTHROPIC,)),
    "across, refused, then not": Case(
        (error_answer(529, "overloaded"), REPLY), (Exit.REJECTED, DONE), to=(ANTHROPIC, {})
    ),
    "across the other way": Case((REPLY,), (DONE,), asked={"dialect": MESSAGES}),
    "the client leaves": Case((REPLY.hold_at(5, "never"),), (Exit.CLIENT_GONE,), until=b"word3"),
    "the client leaves across": Case(
        (ACROSS.hold_at(12, "never"),), (Exit.CLIENT_GONE,), to=(ANTHROPIC,), until=b"word1"
    ),
    "the client leaves and the reply is drained": Case(
        (REPLY.insert_at(5, Pause(0.2)),),
        (DONE,),
        asked={"client_gone": ClientGone(action="drain", drain=5.0)},
        until=b"word3",
    ),
    "the client leaves after the end and before the usage": Case(
        (REPLY.insert_at(LAST - 2, Pause(0.2)),), (DONE,), until=b'"stop"'
    ),
    "nobody there": Case((), (LOST,), to=({"base_url": "http://127.0.0.1:{spare}/v1"},)),
    "no such address": Case((), (LOST,), to=({"base_url": "ftp://127.0.0.1/v1"},)),
    "no model of its own": Case((), (LOST,), to=({"base_url": EMBEDDED},)),
    "a header that cannot be sent": Case((), (LOST,), to=({"headers": {"x-y": "a\r\nb: c"}},)),
}


def _deployments(case: Case, provider: Playback, spare: int) -> list[Deployment]:
    made = []
    for fields in case.to:
        whole = {"base_url": provider.base_url, "secret": "play-secret", **fields}
        whole["base_url"] = whole["base_url"].replace("{spare}", str(spare))
        made.append(msgspec.structs.replace(deployment(), **whole))
    return made


def _run(way: str, case: Case, spare: int) -> Seen:
    with running() as provider:
        provider.queue(*case.answers)
        books = Ledger()
        seen = WAYS[way](call(*_deployments(case, provider, spare), **case.asked), books, case.until)
        if case.until is not None:
            provider.block_until(lambda: provider.served[-1].ended, SECONDS)
            expected = "client_left" if case.exits == (Exit.CLIENT_GONE,) else "completed"
            assert provider.served[-1].ended == expected, way
        assert len(provider.served) == len(case.answers), "a call was made again, or not at all"
        assert all(
            served.headers.get("authorization", "Bearer sesame") == "Bearer sesame" for served in provider.served
        )
        return seen


@pytest.mark.parametrize("name", CASES)
def test_every_driver_gives_the_same_bytes_and_writes_the_same_entries(name: str) -> None:
    case = CASES[name]
    with socket.socket() as spare:  # bound and not listening: nobody else gets it, and it refuses
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
        first, *others = [(way, _run(way, case, port)) for way in WAYS]
    assert tuple(entry.exit for entry in first[1].entries) == case.exits
    assert first[1].data or case.until
    for way, seen in others:
        for attribute in ("status", "headers", "data", "entries", "outcome"):
            assert getattr(seen, attribute) == getattr(first[1], attribute), f"{attribute} of {way}"


@pytest.mark.parametrize("carried", [False, True], ids=["a door", "the passthrough"])
@pytest.mark.parametrize("halved", [False, True], ids=["in one piece", "in two"])
@pytest.mark.parametrize("way", WAYS)
def test_an_error_that_repeats_the_secret_it_was_asked_with_is_told_without_it(
    way: str, halved: bool, carried: bool
) -> None:
    with running() as provider:
        said = (error_answer(401, "zk-live-sesame? No."), error_answer(500, "No zk-live-sesame"))
        provider.queue(*[_halved(answer, b"sesame") if halved else answer for answer in said])
        to = msgspec.structs.replace(deployment(), base_url=provider.base_url, secret="long-secret")
        for _ in range(2):
            made = call(to)
            if carried:
                made = msgspec.structs.replace(made, carriage=Carriage("POST", "/chat/completions", (), {}, True))
            seen = WAYS[way](made, Ledger(), None)
            assert provider.served[-1].headers["authorization"] == "Bearer zk-live-sesame"
            assert b"zk-live-sesame" not in seen.data
            assert b"*" * len("zk-live-sesame") in seen.data or b"[redacted]" in seen.data
            assert not carried or len(seen.data) == len(provider.served[-1].script.body)


def _halved(answer: Script, before: bytes) -> Script:
    """Its body in two pieces, the second of which begins with `before`."""
    at = answer.body.index(before)
    return replace(answer, steps=(Send(answer.body[:at]), Pause(0.2), Send(answer.body[at:])))


@pytest.mark.parametrize("secret", [b"zk-live-sesame", b"aaaabaaaa"])
def test_a_secret_is_found_however_an_error_is_cut(secret: bytes) -> None:
    said = b"".join([b"No ", secret[:-1], secret, b", ", secret, secret[:3]])
    for size in range(1, len(said) + 1):
        blanking = Blanking(secret)
        told = [blanking.feed(said[at : at + size]) for at in range(0, len(said), size)]
        assert b"".join([*told, blanking.feed(b"")]) == said.replace(secret, b"*" * len(secret))
        assert blanking.feed(b"") == b""


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_that_is_no_error_is_not_looked_through_for_the_secret(way: str) -> None:
    with running() as provider:
        provider.queue(chat_reply(text="It is zk-live-sesame.", stream=False))
        to = msgspec.structs.replace(deployment(), base_url=provider.base_url, secret="long-secret")
        assert b"It is zk-live-sesame." in WAYS[way](call(to, stream=False), Ledger(), None).data


def test_books_that_cannot_be_opened_refuse_the_call_in_every_way() -> None:
    seen = []
    for way in WAYS.values():
        with running() as provider:
            seen.append(
                way(call(msgspec.structs.replace(deployment(), base_url=provider.base_url)), Ledger(full=True), None)
            )
            assert not provider.served
    assert {one.status for one in seen} == {503}
    assert len({one.data for one in seen}) == 1
