"""The books on the command line: what is shown is what was booked, also while a gateway holds them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.cli import main
from counterfoil.cli.when import read_when
from counterfoil.ledger.entry import Entry, Exit, Opening, Progress
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_lines
from counterfoil.stores.books import LedgerBooks, open_books
from counterfoil.stores.price_files import shipped_sheet
from counterfoil.stores.view import usd
from counterfoil.usage.reading import NO_READING, Counter, Reading, Report
from counterfoil.usage.settle import Convention, Delivered, Discrepancy, DiscrepancyKind, settle

__all__: list[str] = []

DAY = 1_780_000_000.0
"""2026-05-28T20:26:40Z."""
TABLE = PriceTable([shipped_sheet()])
ENTRY_KEYS = (
    "attempt",
    "exchange",
    "opened",
    "closed",
    "route",
    "provider",
    "model",
    "client_dialect",
    "provider_dialect",
    "key",
    "user",
    "tags",
    "exit",
    "status",
    "usage",
    "provenance",
    "discrepancies",
    "lines",
    "cost",
    "priced_by",
    "first_byte_ms",
    "total_ms",
    "provider_id",
    "corrects",
    "estimator",
)


def _opening(number: int, **more: Any) -> Opening:
    plain = Opening(
        attempt=f"0190000{number}-0000-7000-8000-000000000000",
        exchange=f"0190000{number}-0000-7000-8000-00000000000e",
        opened=DAY + number,
        route="my-model",
        provider="openai",
        model="gpt-4o-mini",
        client_dialect="openai_chat",
        provider_dialect="openai_chat",
        price_id="openai",
        input_estimate=40,
    )
    return msgspec.structs.replace(plain, **more)


def _reading(*reports: dict[Counter, int]) -> Reading:
    reading = NO_READING
    for counts in reports:
        raw = json.dumps({f"their_{counter}": value for counter, value in counts.items()}).encode()
        reading = reading.join(Report(counts, raw=raw))
    return reading


REPORTED = _reading(
    {Counter.INPUT: 1000, Counter.OUTPUT: 1, Counter.TOTAL: 1001},
    {Counter.INPUT: 1000, Counter.CACHE_READ: 400, Counter.OUTPUT: 50, Counter.REASONING: 20, Counter.TOTAL: 1050},
)


def _entry(opening: Opening, reading: Reading = REPORTED, exit_: Exit = Exit.COMPLETED, **more: Any) -> Entry:
    delivered = Delivered(input=opening.input_estimate, output=30)
    settled = settle(reading, opening.convention, ended=exit_ is Exit.COMPLETED, delivered=delivered)
    return Entry(
        opening,
        closed=opening.opened + 1.5,
        exit=exit_,
        lines=price_lines(opening, settled.lines, TABLE),
        reading=reading,
        finality=settled.finality,
        discrepancies=settled.discrepancies,
        provider_total=settled.provider_total,
        status=200,
        first_byte_ms=210.123456,
        total_ms=1500.0,
        provider_id="chatcmpl-1",
        **more,
    )


@pytest.fixture
def books(tmp_path: Path) -> Iterator[LedgerBooks]:
    held = open_books(tmp_path / "ledger.db", lambda opening, lines, at: price_lines(opening, lines, TABLE))
    try:
        yield held
    finally:
        held.shut()


def _book(books: LedgerBooks, *entries: Entry) -> None:
    for entry in entries:
        books.open(entry.opening)
        books.close(entry)
    assert books.flush()


class Shell:
    """Runs commands on one data directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        returned = main([*words, "--data-dir", str(self.directory)])
        said = self._capsys.readouterr()
        assert returned == code, said.err
        return said.out, said.err

    def lines(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*words, "--json")[0].splitlines()]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


# ---- entries


def test_an_entry_is_shown_with_every_key_in_order_and_exact_money(books: LedgerBooks, shell: Shell) -> None:
    _book(books, _entry(_opening(1, key="ci", user="u", tags=("a", "b"))))
    [line] = shell.lines("entries")
    assert tuple(line) == ENTRY_KEYS
    assert (line["opened"], line["closed"]) == ("2026-05-28T20:26:41.000Z", "2026-05-28T20:26:42.500Z")
    assert line["usage"] == {
        "input_tokens": 1000,
        "cache_read_tokens": 400,
        "cache_write_tokens": None,
        "output_tokens": 50,
        "reasoning_tokens": 20,
        "total_tokens": 1050,
        "provider_total": 1050,
        "search_units": None,
        "images": None,
    }
    assert line["provenance"]["input_tokens"] == "reported"
    assert line["provenance"]["cache_write_tokens"] == "unknown"
    # 600 at 0.15, 400 at 0.075, 50 at 0.60 dollars per million tokens.
    assert line["cost"] == "0.00015"
    assert line["priced_by"]["source"].startswith("genai-prices")
    assert (line["exit"], line["status"], line["key"], line["tags"]) == ("completed", 200, "ci", ["a", "b"])
    assert (line["first_byte_ms"], line["total_ms"]) == (210.123, 1500.0)
    assert line["lines"][0]["buckets"] == {"cache_read": 400, "input": 600, "reasoning": 20, "output": 30}


def test_an_attempt_that_runs_is_open_with_what_is_known_of_it(books: LedgerBooks, shell: Shell) -> None:
    _book(books, _entry(_opening(1)))
    running = _opening(2)
    books.open(running)
    first, second = shell.lines("entries")
    assert (first["exit"], second["exit"]) == ("completed", "open")
    assert (second["closed"], second["cost"], second["lines"]) == (None, None, [])
    assert second["usage"]["input_tokens"] == 40
    assert second["provenance"]["input_tokens"] == "estimated"
    books.progress(
        Progress(running.attempt, running.opened + 1, REPORTED, Delivered(input=40, output=30, since_report=0))
    )
    assert shell.lines("entries", "--exit", "open")[0]["usage"]["output_tokens"] == 50
    books.close(_entry(running))
    assert books.flush()
    assert [line["exit"] for line in shell.lines("entries")] == ["completed", "completed"]
    assert shell.lines("entries", "--exit", "open") == []


def test_an_entry_that_only_the_journal_has_yet_is_shown_once(
    books: LedgerBooks, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(entries: object) -> None:
        raise sqlite3.OperationalError("busy")

    entry = _entry(_opening(1))
    with monkeypatch.context() as patched:
        patched.setattr(books.store, "append", busy)
        books.open(entry.opening)
        books.close(entry)
        assert [line["exit"] for line in shell.lines("entries")] == ["completed"]
        assert "completed" in shell("explain", entry.opening.attempt)[0]


def test_entries_are_chosen_and_stay_oldest_first(books: LedgerBooks, shell: Shell) -> None:
    _book(
        books,
        _entry(_opening(1, key="ci")),
        _entry(_opening(2, provider="groq", model="llama-3.1-8b-instant", price_id="groq")),
        _entry(_opening(3, key="ci"), exit_=Exit.TRUNCATED),
        _entry(_opening(4, user="ann")),
    )

    def chosen(*words: str) -> str:
        return "".join(line["attempt"][7] for line in shell.lines("entries", *words))

    assert chosen() == "1234"
    assert chosen("--key", "ci") == "13"
    assert chosen("--exit", "truncated") == "3"
    assert chosen("--provider", "groq") == "2"
    assert chosen("--model", "gpt-4o-mini") == "134"
    assert chosen("--user", "ann") == "4"
    assert chosen("--route", "my-model") == "1234"
    assert chosen("--limit", "2") == "12"
    assert chosen("--last", "2") == "34"
    assert chosen("--since", "2026-05-28T20:26:42Z", "--until", "2026-05-28T20:26:44Z") == "23"
    assert chosen("--since", "1h") == ""


def test_the_table_marks_estimates_and_what_has_no_price(books: LedgerBooks, shell: Shell) -> None:
    _book(
        books,
        _entry(_opening(1), reading=NO_READING, exit_=Exit.CLIENT_GONE),
        _entry(_opening(2, price_id=None)),
    )
    heads, first, second = shell("entries")[0].splitlines()
    assert heads.split() == ["opened", "attempt", "model", "exit", "input", "output", "cost", "$"]
    assert first.split()[-3:-1] == ["~40", "~30"]
    assert second.split()[-3:] == ["1,000", "50", "-"]


def test_no_entries_is_not_an_error_and_no_books_is(books: LedgerBooks, shell: Shell, tmp_path: Path) -> None:
    assert shell("entries") == ("", "No entries.\n")
    shell.directory = tmp_path / "elsewhere"
    for command in (("entries",), ("usage",), ("verify",), ("explain", "0190")):
        out, err = shell(*command, code=1)
        assert out == ""
        assert "no books" in err


def test_a_configuration_says_where_the_books_are_even_without_its_secrets(
    books: LedgerBooks, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOBODY_SET_THIS", raising=False)
    _book(books, _entry(_opening(1)))
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "models:\n  m:\n    - {provider: openai, model: gpt-4o-mini, api_key: '${NOBODY_SET_THIS}'}\n"
        "ledger: {path: ./ledger.db}\n"
    )
    monkeypatch.chdir("/")
    assert main(["entries", "--config", str(config), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    config.write_text("ledger: {path: [1]}\n")
    assert main(["entries", "--config", str(config)]) == 3
    assert "gateway.yaml" in capsys.readouterr().err


def test_the_environment_names_the_data_directory(
    books: LedgerBooks, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _book(books, _entry(_opening(1)))
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path))
    assert main(["entries", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_file_that_is_no_ledger_is_said(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all, certainly not one of ours" * 40)
    _, err = shell("entries", code=1)
    assert "ledger.db" in err
    assert "Traceback" not in err


def test_books_beside_which_nothing_can_be_written_are_told_so_with_a_way_out(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    (tmp_path / "ledger.db").touch()
    monkeypatch.setattr("counterfoil.cli.ledger.BooksReader", refused)
    monkeypatch.setattr("counterfoil.cli.ledger.os.access", lambda path, mode: False)
    said = (
        f"counterfoil: The books at {tmp_path}/ledger.db cannot be read: unable to open database file. Copy {tmp_path} "
    )
    assert shell("usage", code=4)[1].startswith(said)


# ---- usage and verify


def test_usage_adds_up_by_what_is_asked_with_a_total(books: LedgerBooks, shell: Shell) -> None:
    _book(
        books,
        _entry(_opening(1, key="ci")),
        _entry(_opening(2, key="web"), reading=NO_READING, exit_=Exit.CLIENT_GONE),
        _entry(_opening(3, key="web", price_id=None)),
    )
    [report] = shell.lines("usage", "--by", "key")
    assert report["by"] == ["key"]
    assert [(row["key"], row["attempts"], row["input_tokens"], row["output_tokens"]) for row in report["rows"]] == [
        ("ci", 1, 1000, 50),
        ("web", 2, 1040, 80),
    ]
    total = report["total"]
    assert (total["attempts"], total["total_tokens"], total["estimated_tokens"], total["unpriced"]) == (3, 2170, 70, 1)
    assert total["estimated_share"] == round(70 / 2170, 6)
    # The first as above; of the second 40 at 0.15 and 30 at 0.60 dollars per million tokens.
    assert total["cost"] == "0.000174"
    out, _ = shell("usage", "--by", "key")
    assert out.splitlines()[-1].split() == ["total", "3", "2,040", "800", "130", "40", "3.2%", "1", "0.000174"]
    [report] = shell.lines("usage", "--by", "day", "--by", "model")
    assert [(row["day"], row["model"], row["key"]) for row in report["rows"]] == [("2026-05-28", "gpt-4o-mini", None)]
    assert shell("usage", "--since", "1h")[1] == "Nothing was used in this time.\n"


def test_verify_agrees_and_names_what_does_not(books: LedgerBooks, shell: Shell, tmp_path: Path) -> None:
    _book(books, _entry(_opening(1)))
    assert "(1 attempt)" in shell("verify")[0]
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE totals SET output_tokens = output_tokens + 7")
    connection.close()
    out, _ = shell("verify", code=1)
    assert "output_tokens: the total says 57, the entries 50" in out
    out, _ = shell("verify", "--json", code=1)
    said = json.loads(out)
    assert (said["agree"], said["differences"][0]["recomputed"]["output_tokens"]) == (False, 50)


# ---- explain


def test_explain_shows_every_step_from_the_report_to_the_cost(books: LedgerBooks, shell: Shell) -> None:
    _book(books, _entry(_opening(1)))
    out, _ = shell("explain", "01900001")
    assert "What the provider reported (2)" in out
    assert '"their_reasoning": 20' in out
    for step in (
        "input 1,000 report 2",
        "output 50 report 2",
        "input includes cache read",
        "output includes reasoning",
        "total is input + output",
        "cache_read 400 reported 0.075 0.00003",
        "reasoning 20 reported 0.6 0.000012",
        "cost: $0.00015",
        "output_tokens 50 the provider, in a whole reply",
    ):
        assert step in " ".join(out.split()), step
    assert "price: gpt-4o-mini, genai-prices" in out
    [said] = shell.lines("explain", "01900001")
    assert [report["number"] for report in said["kept"]] == [1, 2]
    assert said["kept"][1]["report"]["their_total"] == 1050
    [part] = said["parts"]
    steps = {step["bucket"]: (step["tokens"], step["rate"], step["amount"]) for step in part["steps"]}
    assert steps["input"] == (600, "0.15", "0.00009")
    assert part["cost"] == "0.00015"
    assert said["entry"]["attempt"].startswith("01900001")


def test_explain_shows_what_was_used_beside_what_is_billed(books: LedgerBooks, shell: Shell) -> None:
    bill = {Counter.BILLED_INPUT: 12, Counter.BILLED_OUTPUT: 7}
    said = _reading({Counter.INPUT: 500, Counter.CACHE_READ: 448, Counter.OUTPUT: 10, **bill})
    _book(books, _entry(_opening(1), reading=said))
    out = " ".join(shell("explain", "01900001")[0].split())
    # 12 at 0.15 and 7 at 0.60 dollars per million tokens.
    for step in (
        "billed_input 12 report 1",
        "used tokens input 52 cache_read 448 output 10",
        "The provider's bill is of other numbers:",
        "input 12 on the bill 0.15 0.0000018",
        "output 7 on the bill 0.6 0.0000042",
        "cost: $0.000006",
        "input_tokens 500 the provider, in a whole reply",
    ):
        assert step in out, step
    [line] = shell.lines("entries")
    assert (line["usage"]["input_tokens"], line["cost"]) == (500, "0.000006")
    assert line["lines"][0]["billed"] == {"input": 12, "output": 7}


def test_searches_are_shown_priced_and_added_up(books: LedgerBooks, shell: Shell) -> None:
    prices = {"search_units": "2000"}
    ranked = _opening(1, own_prices=prices)
    said = _reading({Counter.SEARCH_UNITS: 3, Counter.BILLED_INPUT: 0, Counter.OUTPUT: 0})
    _book(books, _entry(ranked, reading=said), _entry(_opening(2)))
    first, second = shell.lines("entries")
    assert (first["usage"]["search_units"], first["cost"]) == (3, "0.006")
    assert first["provenance"]["search_units"] == "reported"
    assert second["usage"]["search_units"] is None
    assert "search_units 3 reported 2000 0.006" in " ".join(shell("explain", "01900001")[0].split())
    [report] = shell.lines("usage")
    assert (report["total"]["search_units"], report["total"]["images"]) == (3, 0)
    heads, searched, chatted = shell("entries")[0].splitlines()
    assert heads.endswith("cost $")
    assert searched.endswith("0.006  3 search units")
    assert chatted.endswith(str(second["cost"]))
    out, _ = shell("usage")
    assert "search units" in out
    assert "images" not in out
    shell("verify")


def test_explain_says_that_a_count_ran_no_model_and_names_no_unit_that_nobody_bills(
    books: LedgerBooks, shell: Shell
) -> None:
    counting = _opening(1, convention=Convention(no_model=True), free=True)
    _book(books, _entry(counting, reading=NO_READING))
    out, _ = shell("explain", "01900001")
    assert "no model runs: tokens are counted and not used, and nothing is billed" in out
    assert "price: gpt-4o-mini, free: no model runs" in out
    assert not any(unit in out for unit in ("search_units", "images"))
    assert "output_tokens 0 the kind of call: counting runs no model" in " ".join(out.split())
    assert "the provider's other numbers" not in out


def test_explain_says_why_vectors_have_no_output(books: LedgerBooks, shell: Shell) -> None:
    vectors = _opening(1, convention=Convention(no_output=True))
    _book(books, _entry(vectors, reading=_reading({Counter.INPUT: 9})))
    out = " ".join(shell("explain", "01900001")[0].split())
    assert "input_tokens 9 the provider, in a whole reply" in out
    assert "output_tokens 0 the kind of call: its answer is no text" in out


def test_explain_says_that_another_number_of_vectors_came(books: LedgerBooks, shell: Shell) -> None:
    entry = _entry(_opening(1, convention=Convention(no_output=True)), reading=_reading({Counter.INPUT: 9}))
    few = Discrepancy(DiscrepancyKind.VECTOR_COUNT, reported=2, expected=3)
    _book(books, msgspec.structs.replace(entry, discrepancies=(few,)))
    assert "vector count: came 2, expected 3" in shell("explain", "01900001")[0]


def test_explain_says_whose_word_an_estimate_is_and_what_does_not_add_up(books: LedgerBooks, shell: Shell) -> None:
    odd = _reading({Counter.INPUT: 10, Counter.CACHE_READ: 25, Counter.OUTPUT: 5, Counter.TOTAL: 15})
    _book(books, _entry(_opening(1), reading=NO_READING, exit_=Exit.CLIENT_GONE), _entry(_opening(2), reading=odd))
    out, _ = shell("explain", "01900001")
    assert "nothing" in out
    assert "Counterfoil, from what it saw" in out
    out, _ = shell("explain", "01900002")
    assert "part exceeds whole: cache_read reported 25, expected 10" in out
    assert "15 more of cache_read" in out


def test_explain_shows_the_rates_that_were_charged_when_the_list_has_moved_on(books: LedgerBooks, shell: Shell) -> None:
    entry = _entry(_opening(1))
    dearer = {bucket: rate * 2 for bucket, rate in entry.lines[0].rates.items()}
    line = msgspec.structs.replace(entry.lines[0], cost=300_000_000, rates=dearer)
    _book(books, msgspec.structs.replace(entry, lines=(line,)))
    out, _ = shell("explain", "01900001")
    assert "cost: $0.0003" in out
    assert "cache_read 400 reported 0.15 0.00006" in " ".join(out.split())
    [said] = shell.lines("explain", "01900001")
    assert said["parts"][0]["since"] is None, "the list at hand speaks of another price"


def test_an_attempt_that_is_still_open_can_be_explained(books: LedgerBooks, shell: Shell) -> None:
    books.open(_opening(1))
    out, _ = shell("explain", "0190")
    assert "still open" in out
    assert "unpriced" in out


def test_a_call_that_nobody_could_read_is_told_as_such(books: LedgerBooks, shell: Shell) -> None:
    opening = _opening(1, client_dialect="unknown", provider_dialect="unknown", model="", price_id=None)
    settled = settle(NO_READING, opening.convention, ended=True, delivered=None)
    lines = price_lines(opening, settled.lines, TABLE)
    _book(books, msgspec.structs.replace(_entry(opening, reading=NO_READING), lines=lines, finality=settled.finality))
    out, _ = shell("explain", "01900001")
    assert "asked for     my-model (in no dialect known here)" in out
    assert "Buckets and cost\nwhat was used: nobody knows\ncost: unpriced" in out
    err = shell("usage")[1]
    assert err == "1 model run has an input or output that nobody knows; it is in no sum.\n"


def test_a_beginning_must_be_of_one_attempt(books: LedgerBooks, shell: Shell) -> None:
    _book(books, _entry(_opening(1)), _entry(_opening(2)))
    assert "several" in shell("explain", "019", code=1)[1]
    assert "an exchange's id is written in full" in shell("explain", "01ff", code=1)[1]
    assert "no attempt" in shell("explain", "xyz", code=1)[1]
    assert "entries" in shell("explain", "", code=2)[1]


# ---- small things


def test_what_others_wrote_cannot_command_the_terminal(books: LedgerBooks, shell: Shell) -> None:
    _book(books, msgspec.structs.replace(_entry(_opening(1, model="m\x1b[2J")), provider_id="id\x1b]0;title\x07"))
    for command in (("entries",), ("explain", "0190"), ("usage",)):
        out, _ = shell(*command)
        assert "\x1b" not in out
        assert "\x07" not in out


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-05-28", 1_779_926_400.0),
        ("2026-05-28T20:26:40", DAY),
        ("2026-05-28T20:26:40Z", DAY),
        ("2026-05-28T22:26:40+02:00", DAY),
        ("90s", DAY - 90),
        ("2h", DAY - 7200),
        ("1w", DAY - 604_800),
        ("today", 1_779_926_400.0),
    ],
)
def test_times_are_read_as_utc(text: str, at: float) -> None:
    assert read_when(text, lambda: DAY) == at


@pytest.mark.parametrize("words", [("--since", "soon"), ("--limit", "0"), ("--last", "-1"), ("--exit", "gone")])
def test_a_wrong_argument_is_a_usage_error(words: tuple[str, ...], shell: Shell) -> None:
    said = shell("entries", *words, code=2)[1]
    assert said.startswith(f"counterfoil: entries: argument {words[0]}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [(0, "0"), (1, "0.000000000001"), (150_000_000, "0.00015"), (12 * 10**12, "12"), (-(10**11), "-0.1"), (None, None)],
)
def test_money_is_an_exact_decimal(picodollars: int | None, text: str | None) -> None:
    assert usd(picodollars) == text
