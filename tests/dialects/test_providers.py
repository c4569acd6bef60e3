"""The table of providers says how each one counts, and every recording agrees with it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from counterfoil.cli.meter import RECORDED_DIALECTS
from counterfoil.core.event import Event, UsageReported
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.exchange.recorded import read_reply
from counterfoil.framing.whole import WholeFraming
from counterfoil.ledger.price_sheet import read_sheet
from counterfoil.providers.provider import UNVERIFIED, Provider
from counterfoil.providers.table import TableError, convention_table, matching, proven_by, read_table
from counterfoil.usage.reading import NO_READING, Counter
from counterfoil.usage.settle import DiscrepancyKind, Finality, Settlement, settle
from counterfoil.usage.usage import Bucket
from tests import wire

RECORDED = ("openai.chat/", "azure.chat/", "mistral.chat/", "anthropic.messages/")
ASKED_FOR = {
    *("openai", "anthropic", "azure-openai", "openrouter", "groq", "deepseek", "mistral", "xai"),
    *("ollama", "vllm", "llama.cpp", "local", "lmstudio"),
}
FRAME_LIMIT = 8 << 20
TABLE = load_table()
FACES = [row.face(dialect) for row in TABLE.values() for dialect in row.dialects]
UNREAD = {"huggingface.tgi/huggingface", "openai.audio/openai"}
"""Recorded in languages that are not read here: `counterfoil meter` names them."""
ROWS = [pytest.param(row, id=row.name) for row in TABLE.values()]
PRICES = Path(__file__).parents[2] / "src" / "counterfoil" / "ledger" / "prices.json"

MINIMAL = """
[somewhere]
title = "Somewhere"
dialect = "openai_chat"
base_url = "https://somewhere.example/v1"
link = "https://somewhere.example/docs"
"""


def row_of(recording: wire.Recording) -> Provider:
    row = proven_by(TABLE, f"{recording.dialect}/{recording.provider}")
    assert row is not None, f"no row names {recording.dialect}/{recording.provider} as its evidence"
    return row


def settled(recording: wire.Recording) -> Settlement:
    """What a recorded reply amounts to by its row, as the gateway would find it."""
    row = row_of(recording)
    dialect, model = DIALECTS[row.dialect], recording.model or ""
    framing = dialect.framing(FRAME_LIMIT) if recording.stream else WholeFraming(FRAME_LIMIT)
    asked = recording.request_body if isinstance(recording.request_body, dict) else {}
    decoder = dialect.decoder(recording.stream, asked.get("n") or 1, row.quirks_for(model))
    events: list[Event] = []
    frames = framing.feed(recording.response_body)
    last = framing.close()
    for frame in [*frames, *([last] if last is not None else [])]:
        events += decoder.feed(frame)
    events += decoder.close()
    reading = NO_READING
    for event in events:
        if isinstance(event, UsageReported):
            reading = reading.join(event.report)
    return settle(reading, row.convention_for(model, dialect.convention), ended=decoder.ended)


def judged(recording: wire.Recording) -> tuple[Sequence[int | None], Sequence[int | None]]:
    """What was settled and what is expected, in the cells that are judged."""
    expected, usage = wire.expected()[recording.id], settled(recording).usage
    pairs = [
        (usage.input_tokens, expected.input_tokens),
        (usage.cache_read_tokens, expected.cache_read_tokens),
        (usage.cache_write_tokens, expected.cache_write_tokens),
        (usage.output_tokens, expected.output_tokens),
        (usage.reasoning_tokens, expected.reasoning_tokens),
    ]
    kept = [(settled_, expected_) for settled_, expected_ in pairs if expected_ is not None]
    return [pair[0] for pair in kept], [pair[1] for pair in kept]


@pytest.mark.parametrize(
    "name", [name for name in wire.ids(*RECORDED) if name in wire.expected()] or wire.params("none")
)
def test_a_recorded_exchange_settles_to_what_it_is_known_to_have_used(name: str) -> None:
    got, wanted = judged(wire.read(name))
    assert got == wanted


@pytest.mark.parametrize("name", wire.params(*RECORDED))
def test_a_providers_own_total_adds_up_by_its_row(name: str) -> None:
    recording = wire.read(name)
    kinds = [one.kind for one in settled(recording).discrepancies]
    assert DiscrepancyKind.TOTAL_MISMATCH not in kinds


@pytest.mark.parametrize("name", wire.params(*RECORDED))
def test_no_whole_reply_is_taken_for_a_cut_one(name: str) -> None:
    assert settled(wire.read(name)).finality is not Finality.PARTIAL


# ---- recordings and rows prove each other


def pairs() -> list[str]:
    """`dialect/provider` of every recording, each once. Skips the test when they are absent."""
    if not wire.ids():
        pytest.skip(wire.ABSENT)
    return list(dict.fromkeys(name.rpartition("/")[0] for name in wire.ids()))


def claims() -> dict[str, list[Provider]]:
    """What each recorded pair is claimed by: rows as they are for the dialect that claims it."""
    found: dict[str, list[Provider]] = {}
    for face in FACES:
        for one in face.evidence:
            found.setdefault(one, []).append(face)
    return found


def test_every_recorded_provider_is_claimed_in_its_dialect_and_no_other() -> None:
    claimed = claims()
    spoken = {pair: RECORDED_DIALECTS.get(pair.partition("/")[0]) for pair in pairs()}
    missing = [f"{pair} (a {dialect})" for pair, dialect in spoken.items() if dialect and pair not in claimed]
    assert missing == []
    wrong = [
        f"{pair}: {face.name} as {face.dialect}"
        for pair, dialect in spoken.items()
        for face in claimed.get(pair, ())
        if face.dialect != dialect
    ]
    assert wrong == []
    assert {pair for pair, dialect in spoken.items() if dialect is None} == UNREAD


def test_every_evidence_exists_or_says_that_there_is_none() -> None:
    recorded = {*pairs(), UNVERIFIED}
    assert [(face.name, face.dialect, face.evidence) for face in FACES if not recorded.issuperset(face.evidence)] == []
    assert [face.name for face in FACES if UNVERIFIED in face.evidence and len(face.evidence) > 1] == []


def test_rows_with_the_same_evidence_count_alike() -> None:
    """A recording is read by the first row that claims it; the others are proven by it only if that is no matter."""
    for pair, faces in claims().items():
        if pair != UNVERIFIED:
            assert {
                (face.convention, face.model_rules) == (faces[0].convention, faces[0].model_rules) for face in faces
            } == {True}, pair


def test_the_providers_that_are_promised_are_there() -> None:
    assert TABLE.keys() >= ASKED_FOR


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_where_it_is_documented_and_how_it_is_known(row: Provider) -> None:
    assert row.link.startswith("https://")
    assert row.evidence
    assert row.dialect in DIALECTS
    assert row.base_url or row.base_url_like
    assert row.keyless or row.secret_env or row.auth.fetched
    for pattern in row.models:
        assert re.fullmatch(r"[A-Za-z0-9*./-]+", pattern)


def test_a_rows_prices_are_in_the_price_list() -> None:
    listed = read_sheet(PRICES.read_bytes()).providers
    assert {row.price_id for row in TABLE.values() if row.price_id} <= listed.keys()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("gpt-4o-mini", ["openai"]),
        ("o3-mini", ["openai"]),
        ("claude-sonnet-4-6", ["anthropic"]),
        ("deepseek-chat", ["deepseek"]),
        ("codestral-latest", ["mistral"]),
        ("grok-4-fast", ["xai"]),
        ("llama-3.3-70b-versatile", ["groq"]),
        ("openai/gpt-4o", []),
        ("no-such-model", []),
    ],
)
def test_a_bare_model_name_means_its_maker(model: str, wanted: list[str]) -> None:
    assert [row.name for row in matching(TABLE.values(), model)] == wanted


def test_a_makers_model_to_try_first_is_one_its_patterns_mean() -> None:
    for row in TABLE.values():
        if row.try_first and row.models:
            assert matching(TABLE.values(), row.model_name(row.try_first)) == (row,)


def test_vercels_gateway_counts_gemini_its_own_way_and_the_rest_as_the_dialect_does() -> None:
    row, default = TABLE["vercel-gateway"], DIALECTS["openai_chat"].convention
    assert Counter.REASONING not in row.convention_for("google/gemini-3-pro-preview", default).output_includes
    assert row.convention_for("openai/gpt-5", default) == default


def test_perplexitys_deep_research_reasons_beside_its_completion() -> None:
    row, default = TABLE["perplexity-sonar"], DIALECTS["openai_chat"].convention
    said = {"prompt_tokens": 108, "completion_tokens": 3256, "total_tokens": 3364, "reasoning_tokens": 73248}
    reply = read_reply(
        [json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": said}).encode()],
        DIALECTS["openai_chat"],
        streamed=False,
        convention=row.convention_for("sonar-deep-research", default),
    )
    assert reply.settlement.usage.buckets == {Bucket.INPUT: 108, Bucket.OUTPUT: 3256, Bucket.REASONING: 73248}
    assert reply.settlement.discrepancies == ()
    assert row.convention_for("sonar-reasoning-pro", default) == default


def test_perplexity_answers_in_responses_since_its_chat_ended() -> None:
    assert TABLE["perplexity"].dialects == ("openai_responses", "openai_embeddings")
    assert TABLE["perplexity-sonar"].base_url is None


def test_databricks_refuses_stream_options_for_claude_only() -> None:
    row = TABLE["databricks"]
    assert not row.quirks_for("databricks-claude-sonnet-4").stream_options
    assert row.quirks_for("databricks-meta-llama-3-3-70b-instruct").stream_options


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('dialect = "klingon"', "not a dialect"),
        ('link = ""', "no link"),
        ("evidence = []", "no evidence"),
        ('base_url = "ftp://somewhere.example"', "not a base URL"),
        ('path = "chat"', "slash"),
        ('probe = "http://elsewhere.example/v1/models"', "not on this machine"),
        ('auth = { style = "header" }', "names no header"),
        ('colour = "red"', "unknown field"),
        ("convention = { input_includes = ['soup'] }", "soup"),
        ("model_rules = [{ model = 'x' }]", "says nothing"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused_by_name(change: str, said: str) -> None:
    key = change.partition(" ")[0]
    kept = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key} ")]
    assert read_table(MINIMAL, DIALECTS)["somewhere"].title == "Somewhere"
    with pytest.raises(TableError, match=rf"^somewhere: .*{said}"):
        read_table("\n".join([*kept, change]), DIALECTS)


def test_a_row_that_is_there_twice_is_refused() -> None:
    with pytest.raises(TableError):
        read_table(MINIMAL + MINIMAL, DIALECTS)


def test_a_row_without_a_place_is_refused() -> None:
    with pytest.raises(TableError, match="looks like"):
        read_table(MINIMAL.replace('base_url = "https://somewhere.example/v1"', ""), DIALECTS)


def test_the_rows_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TABLE["openai"].title = "Other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TABLE["openai"] = TABLE["xai"]  # type: ignore[index]


def test_the_convention_table_has_a_line_for_each_dialect_and_for_whoever_counts_otherwise() -> None:
    defaults = {name: dialect.convention for name, dialect in DIALECTS.items()}
    lines = convention_table(TABLE, defaults).splitlines()
    own = [(face, face.convention) for face in FACES]
    own += [(face, rule.convention) for face in FACES for rule in face.model_rules]
    departing = [face.name for face, convention in own if convention not in (None, defaults[face.dialect])]
    assert {"mistral", "xai", "google", "vercel-gateway"} <= set(departing)
    assert len(lines) == 2 + len(DIALECTS) + len(departing)
    assert [line for line in lines if "`google/gemini-*`" in line and "| reasoning |" in line] != []
    assert {line.count("|") for line in lines} == {8}
    for name in DIALECTS:
        assert sum(line.startswith(f"| `{name}` | all") for line in lines) == 1
