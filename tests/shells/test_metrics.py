"""Metrics are what Prometheus reads, agree with the books, and never grow with what clients make up."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from counterfoil.exchange.command import Outcome
from counterfoil.ledger.correction import correction_of
from counterfoil.ledger.entry import Entry, Exit, Line, Opening
from counterfoil.ledger.price import PICODOLLARS_PER_DOLLAR
from counterfoil.server.metrics import CONTENT_TYPE, Counter, Histogram, Metrics
from counterfoil.testing import ChatReply, Counts, error_answer, running
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import Convention, Delivered, Finality, SettledLine, settle
from counterfoil.usage.usage import Bucket, Provenance, Usage
from tests.shells.gateway import gateway

PRICED = """
models:
  m: [{{provider: playhouse, model: inner, base_url: "{url}", api_key: play, prices: {{input: 2, output: 8}}}}]
  free: [{{provider: playhouse, model: unknown-price, base_url: "{url}", api_key: play}}]
listen: {{port: 0}}
retries: {{attempts: 1}}
"""
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> tuple[Samples, dict[str, str]]:
    """Strictly: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Samples and types."""
    assert text.endswith("\n")
    samples: Samples = {}
    types: dict[str, str] = {}
    helps: set[str] = set()
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helps, f"{name} has two HELP lines"
            helps.add(name)
            current = name
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current, "TYPE follows its HELP"
            assert name not in types
            assert kind in ("counter", "gauge", "histogram")
            types[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, f"no sample: {line!r}"
            name, inside, value = found.groups()
            family = name
            if types.get(current) == "histogram":
                family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert family == current, f"{name} is not grouped with {current}"
            labels = []
            rest = inside or ""
            while rest:
                label = LABEL.match(rest)
                assert label, f"no label: {rest!r}"
                labels.append((label[1], label[2]))
                rest = rest[label.end() :]
            assert len(dict(labels)) == len(labels)
            key = (name, frozenset(labels))
            assert key not in samples, f"{key} is there twice"
            samples[key] = float(value)
            assert types[current] != "counter" or samples[key] >= 0
    check_histograms(samples, types)
    return samples, types


def check_histograms(samples: Samples, types: dict[str, str]) -> None:
    """Buckets only rise, end with +Inf, and that one is the count."""
    for name in (name for name, kind in types.items() if kind == "histogram"):
        series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
        for (sample, labels), value in samples.items():
            if sample == f"{name}_bucket":
                bound = float(dict(labels)["le"])
                series.setdefault(frozenset(one for one in labels if one[0] != "le"), []).append((bound, value))
        for labels, buckets in series.items():
            counts = [count for _, count in sorted(buckets)]
            assert counts == sorted(counts)
            assert sorted(buckets)[-1] == (math.inf, samples[f"{name}_count", labels])
            assert (f"{name}_sum", labels) in samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a family's samples that have these labels."""
    return sum(value for (one, has), value in samples.items() if one == name and set(labels.items()) <= has)


def test_metrics_agree_with_what_was_served(tmp_path: Path) -> None:
    usage = Counts(input=100, output=20, cache_read=40, reasoning=5)
    with running() as provider, gateway(tmp_path, text=PRICED.format(url=provider.base_url)) as served:
        provider.queue(ChatReply(usage=usage, stream=False).script(), ChatReply(usage=usage).script())
        assert served.chat().status == 200
        assert served.chat(stream=True).status == 200
        provider.queue(ChatReply(stream=False).script(), error_answer(500))
        assert served.chat("free").status == 200
        assert served.chat("free").status == 500
        assert served.chat("nobody-knows-me").status == 404
        answer = served.get("/metrics")
        assert answer.headers["content-type"] == CONTENT_TYPE
        samples, types = parse(answer.body.decode())
        cost = sum(entry.cost or 0 for entry in served.entries())
    assert types["counterfoil_first_byte_seconds"] == "histogram"
    assert total(samples, "counterfoil_requests_total", route="m", status="200") == 2
    assert total(samples, "counterfoil_requests_total", status="404") == 1
    assert total(samples, "counterfoil_attempts_total", provider="playhouse", model="inner", exit="completed") == 2
    assert total(samples, "counterfoil_attempts_total", exit="rejected") == 1
    assert total(samples, "counterfoil_tokens_total", model="inner", direction="input") == 120
    assert total(samples, "counterfoil_tokens_total", model="inner", direction="cache_read") == 80
    assert total(samples, "counterfoil_tokens_total", model="inner", direction="output") == 30
    assert total(samples, "counterfoil_tokens_total", model="inner", direction="reasoning") == 10
    assert total(samples, "counterfoil_tokens_total", model="inner") == 240
    assert total(samples, "counterfoil_cost_usd_total", model="inner") == pytest.approx(cost / PICODOLLARS_PER_DOLLAR)
    assert cost > 0
    assert total(samples, "counterfoil_unpriced_attempts_total") == 1
    assert total(samples, "counterfoil_first_byte_seconds_count", provider="playhouse") == 3
    assert total(samples, "counterfoil_open_exchanges") == 0
    assert total(samples, "counterfoil_books_healthy") == 1
    assert total(samples, "process_start_time_seconds") > 1e9


def test_units_that_are_no_tokens_are_counted_apart() -> None:
    opening = Opening("a-1", "e-1", 0.0, "m", "playhouse", "inner", "cohere.rerank", "cohere.rerank")
    usage = Usage({Bucket.INPUT: 9, Bucket.SEARCH_UNITS: 3}, {Bucket.INPUT: Provenance.ESTIMATED})
    entry = Entry(opening, 1.0, Exit.COMPLETED, (Line("inner", "reply", usage, 6 * 10**9),))
    metrics = Metrics(lambda: 0, lambda: True)
    metrics.exchanged("m", 200, Outcome(entries=(entry,)))
    samples, _ = parse(metrics.text().decode())
    assert total(samples, "counterfoil_units_total", unit="search_units", provenance="reported", model="inner") == 3
    assert total(samples, "counterfoil_tokens_total") == 9


def test_estimates_are_told_apart(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(ChatReply(shape="absent").script())
        served.chat(stream=True)
        samples, _ = parse(served.get("/metrics").body.decode())
        assert total(samples, "counterfoil_tokens_total", provenance="estimated") > 0
        assert total(samples, "counterfoil_tokens_total", provenance="reported") == 0


def test_names_that_clients_make_up_never_become_labels(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        for number in range(30):
            served.chat(f"made-up-{number}")
            served.get(f"/made-up-{number}")
            served.call(f"MADEUP{number}", "/")
        text = served.get("/metrics").body.decode()
        assert "made-up" not in text
        assert "MADEUP" not in text
        assert len([line for line in text.splitlines() if line.startswith("counterfoil_requests_total")]) < 10


def test_a_family_stops_growing() -> None:
    counter = Counter("c", "Counts.", ("a",))
    histogram = Histogram("h", "Times.", ("a",))
    for number in range(20_000):
        counter.add(1, str(number))
        histogram.observe(0.1, str(number))
    assert len(list(counter.text())) < 6000
    assert len(list(histogram.text())) < 90_000
    assert counter.value("other") > 0


def test_what_a_name_may_hold_is_escaped() -> None:
    metrics = Metrics(lambda: 0, lambda: True)
    nasty = 'a"b\\c\nd'
    metrics.know([nasty])
    metrics.answered(nasty, 200)
    samples, _ = parse(metrics.text().decode())
    assert total(samples, "counterfoil_requests_total", status="200") == 1


def test_money_is_shown_exactly() -> None:
    counter = Counter("c", "Dollars.", ("a",), unit=PICODOLLARS_PER_DOLLAR)
    counter.add(1, "x")
    counter.add(12_345_678_901_234_567, "x")
    assert list(counter.text())[-1] == 'c{a="x"} 12345.678901234568'


def test_red_books_show(tmp_path: Path) -> None:
    samples, _ = parse(Metrics(lambda: 3, lambda: False).text().decode())
    assert total(samples, "counterfoil_books_healthy") == 0
    assert total(samples, "counterfoil_open_exchanges") == 3


@pytest.mark.parametrize("better", [90, 25])
def test_a_correction_moves_the_cost_by_counters_that_only_rise(better: int) -> None:
    metrics = Metrics(lambda: 0, lambda: True)
    metrics.know(["inner"])
    opening = Opening("a", "e", 0.0, "m", "playhouse", "inner", "openai_chat", "openai_chat")
    price = 8 * PICODOLLARS_PER_DOLLAR // 10**6

    def cost_of(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
        return tuple(Line("inner", line.kind, line.usage, price * line.usage.buckets[Bucket.OUTPUT]) for line in lines)

    seen = Delivered(input=3, output=50)
    lines = cost_of(opening, settle(NO_READING, Convention(), ended=False, delivered=seen).lines)
    entry = Entry(opening, 1.0, Exit.CLIENT_GONE, lines, delivered=seen, finality=Finality.PARTIAL)
    correction = correction_of(entry, Delivered(input=3, output=better), cost_of, attempt="c", estimator="x", at=2.0)
    assert correction is not None
    metrics.exchanged("m", 200, Outcome((entry,)))
    metrics.corrected(correction)
    samples, types = parse(metrics.text().decode())

    def dollars(name: str, **labels: str) -> float:
        known = frozenset({"provider": "playhouse", "model": "inner", **labels}.items())
        return samples.get((name, known), 0.0)

    assert types["counterfoil_corrected_cost_usd_total"] == "counter"
    before = dollars("counterfoil_cost_usd_total")
    more, fewer = (dollars("counterfoil_corrected_cost_usd_total", change=one) for one in ("more", "fewer"))
    assert before == pytest.approx(50 * 8e-6)
    assert before + more - fewer == pytest.approx(better * 8e-6)
    assert (more > 0, fewer > 0) == (better > 50, better < 50)
