"""Promise: however a call ends, the official client is told so, and what was used up to there is booked once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.testing import (
    CHAT_SHAPES,
    Answer,
    ChatReply,
    ChatShape,
    Counts,
    Script,
    Served,
    chat_reply,
    empty_answer,
    error_answer,
    html_answer,
    in_turn,
    no_answer,
    redirect,
    silent_answer,
)
from tests.shells.clients import ASKED, MESSAGES, Heard, Stage, booked, estimated, hear, model_for, staged
from tests.shells.gateway import SECONDS, gateway


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as made:
        yield made


def ask(client: openai.OpenAI, stage: Stage, answer: Answer, model: str = "m", **more: Any) -> tuple[str, Any]:
    """One call, and the ticket it was made on."""
    ticket = stage.put(answer)
    return ticket, client.chat.completions.create(model=model, messages=MESSAGES, user=ticket, **more)


def hear_until_error(stream: Iterable[Any]) -> Heard:
    """What came before the error that must come."""
    chunks: list[Any] = []
    try:
        for chunk in stream:
            chunks.append(chunk)  # noqa: PERF402 - what came before the error counts
    except openai.APIError as error:
        heard = hear(chunks)
        heard.error = error
        return heard
    raise AssertionError("the stream ended as if it were whole")


def check_partial(served: Served, entry: Entry) -> None:
    """What was reported is kept; what nobody reported is estimated from what was delivered, and marked."""
    counts, reported = booked(entry), served.reported or Counts()
    if reported.input is not None:
        assert counts.input == reported.input
    assert ("input_tokens" in estimated(entry)) is (reported.input is None)
    if reported.output is not None:
        assert counts.output == reported.output
    assert ("output_tokens" in estimated(entry)) is (reported.output is None)
    assert (counts.input or 0) > 0
    assert (counts.output or 0) > 0


# --- streams that stop before their end ------------------------------------------------------------------------------


def _cut(shape: ChatShape) -> Script:
    return chat_reply(shape=shape).cut_at(6)


def _half_a_frame(shape: ChatShape) -> Script:
    return chat_reply(shape=shape).half_frame_at(6)


def _clean_end_in_mid_frame(shape: ChatShape) -> Script:
    return chat_reply(shape=shape).half_frame_at(6, clean=True)


def _clean_end_without_finish(shape: ChatShape) -> Script:
    return chat_reply(shape=shape).then_at(6).framed("close")


CUTS: dict[str, Callable[[ChatShape], Script]] = {
    cut.__name__.strip("_"): cut for cut in (_cut, _half_a_frame, _clean_end_in_mid_frame, _clean_end_without_finish)
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_a_cut_stream_is_an_error_for_the_client_and_truncated_in_the_books(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, cut: str
) -> None:
    ticket, stream = ask(client, stage, CUTS[cut](shape), **ASKED)
    heard = hear_until_error(stream)
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.TRUNCATED
    assert heard.texts == {0: served.text}
    assert heard.usages == []
    assert heard.finishes == {}
    check_partial(served, entry)


ERRORS = {
    "plain": "The play was stopped.",
    "groq": "The play was stopped.",
    "openrouter": "Token limit reached",
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_an_error_frame_is_raised_with_its_message_after_all_that_was_said(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, error: Any
) -> None:
    ticket, stream = ask(client, stage, chat_reply(shape=shape, error=error), **ASKED)
    heard = hear_until_error(stream)
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.FAILED
    assert ERRORS[error] in str(heard.error)
    assert heard.texts == {0: served.text}
    assert heard.usages == []
    check_partial(served, entry)


def test_a_stall_is_an_error_and_timed_out_in_the_books(stage: Stage) -> None:
    tickets = {shape: stage.put(chat_reply(shape=shape).stall_at(6)) for shape in CHAT_SHAPES}

    async def one(client: openai.AsyncOpenAI, ticket: str) -> Heard:
        chunks: list[Any] = []
        try:
            async for chunk in await client.chat.completions.create(
                model="hasty", messages=MESSAGES, user=ticket, **ASKED
            ):
                chunks.append(chunk)  # noqa: PERF401 - what came before the error counts
        except openai.APIError as error:
            heard = hear(chunks)
            heard.error = error
            return heard
        raise AssertionError("the stream ended as if it were whole")

    async def all_at_once() -> list[Heard]:
        async with openai.AsyncOpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0) as client:
            return await asyncio.gather(*(one(client, ticket) for ticket in tickets.values()))

    for ticket, heard in zip(tickets.values(), asyncio.run(all_at_once()), strict=True):
        served, entry = stage.once(ticket)
        assert entry.exit is Exit.TIMED_OUT
        assert "took too long" in str(heard.error)
        assert heard.texts == {0: served.text}
        assert heard.usages == []
        check_partial(served, entry)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_a_stream_cut_after_its_reply_has_ended_is_whole(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, n: int
) -> None:
    plan = ChatReply(shape=shape, n=n)
    script = plan.script()
    last = max(place for place, frame in enumerate(script.frames) if b'"finish_reason":"stop"' in frame.data)
    ticket, stream = ask(client, stage, script.cut_at(last + 1), model_for(plan), n=n, **ASKED)
    heard = hear(stream)
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.COMPLETED
    assert heard.finishes == {choice: ["stop"] for choice in range(n)}
    assert heard.counts == booked(entry)
    exact = served.reported is not None and served.reported == served.usage
    assert heard.usages[0].get("estimated", False) is not exact
    if exact:
        assert booked(entry) == served.usage


# --- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["separate", "every_chunk", "absent"])
def test_a_client_that_closes_its_stream_stops_the_provider_and_is_booked(
    client: openai.OpenAI, stage: Stage, shape: ChatShape
) -> None:
    ticket, stream = ask(client, stage, chat_reply(shape=shape).hold_at(6, "never"), **ASKED)
    with stream:
        chunks = [next(stream) for _ in range(6)]
    stage.provider.block_until(lambda: stage.served(ticket)[0].client_left)
    served, entry = stage.once(ticket)
    assert served.ended == "client_left"
    assert entry.exit is Exit.CLIENT_GONE
    assert hear(chunks).texts == {0: served.text}
    check_partial(served, entry)


def test_a_client_whose_patience_ends_stops_the_provider(client: openai.OpenAI, stage: Stage) -> None:
    ticket = stage.put(silent_answer())
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="m", messages=MESSAGES, user=ticket)
    stage.provider.block_until(lambda: stage.served(ticket)[0].client_left)
    _, entry = stage.once(ticket)
    assert entry.exit is Exit.CLIENT_GONE


# --- errors ----------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Answer, type[openai.APIStatusError], int]] = {
    "bad request": (error_answer(400, "The horn is too loud.", param="horn"), openai.BadRequestError, 400),
    "wrong secret": (error_answer(401), openai.AuthenticationError, 401),
    "forbidden": (error_answer(403), openai.PermissionDeniedError, 403),
    "no such model": (error_answer(404), openai.NotFoundError, 404),
    "conflict": (error_answer(409), openai.ConflictError, 409),
    "unprocessable": (error_answer(422), openai.UnprocessableEntityError, 422),
    "too many": (error_answer(429, retry_after="7"), openai.RateLimitError, 429),
    "defect": (error_answer(500), openai.InternalServerError, 500),
    "loading": (error_answer(503, "Loading model", code=503, retry_after="2"), openai.InternalServerError, 503),
    "a page": (html_answer(), openai.InternalServerError, 502),
    "a redirect": (redirect("http://127.0.0.1:9/v1"), openai.InternalServerError, 502),
    "no body": (empty_answer(), openai.InternalServerError, 502),
    "nothing": (no_answer(), openai.InternalServerError, 502),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSALS)
def test_an_error_answer_is_the_exception_an_application_expects(
    client: openai.OpenAI, stage: Stage, name: str, stream: bool
) -> None:
    answer, kind, status = REFUSALS[name]
    ticket = stage.put(answer)
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES, user=ticket, stream=stream)
    error = caught.value
    assert error.status_code == status
    assert isinstance(error.body, dict)
    assert error.body["message"]
    _, entry = stage.once(ticket)
    assert entry.exit is not Exit.COMPLETED
    if isinstance(answer, Script) and answer.status >= 300:
        assert entry.exit is Exit.REJECTED
        assert entry.usage.total_tokens is None
    if isinstance(answer, Script) and dict(answer.headers).get("retry-after"):
        assert error.response.headers["retry-after"] == dict(answer.headers)["retry-after"]
    if name == "bad request":
        assert (error.body["message"], error.param) == ("The horn is too loud.", "horn")


def test_the_gateways_own_deadline_is_a_504(client: openai.OpenAI, stage: Stage) -> None:
    ticket = stage.put(silent_answer())
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="hasty", messages=MESSAGES, user=ticket)
    assert caught.value.status_code == 504
    assert stage.once(ticket)[1].exit is Exit.TIMED_OUT


def test_an_unknown_model_is_not_found_and_the_nearest_names_are_said(client: openai.OpenAI, stage: Stage) -> None:
    before = len(stage.provider.served)
    with pytest.raises(openai.NotFoundError, match="'hasty'") as caught:
        client.chat.completions.create(model="hastey", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert len(stage.provider.served) == before


@pytest.mark.parametrize(
    "wrong",
    [{"messages": "Good morning"}, {"stream": "yes"}, {"n": 0}, {"stream_options": {"include_usage": "yes"}}],
    ids=["messages", "stream", "n", "stream_options"],
)
def test_a_request_of_the_wrong_shape_is_refused_before_anything_is_booked(
    client: openai.OpenAI, stage: Stage, wrong: dict[str, Any]
) -> None:
    request = {"model": "claude", "messages": MESSAGES, **wrong}
    ticket = stage.put(chat_reply())
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={**request, "user": ticket}, cast_to=object)
    assert next(iter(wrong)) in str(caught.value)
    assert stage.served(ticket) == []
    assert stage.entries(ticket) == []


def test_a_key_that_is_not_known_is_an_authentication_error(tmp_path: Path, stage: Stage) -> None:
    keys = 'keys: {required: true, static: [{name: ann, secret: "sk-ann-0123456789"}]}'
    ticket = stage.put(chat_reply(stream=False))
    with gateway(tmp_path, {"m": stage.provider.base_url}, keys) as guarded:
        for secret, admitted in (("sk-ann-0123456789", True), ("sk-bob-0123456789", False)):
            with openai.OpenAI(base_url=guarded.base_url, api_key=secret, max_retries=0) as client:
                if admitted:
                    client.chat.completions.create(model="m", messages=MESSAGES, user=ticket)
                    continue
                with pytest.raises(openai.AuthenticationError) as caught:
                    client.chat.completions.create(model="m", messages=MESSAGES, user=ticket)
                assert secret not in str(caught.value)
        assert guarded.entry().opening.key == "ann"


def test_nobody_there_is_a_connection_error(stage: Stage) -> None:
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-any", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()


# --- again -----------------------------------------------------------------------------------------------------------


def test_the_clients_own_retries_are_calls_of_their_own(client: openai.OpenAI, stage: Stage) -> None:
    answer = in_turn(error_answer(429, retry_after="0.01"), error_answer(500, retry_after="0.01"), chat_reply())
    patient = client.with_options(max_retries=3)
    ticket, stream = ask(patient, stage, answer, **ASKED)
    heard = hear(stream)
    entries = stage.entries(ticket)
    assert [entry.exit for entry in entries] == [Exit.REJECTED, Exit.REJECTED, Exit.COMPLETED]
    assert len({entry.opening.exchange for entry in entries}) == 3
    assert heard.counts == booked(entries[2]) == stage.served(ticket)[2].usage


def test_the_gateways_retries_are_attempts_of_one_call_and_count_once(client: openai.OpenAI, stage: Stage) -> None:
    answer = in_turn(error_answer(503), chat_reply(shape="repeated"))
    ticket, stream = ask(client, stage, answer, "again", **ASKED)
    heard = hear(stream)
    entries = stage.entries(ticket)
    assert [entry.exit for entry in entries] == [Exit.REJECTED, Exit.COMPLETED]
    assert len({entry.opening.exchange for entry in entries}) == 1
    assert heard.counts == booked(entries[1]) == stage.served(ticket)[1].usage


def test_nothing_is_tried_again_once_the_client_has_a_byte(client: openai.OpenAI, stage: Stage) -> None:
    ticket, stream = ask(client, stage, in_turn(chat_reply().cut_at(3), chat_reply()), "again", **ASKED)
    heard = hear_until_error(stream)
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.TRUNCATED
    assert heard.texts == {0: served.text}
