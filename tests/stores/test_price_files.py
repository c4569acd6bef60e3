"""Price lists on disk: compiled without running them, read strictly, replaced whole or not at all."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import textwrap
import zipfile
from decimal import Decimal
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from counterfoil.ledger.entry import Opening
from counterfoil.ledger.price import cost_of
from counterfoil.ledger.price_sheet import SheetError, models_of, read_sheet
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_of
from counterfoil.stores import price_override
from counterfoil.stores.price_compile import compile_source, compile_wheel
from counterfoil.stores.price_files import (
    OVERRIDE_NAMES,
    PREVIOUS_NAME,
    UPDATED_NAME,
    UpdateError,
    fetch_wheel,
    load_prices,
    shipped_sheet,
    show,
    update,
)
from counterfoil.stores.price_override import read_override
from counterfoil.usage.usage import Bucket

NOW = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC).timestamp()
TODAY = datetime.date(2099, 1, 1)
MILLION_IN = {Bucket.INPUT: 10**6, Bucket.OUTPUT: 0}


def source_text() -> str:
    """The data of the installed genai-prices, unread and unrun, if it is the one the shipped list was made from."""
    spec = importlib.util.find_spec("genai_prices")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("genai-prices is not installed; it is needed to check the shipped list against its source")
    version = importlib.metadata.version("genai-prices")
    if shipped_sheet().source != f"genai-prices {version}":
        pytest.skip(f"genai-prices {version} is installed; the shipped list is of {shipped_sheet().source}")
    return (Path(spec.submodule_search_locations[0]) / "data.py").read_text(encoding="utf-8")


def wheel_of(directory: Path, source: str, version: str = "9.9.9") -> Path:
    path = directory / f"genai_prices-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("genai_prices/data.py", source)
    return path


def big_source(rate: str = "1", models: int = 2000, extra: str = "") -> str:
    """A list large enough to be believed as an update."""
    rows = ",".join(
        f"ModelInfo(id='m{number}', match=ClauseEquals(equals='m{number}'),"
        f" prices=ModelPrice(input_mtok=Decimal('{rate}'), output_mtok=Decimal('2')))"
        for number in range(models)
    )
    return f"providers: list[Provider] = [Provider(id='seller', name='S', api_pattern='s', models=[{rows}{extra}])]\n"


def price_per_million(table: PriceTable, provider: str, model: str) -> str | None:
    price = table.find(provider, model, NOW)
    cost = cost_of(MILLION_IN, price)
    return None if cost.amount is None or price is None else f"{cost.amount / 10**12:g} {price.source}"


# --- compiling


def test_compiling_the_source_again_gives_the_shipped_list_byte_for_byte() -> None:
    shipped = shipped_sheet()
    compiled = compile_source(source_text(), version=shipped.source.partition(" ")[2], date=shipped.date)
    assert compiled == (resources.files("counterfoil.ledger") / "prices.json").read_bytes()


@pytest.mark.parametrize("moment", ["2026-11-22T12:00", "2026-11-22T20:00", "2025-06-01T02:00"])
def test_every_model_costs_what_its_source_calculates(moment: str) -> None:
    source_text()
    genai = pytest.importorskip("genai_prices.data_snapshot")
    types = pytest.importorskip("genai_prices.types")
    when = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
    table = PriceTable([shipped_sheet()])
    given = types.Usage(input_tokens=300_000, cache_read_tokens=100_000, output_tokens=50_000)
    ours = {Bucket.INPUT: 200_000, Bucket.CACHE_READ: 100_000, Bucket.OUTPUT: 50_000}
    compared = 0
    for provider in genai.get_snapshot().providers:
        for model in provider.models:
            # A model's name need not match its own clause, or an earlier one may take it: ask what the source finds.
            found = provider.find_model(model.id)
            price = table.find(provider.id, model.id, when.timestamp())
            if found is None:
                continue
            expected = found.get_prices(when)
            if price is None:
                assert expected.input_mtok is None
                assert expected.output_mtok is None
                continue
            assert price.model == found.id
            cost = cost_of(ours, price)
            if cost.amount is None or "requests_kcount" in price.excluded:
                continue
            if expected.cache_read_mtok is None and expected.output_mtok is None and not expected.input_mtok:
                continue
            total = expected.calc_price(given)["total_price"] * 10**12
            assert abs(Decimal(cost.amount) - total) <= 2, (provider.id, model.id)
            compared += 1
    assert compared > 1500


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "open('x')",
        "[x for x in y]",
        "Decimal(1.5)",
        "1.5",
        "lambda: 1",
        "ModelPrice(*z)",
        "f'{x}'",
        "Decimal('-1')",
        "Decimal('NaN')",
        "datetime.time(1, tzinfo=somewhere)",
    ],
)
def test_nothing_but_literals_and_known_constructors_is_read(expression: str) -> None:
    source = (
        "providers = [Provider(id='a', models=[ModelInfo(id='m', match=ClauseEquals(equals='m'),"
        f" prices=ModelPrice(input_mtok={expression}))])]"
    )
    with pytest.raises(SheetError):
        compile_source(source, version="1", date="2026-01-01")


def test_the_source_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w').close()\n" + big_source(models=1)
    compile_source(source, version="1", date="2026-01-01")
    assert not mark.exists()


@pytest.mark.parametrize("source", ["", "providers = 3", "x = [", "providers = [Nothing()]", "\0"])
def test_what_is_not_the_data_is_refused(source: str) -> None:
    with pytest.raises(SheetError):
        compile_source(source, version="1", date="2026-01-01")


def test_a_file_that_is_not_the_wheel_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other-1.0-py3-none-any.whl"
    other.write_bytes(b"")
    broken = tmp_path / "genai_prices-1.0-py3-none-any.whl"
    broken.write_bytes(b"not a zip")
    for path in (other, broken):
        with pytest.raises(SheetError):
            compile_wheel(path, "2026-01-01")


def test_float_dust_and_the_many_shapes_of_a_price_are_compiled() -> None:
    source = textwrap.dedent(
        """
        providers: list[Provider] = [
            Provider(id='a', fallback_model_providers=['b'], extractors=[Other(path=1.5)], models=[
                ModelInfo(
                    id='x',
                    match=ClauseOr(or_=[ClauseStartsWith(starts_with='x'), ClauseAnd(and_=[
                        ClauseContains(contains='y'), ClauseEndsWith(ends_with='z'), ClauseRegex(regex='^.y')])]),
                    prices=[
                        ConditionalPrice(prices=ModelPrice(
                            input_mtok=TieredPrices(base=Decimal('0.18000000000000002'),
                                                    tiers=[Tier(start=200000, price=Decimal('2'))]),
                            requests_kcount=Decimal('5'))),
                        ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2026, 3, 1)),
                                         prices=ModelPrice(input_mtok=Decimal('10'))),
                        ConditionalPrice(constraint=TimeOfDateConstraint(
                            start_time=datetime.time(16, 30, tzinfo=datetime.timezone.utc),
                            end_time=datetime.time(0, 30, 15, tzinfo=datetime.UTC)),
                            prices=ModelPrice(input_mtok=Decimal('1E+1'))),
                    ],
                    price_variants=[PriceVariant(when={'speed': 'fast'}, prices=ModelPrice(input_mtok=Decimal('3')))],
                ),
                ModelInfo(id='y:free', match=ClauseOr(or_=[ClauseEquals(equals='y:free')]), prices=ModelPrice()),
                ModelInfo(id='z', match=ClauseEquals(equals='z'), prices=ModelPrice()),
            ]),
            Provider(id='b', models=[]),
        ]
        """
    )
    sheet = read_sheet(compile_source(source, version="1", date="2026-01-01"))
    rows = [msgspec.to_builtins(row) for row in models_of(sheet.providers["a"])]
    assert sheet.providers["a"].fallback == ["b"]
    assert rows == [
        {
            "id": "x",
            "match": ["any", "^x", ["all", "*y", "$z", "~^.y"]],
            "prices": [
                {"rates": {"input": ["0.18", 200_000, "2"]}, "other": ["requests_kcount"]},
                {"rates": {"input": "10"}, "from": "2026-03-01"},
                {"rates": {"input": "10"}, "between": ("16:30", "00:30:15")},
            ],
            "variants": [{"when": {"speed": "fast"}, "rates": {"input": "3"}}],
        },
        {"id": "y:free", "match": "=y:free", "prices": [{"rates": {"input": "0", "output": "0"}}]},
        {"id": "z", "match": "=z", "prices": [{}]},
    ]


# --- the owner's file


def test_the_documented_shape_is_read_as_documented() -> None:
    shape = textwrap.dedent((price_override.__doc__ or "").partition("fits wins:\n\n")[2])
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    assert shape in page, "the page shows another file than the one that is read here"
    sheet = read_override(shape, name="prices.yaml", default_date="2026-01-01")
    assert (sheet.source, sheet.date) == ("contract 2026-118", "2026-11-01")
    table = PriceTable([sheet])
    prices = {
        (provider, model): table.find(provider, model, NOW)
        for provider, model in (("openai", "gpt-5-nano"), ("vllm", "anything/at-all"), ("google", "gemini-2.5-pro"))
    }
    assert all(prices.values())
    assert cost_of({Bucket.INPUT: 300_000, Bucket.OUTPUT: 0}, prices["google", "gemini-2.5-pro"]).amount == 75 * 10**10
    assert cost_of(MILLION_IN, prices["vllm", "anything/at-all"]).amount == 0
    assert table.find("openai", "gpt-4o", NOW) is None


@pytest.mark.parametrize(
    ("provider", "price_id", "amount"),
    [
        ("vllm", None, 1),
        ("deepinfra", None, 2),
        ("my-server", None, 3),
        ("xai", "x-ai", 4),
        ("openai", "openai", 5),
    ],
)
def test_the_owners_prices_hold_by_the_name_that_the_books_have_too(
    provider: str, price_id: str | None, amount: int, tmp_path: Path
) -> None:
    (tmp_path / OVERRIDE_NAMES[0]).write_text(
        "prices:\n  vllm: {m: {input: 1}}\n  deepinfra: {m: {input: 2}}\n  my-server: {m: {input: 3}}\n"
        "  xai: {m: {input: 4}}\n  x-ai: {m: {input: 9}}\n  openai: {m: {input: 5}}\n"
    )
    opening = Opening("a", "e", NOW, "r", provider, "m", "openai_chat", "openai_chat", price_id=price_id)
    price = price_of(opening, "m", load_prices(tmp_path).table)
    assert cost_of(MILLION_IN, price).amount == amount * 10**12
    assert price is not None
    assert price.source == OVERRIDE_NAMES[0], "clients read receipts: where the file lies is nothing to them"
    assert price_of(opening, "m", load_prices().table) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "prices:\n  o:\n    m: {inptu: 1}",
            "own.yaml, line 3: 'inptu' is not a known kind of token; did you mean",
        ),
        ("price: {}", "line 1: 'price' is not a known key; did you mean 'prices'"),
        ("source: x", "no prices"),
        ("", "empty"),
        ("[", "own.yaml: "),
        ("- 1", "line 1: a mapping is expected"),
        ("prices:\n  o:\n    m: {input: 1e-3}", "line 3: '1e-3': a rate is dollars"),
        ("prices:\n  o:\n    m: {input: -1}", "line 3: '-1': a rate is dollars"),
        ("prices: {o: {m: gratis}}", "'gratis' is neither rates nor `free`"),
        ("prices: {o: {m: {}}}", "no rates"),
        ("prices: {o: {m: []}}", "no prices"),
        ("prices: {o: {'a*b': free}}", "a star can stand only"),
        ("prices: {o: {m: {input: 1}, m: {input: 2}}}", "'m' is there twice"),
        ("prices: {o: {m: {input: 1, from: soon}}}", "'soon' is not a day"),
        ("prices: {o: {m: {input: 1, between: [1]}}}", "between is two UTC times"),
        ("prices: {o: {m: {input: 1, between: ['25:00', '26:00']}}}", "o/m"),
        ("prices: {o: {m: {input: {base: 1}}}}", "a stepped rate has"),
        ("prices: {o: {m: {input: {base: 1, above: {many: 2}}}}}", "'many' is not a number of tokens"),
        ("a: &x [*x]", "aliases"),
        ("date: yesterday\nprices: {}", "line 1: 'yesterday' is not a day"),
        ("[" * 5000, "own.yaml: nested too deeply"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SheetError) as caught:
        read_override(text, name="own.yaml", default_date="2026-01-01")
    assert message in str(caught.value)


def test_json_is_read_as_well_and_no_number_becomes_a_float() -> None:
    text = '{"prices":\t{"o":\n\t{"m": {"input": 0.1, "output": 0.30000000000001}}}}'
    with pytest.raises(SheetError, match=r"'0.30000000000001': a rate is"):
        read_override(text, name="own.json", default_date="2026-01-01")
    sheet = read_override(text.replace("0.30000000000001", "0.3"), name="own.json", default_date="2026-01-01")
    assert cost_of({Bucket.INPUT: 3, Bucket.OUTPUT: 0}, PriceTable([sheet]).find("o", "m", NOW)).amount == 300_000


# --- which list is in force


def test_without_files_the_shipped_list_is_in_force(tmp_path: Path) -> None:
    for directory in (None, tmp_path, tmp_path / "absent"):
        loaded = load_prices(directory)
        assert loaded.files == ("shipped",)
        assert loaded.notices == ()
        assert price_per_million(loaded.table, "openai", "gpt-4o-mini") == f"0.15 {shipped_sheet().source}"


@pytest.mark.parametrize("name", OVERRIDE_NAMES)
def test_the_owners_file_comes_first_and_leaves_the_rest(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.write_text('{"prices": {"openai": {"gpt-4o-mini": {"input": "7", "output": "8"}}}}')
    loaded = load_prices(tmp_path)
    assert loaded.files == (str(own), "shipped")
    assert price_per_million(loaded.table, "openai", "gpt-4o-mini") == f"7 {name}"
    assert price_per_million(loaded.table, "openai", "gpt-4o") == f"2.5 {shipped_sheet().source}"


def test_a_named_owners_file_is_dated_by_its_own_date(tmp_path: Path) -> None:
    own = tmp_path / "elsewhere.yaml"
    own.write_text("prices: {openai: {gpt-4o-mini: {input: 7, output: 8}}}")
    os.utime(own, (NOW, NOW))
    price = load_prices(tmp_path, own).table.find("openai", "gpt-4o-mini", NOW)
    assert price is not None
    assert price.date == "2026-11-22"


def test_a_broken_or_missing_file_of_the_owners_stops_the_start(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_bytes(b"\xff\xfe")
    with pytest.raises(SheetError, match="not UTF-8"):
        load_prices(tmp_path)
    with pytest.raises(OSError, match="absent"):
        load_prices(tmp_path, tmp_path / "absent.yaml")


def test_an_update_is_used_when_newer_and_passed_over_when_broken_or_older(tmp_path: Path) -> None:
    updated = tmp_path / UPDATED_NAME
    updated.write_bytes(compile_source(big_source(models=1), version="9", date="2099-01-01"))
    assert load_prices(tmp_path).files == (str(updated),)
    updated.write_bytes(compile_source(big_source(models=1), version="0", date="2001-01-01"))
    older = load_prices(tmp_path)
    assert (older.files, len(older.notices)) == (("shipped",), 1)
    updated.write_bytes(updated.read_bytes()[:-20])
    broken = load_prices(tmp_path)
    assert broken.files == ("shipped",)
    assert "passed over" in broken.notices[0]


# --- updating


def test_an_update_is_installed_whole_and_says_what_changed(tmp_path: Path) -> None:
    first = update(tmp_path, wheel=wheel_of(tmp_path, big_source("1")), today=TODAY)
    assert (first.models, first.source, first.date) == (2000, "genai-prices 9.9.9", "2099-01-01")
    before = (tmp_path / UPDATED_NAME).read_bytes()
    changed = big_source("1").replace("('1')", "('3')", 1).replace("('1')", "('100')", 1)
    changed = changed.replace("id='m9'", "id='fresh'").replace("equals='m9'", "equals='fresh'")
    second = update(tmp_path, wheel=wheel_of(tmp_path, changed), today=TODAY)
    assert (second.added, second.removed, second.changed) == (1, 1, 2)
    assert [(change.model, change.bucket, change.before, change.now) for change in second.biggest] == [
        ("m1", "input", "1", "100"),
        ("m0", "input", "1", "3"),
    ]
    assert (tmp_path / PREVIOUS_NAME).read_bytes() == before
    assert price_per_million(load_prices(tmp_path).table, "seller", "m1") == "100 genai-prices 9.9.9"
    assert not list(tmp_path.glob(".prices-*"))


@pytest.mark.parametrize("source", [big_source(models=5), big_source("1e9"), "providers = [", big_source() + "\0"])
def test_an_update_that_cannot_be_trusted_changes_nothing(tmp_path: Path, source: str) -> None:
    update(tmp_path, wheel=wheel_of(tmp_path, big_source()), today=TODAY)
    before = (tmp_path / UPDATED_NAME).read_bytes()
    with pytest.raises(UpdateError):
        update(tmp_path, wheel=wheel_of(tmp_path, source, "9.9.10"), today=TODAY)
    assert (tmp_path / UPDATED_NAME).read_bytes() == before
    assert not (tmp_path / PREVIOUS_NAME).exists()


def test_an_update_that_cannot_be_stored_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UpdateError, match="could not be stored"):
        update(blocked, wheel=wheel_of(tmp_path, big_source()), today=TODAY)


def test_an_update_fetches_into_a_place_that_is_gone_afterwards(tmp_path: Path) -> None:
    places: list[Path] = []

    def fetch(directory: Path) -> Path:
        places.append(directory)
        return wheel_of(directory, big_source())

    update(tmp_path, fetch=fetch, today=TODAY)
    assert places
    assert not places[0].exists()
    assert (tmp_path / UPDATED_NAME).exists()


def test_a_download_that_fails_is_told_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(UpdateError, match=r"pip could not download genai-prices: .*genai-prices"):
        fetch_wheel(tmp_path)


def test_a_download_is_found_and_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, target = tmp_path / "shelf", tmp_path / "target"
    shelf.mkdir()
    target.mkdir()
    with zipfile.ZipFile(wheel_of(shelf, big_source()), "a") as archive:
        archive.writestr(
            "genai_prices-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: genai-prices\nVersion: 9.9.9\n"
        )
        archive.writestr("genai_prices-9.9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("genai_prices-9.9.9.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert fetch_wheel(target) == target / "genai_prices-9.9.9-py3-none-any.whl"


# --- showing


def test_a_model_is_shown_with_its_tiers_windows_and_contexts() -> None:
    table = load_prices().table
    shown = show(table, "gemini-2.5-pro", at=NOW, provider="google").prices[0]
    assert shown.rates == {"input": "1.25", "cache_read": "0.125", "output": "10"}
    assert shown.above == {200_000: {"input": "2.5", "cache_read": "0.25", "output": "15"}}
    assert shown.current
    windows = show(table, "deepseek-chat", at=NOW, provider="deepseek").prices
    assert [(window.between, window.current) for window in windows] == [(None, False), (("00:30", "16:30"), True)]
    contexts = show(table, "gpt-4.1", at=NOW, provider="openai").prices
    assert {"service_tier": "priority"} in [each.when for each in contexts]
    resold = show(table, "gpt-4.1", at=NOW, provider="azure").prices
    assert {each.note for each in resold} == {"priced from the list of openai"}


def test_a_model_is_shown_at_every_provider_that_lists_it_and_can_be_written_as_json() -> None:
    shown = show(load_prices().table, "gpt-4o-mini", at=NOW)
    assert {"openai", "azure"} <= {each.provider for each in shown.prices}
    assert msgspec.json.decode(msgspec.json.encode(shown))["prices"]


def test_an_unknown_model_brings_the_nearest_names() -> None:
    shown = show(load_prices().table, "gpt-4o-minni", at=NOW)
    assert shown.prices == ()
    assert "openai/gpt-4o-mini" in shown.nearest


def test_prices_are_loaded_without_genai_prices() -> None:
    script = (
        "import sys; sys.modules['genai_prices'] = None\n"
        "from counterfoil.stores.price_files import load_prices\n"
        "assert load_prices().table.find('openai', 'gpt-4o-mini', 1.8e9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
