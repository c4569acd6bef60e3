"""What had to be estimated is counted by the model's own vocabulary once the reply is over, and the books add up."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from counterfoil.config import Estimates
from counterfoil.core.estimate import estimate_body
from counterfoil.driver import corrector as corrector_module
from counterfoil.driver.blocking import BlockingRun
from counterfoil.driver.corrector import TokenCorrector, corrector_for, input_tokens
from counterfoil.driver.drive import Driver
from counterfoil.driver.vocabulary import PIECE, VOCABULARIES, Vocabularies, vocabulary_of
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.transcript import CALL_TOKENS
from counterfoil.ledger.correction import with_corrections
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.stores.projection import totals_of
from counterfoil.testing import Playback, Tool, chat_reply, running
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.http import AiohttpTransport
from counterfoil.usage.usage import Bucket, Provenance
from tests.exchange.test_driver import ListClient
from tests.exchange.ways import Ledger, context, reveal
from tests.exchange.world import World, call, deployment, played

__all__: list[str] = []

splintr = pytest.importorskip("splintr", reason="splintr-rs (the extra `tokenizers`) is not installed")

SECONDS = 20.0
TEXT = tuple(
    f"{word} " for word in ("The tide turns at noon and the boats come home. Приливы и отливы, 潮の満ち干." * 3).split()
)
SAID = "".join(TEXT)
SILENT = chat_reply(text=TEXT, shape="absent")


def exactly(text: str, vocabulary: str = "o200k_base") -> int:
    return len(splintr.Tokenizer.from_pretrained(vocabulary).encode_ordinary(text))


@dataclass
class Booked:
    """Books, and a corrector that writes into them."""

    settings: Estimates = field(default_factory=Estimates)
    books: Ledger = field(default_factory=Ledger)
    corrections: list[Entry] = field(default_factory=list)
    told: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = itertools.count()
        found = corrector_for(
            self.settings,
            self.corrections.append,
            new_id=lambda: f"correction-{next(ids)}",
            wall=lambda: 1_700_001_000.0,
            told=self.told.append,
        )
        assert found is not None
        self.corrector: TokenCorrector = found

    def context(self) -> Context:
        return msgspec.structs.replace(context(), corrector=self.corrector)

    def call(self, base_url: str = "http://playhouse.test/v1", model: str = "gpt-4o-mini", **fields: Any) -> Call:
        return call(msgspec.structs.replace(deployment(), base_url=base_url, model=model), usage_asked=False, **fields)

    def played(self, model: str = "gpt-4o-mini", **fields: Any) -> Entry:
        """One exchange without IO; its entry."""
        world = World(played(SILENT), corrector=self.corrector)
        world.run(self.call(model=model, **fields))
        return world.entry


@pytest.fixture
def here() -> Iterator[Booked]:
    booked = Booked()
    yield booked
    booked.corrector.close(SECONDS)


def test_what_nobody_reported_is_counted_by_the_models_vocabulary(here: Booked) -> None:
    entry = here.played()
    assert here.corrector.flush(SECONDS)
    (correction,) = here.corrections
    assert here.told == [correction]
    assert correction.corrects is not None
    assert correction.corrects.attempt == entry.opening.attempt
    assert correction.corrects.estimator == f"splintr {splintr.__version__}, o200k_base"
    together = with_corrections(entry, [correction])
    assert together.usage.output_tokens == exactly(SAID) != entry.usage.output_tokens
    assert together.usage.vouched((Bucket.INPUT, Bucket.OUTPUT)) is Provenance.ESTIMATED
    # Three a request and four a message stand around the text.
    assert together.usage.input_tokens == exactly("Tell me of the tide.") + 7
    assert together.cost == together.usage.total_tokens
    (total,) = totals_of([entry, correction]).values()
    assert (total.attempts, total.output_tokens) == (1, exactly(SAID))


def test_a_model_whose_vocabulary_nobody_knows_keeps_its_estimate(here: Booked) -> None:
    here.played(model="claude-sonnet-5")
    assert here.corrector.flush(SECONDS)
    assert here.corrections == []
    assert here.corrector.held == 0


def test_every_driver_writes_the_correction_after_its_entry() -> None:
    async def pushed(base_url: str, booked: Booked) -> None:
        driver = Driver(AiohttpTransport(), booked.books, reveal)
        try:
            await asyncio.wait_for(driver.run(booked.call(base_url), booked.context(), ListClient()).wait(), SECONDS)
        finally:
            await driver.close()

    def pulled(base_url: str, booked: Booked) -> None:
        transport = BlockingTransport()
        try:
            b"".join(BlockingRun(booked.call(base_url), booked.context(), booked.books, transport, reveal))
        finally:
            transport.close()

    ways: tuple[Callable[[str, Booked], None], ...] = (lambda url, booked: asyncio.run(pushed(url, booked)), pulled)
    with running(Playback(default=lambda _: SILENT)) as provider:
        for way in ways:
            booked = Booked()
            way(provider.base_url, booked)
            assert booked.corrector.close(SECONDS)
            (entry,), (correction,) = booked.books.closed, booked.corrections
            assert with_corrections(entry, [correction]).usage.output_tokens == exactly(SAID)
            assert booked.corrector.held == 0


def test_no_text_is_left_in_memory_and_none_is_in_a_correction(here: Booked) -> None:
    here.played(messages=[{"role": "user", "content": "a secret question"}])
    assert here.corrector.flush(SECONDS)
    assert here.corrector.held == 0
    written = msgspec.json.encode(here.corrections).decode()
    assert not any(word in written for word in ("boats", "noon", "secret", "question"))


def test_a_reply_and_a_request_over_the_limit_keep_their_estimates() -> None:
    small = Booked(Estimates(max_bytes=1024))
    entry = small.played()
    assert small.corrector.flush(SECONDS)
    (correction,) = small.corrections
    assert correction.usage.buckets[Bucket.OUTPUT] == 0, "the reply does not fit"
    assert correction.usage.buckets[Bucket.INPUT] != 0, "the request does"
    large = Booked(Estimates(max_bytes=1 << 16))
    asked = [{"role": "user", "content": "Tell me of the tide. " * 5000}]
    entry = large.played(messages=asked)
    assert large.corrector.flush(SECONDS)
    (correction,) = large.corrections
    assert correction.usage.buckets[Bucket.INPUT] == 0
    assert with_corrections(entry, [correction]).usage.output_tokens == exactly(SAID)
    for booked in (small, large):
        assert booked.corrector.close(SECONDS)
        assert booked.corrector.held == 0


def test_a_closed_corrector_keeps_no_text_and_writes_nothing_more(here: Booked) -> None:
    assert here.corrector.close(SECONDS)
    here.played()
    assert here.corrections == []
    assert here.corrector.held == 0


def test_what_waits_at_the_end_is_dropped_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    count_again = corrector_module.count_again

    def slow(*given: Any) -> Any:
        begun.set()
        go_on.wait(SECONDS)
        return count_again(*given)

    monkeypatch.setattr(corrector_module, "count_again", slow)
    booked = Booked()
    for _ in range(3):
        booked.played()
    assert begun.wait(SECONDS)
    assert not booked.corrector.close(0.05)
    go_on.set()
    assert booked.corrector.flush(SECONDS)
    assert booked.corrections == []
    assert booked.corrector.held == 0


def test_a_failure_leaves_the_estimate_and_its_log_says_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    booked = Booked()
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):

        def fail(_: Any, vocabulary: str, text: str) -> int:
            raise RuntimeError(text)

        broken.setattr(Vocabularies, "count", fail)
        booked.played()
        assert booked.corrector.flush(SECONDS)
    assert booked.corrections == []
    assert "RuntimeError" in caplog.text
    assert "boats" not in caplog.text
    booked.played()
    assert booked.corrector.close(SECONDS)
    assert len(booked.corrections) == 1, "the next one is counted"


def test_it_is_there_only_where_it_is_wanted_and_can_be() -> None:
    def made(settings: Estimates) -> TokenCorrector | None:
        return corrector_for(settings, lambda _: None, new_id=lambda: "c", wall=lambda: 0.0)

    assert made(Estimates()) is not None
    assert made(Estimates(tokenizer="off")) is None


def test_it_is_not_there_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrector_module, "available", lambda: False)
    assert corrector_for(Estimates(), lambda _: None, new_id=lambda: "c", wall=lambda: 0.0) is None


def test_a_reply_that_was_cut_is_counted_as_far_as_it_came(here: Booked) -> None:
    frames = SILENT.frames
    reads = [frame.data for frame in frames[:8]]
    world = World(played(SILENT), corrector=here.corrector)
    world._calls[0].reads[:] = [*reads, b""]
    world.run(here.call())
    assert world.entry.exit is Exit.TRUNCATED
    assert here.corrector.flush(SECONDS)
    (correction,) = here.corrections
    together = with_corrections(world.entry, [correction])
    came = next(
        length for length in range(len(TEXT)) if exactly("".join(TEXT[:length])) == together.usage.output_tokens
    )
    assert 0 < came < len(TEXT)


# ---- requests


def test_a_request_is_counted_part_by_part() -> None:
    asked = here_call = call(
        tools=[{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]
    )
    request = asked.dialect.read_request(here_call.body)
    plain = call().dialect.read_request(call().body)
    difference = (input_tokens(request, exactly) or 0) - (input_tokens(plain, exactly) or 0)
    assert difference > exactly("tide") + exactly('{"type":"object"}')
    assert abs((input_tokens(plain, exactly) or 0) - estimate_body(call().body)) < 15


def test_what_is_not_counted_so_says_so() -> None:
    assert input_tokens(object(), exactly) is None


# ---- vocabularies


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("openai/gpt-4.1-mini", "o200k_base"),
        ("gpt-5.4", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("openai.gpt-oss-120b-1:0", "gpt-oss"),
        ("gpt-4-vision-preview", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama3"),
        ("us.meta.llama3-1-8b-instruct-v1:0", "llama3"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", None),
        ("deepseek-r1-distill-llama-70b", "llama3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek_v3"),
        ("Qwen/Qwen2.5-72B-Instruct-Turbo", "qwen3"),
        ("qwen3.6:latest", None),
        ("mistral-large-latest", "mistral_v3"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral_v1"),
        ("microsoft/phi-4-mini-instruct", None),
        ("moonshotai/kimi-k2.5", "kimi_k2"),
        ("claude-sonnet-4-6", None),
        ("gemini-2.5-flash", None),
        ("", None),
    ],
)
def test_a_model_has_the_vocabulary_that_is_written_down_for_it(model: str, vocabulary: str | None) -> None:
    assert vocabulary_of(model) == vocabulary


@pytest.mark.parametrize("vocabulary", sorted({name for _, name in VOCABULARIES if name is not None}))
def test_every_vocabulary_that_is_written_down_is_bundled(vocabulary: str) -> None:
    vocabularies = Vocabularies()
    assert vocabularies.count(vocabulary, "The tide turns at noon.") > 3
    assert vocabularies.count(vocabulary, "") == 0


@pytest.mark.parametrize("vocabulary", ["o200k_base", "llama3", "mistral_v3"])
def test_a_long_text_counts_as_much_in_pieces_as_whole_and_with_pauses_between(vocabulary: str) -> None:
    text = (SAID + "\n\n  def tide(x):\n    return 17 * x\n") * 200
    pauses: list[None] = []
    assert Vocabularies(lambda: pauses.append(None)).count(vocabulary, text) == exactly(text, vocabulary)
    assert len(pauses) >= len(text) // (2 * PIECE)


def test_text_that_is_no_valid_unicode_and_text_without_words_are_counted() -> None:
    vocabularies = Vocabularies()
    assert vocabularies.count("o200k_base", "\ud83d") >= 1
    assert vocabularies.count("o200k_base", "a" * (5 * PIECE)) > 0


def test_special_tokens_that_are_spelled_out_are_text() -> None:
    assert Vocabularies().count("o200k_base", "<|endoftext|>") > 1


def test_words_that_were_met_are_forgotten() -> None:
    vocabularies = Vocabularies()
    vocabularies.count("o200k_base", SAID)
    (loaded,) = vocabularies._loaded.values()
    assert loaded.cache_len == 0  # type: ignore[attr-defined]  # of the library's tokenizers


def test_a_tool_call_counts_with_its_name(here: Booked) -> None:
    script = chat_reply(text=TEXT, shape="absent", tools=(Tool("measure_the_tide", '{"port": "north"}'),))
    world = World(played(script), corrector=here.corrector)
    world.run(here.call())
    assert here.corrector.flush(SECONDS)
    together = with_corrections(world.entry, here.corrections)
    assert together.usage.output_tokens == exactly(SAID) + exactly('measure_the_tide{"port": "north"}') + CALL_TOKENS
