"""What the documentation shows is true: its generated parts, its links, its commands, its examples, its numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from counterfoil.cli.command import COMMANDS, parser_of
from counterfoil.cli.failure import CommandError
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.configuration import Loaded, load_text
from counterfoil.driver.deployment import load_table
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.ledger.price import cost_of, format_usd, own_price
from counterfoil.providers.provider import Provider
from counterfoil.providers.table import read_table
from counterfoil.usage.reading import NO_READING, Counter, Report, ReportLine
from counterfoil.usage.settle import Convention, Delivered, DiscrepancyKind, Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance, total_of
from docs import generate
from tests.tree import REPOSITORY

__all__: list[str] = []

PAGES: Final = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE: Final = re.compile(r"(?<!`)`(counterfoil [^`\n]+)`(?!`)")
_NAME: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_COMMANDS: Final = frozenset(name for group in COMMANDS.values() for name in group)
LAWS: Final = (REPOSITORY / "docs" / "usage-laws.md").read_text(encoding="utf-8")
ADDING: Final = (REPOSITORY / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _blocks(*languages: str) -> list[Any]:
    """Fenced blocks of these languages in every page, as parameters."""
    found = []
    for page in PAGES:
        for number, (language, block) in enumerate(_FENCE.findall(_text(page)), 1):
            if language in languages:
                found.append(pytest.param(block, id=f"{page.relative_to(REPOSITORY)}:{number}"))
    return found


def _block(text: str, language: str) -> str:
    (block,) = [block for said, block in _FENCE.findall(text) if said == language]
    return str(block)


# ---- generated parts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_generated_parts_say_what_the_code_says(page: Path) -> None:
    assert generate.rewritten(_text(page)) == _text(page), "stale: python docs/generate.py"


def test_every_part_that_can_be_generated_is_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"<!-- generated: (\S+) -->", _text(page))}
    assert shown == set(generate.PARTS)


def test_a_stale_part_is_found_and_only_it_is_rewritten() -> None:
    page = "before\n<!-- generated: exit-codes -->\nold\n<!-- end -->\nafter\n"
    now = generate.rewritten(page)
    assert "old" not in now
    assert now.startswith("before\n")
    assert now.endswith("<!-- end -->\nafter\n")
    assert generate.rewritten(now) == now


def test_every_key_of_the_configuration_says_what_it_means() -> None:
    rows = [line for line in generate.configuration().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.rstrip(" |").endswith(("none", "must be given", "as below"))] == []


def test_keys_that_are_said_to_stand_below_stand_below() -> None:
    page = generate.configuration()
    below = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "| keys, below |" in line]
    assert len(below) > 8
    assert [name for name in below if f"### `{name}`" not in page] == []


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert list(_broken(page, _text(page))) == []


def test_a_broken_link_is_found() -> None:
    page = REPOSITORY / "docs" / "index.md"
    assert list(_broken(page, "[a](nowhere.md) [b](usage-laws.md#no-such-heading)")) == [
        "nowhere.md",
        "usage-laws.md#no-such-heading",
    ]


def _broken(page: Path, text: str) -> Iterator[str]:
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place) if place else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---- commands


@pytest.mark.parametrize("block", _blocks("bash", "sh", "console", ""))
def test_commands_that_are_shown_can_be_typed(block: str) -> None:
    _parse_all(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_that_are_spoken_of_are_there(page: Path) -> None:
    for said in _INLINE.findall(_text(page)):
        words = shlex.split(said)[1:]
        if words[0].isupper() or words[0].startswith("-"):
            continue
        assert words[0] in _COMMANDS, said
        known = parser_of(words[0]).format_help()
        assert [word for word in words if word.startswith("--") and word not in f"{known} --help"] == [], said


@pytest.mark.parametrize(
    "wrong", ["counterfoil serv", "counterfoil serve --prot 1", "echo x | counterfoil usage --by moon"]
)
def test_a_command_that_cannot_be_typed_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, CommandError)):
        _parse_all(wrong)


def _parse_all(block: str) -> None:
    for words in _typed(block):
        _parse(words)


def _parse(words: list[str]) -> None:
    if words and words[0] not in ("--help", "--version"):
        assert words[0] in _COMMANDS, words
        parser_of(words[0]).parse_args(words[1:])


def _typed(block: str) -> Iterator[list[str]]:
    """The arguments of every `counterfoil` that a shell would run for this block."""
    pending = ""
    for line in block.splitlines():
        pending += line.removeprefix("$ ") + "\n"
        if pending.endswith("\\\n"):
            continue
        lexer = shlex.shlex(pending.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quote that goes on in the next line
            continue
        pending = ""
        command: list[str] = []
        for word in [*words, ";"]:
            if word and set(word) <= set("|;&<>()"):
                if command[:1] == ["counterfoil"]:
                    yield command[1:]
                command = []
            elif command or "=" not in word:
                command.append(word)


# ---- examples


@pytest.mark.parametrize("block", _blocks("yaml"))
def test_configurations_that_are_shown_can_be_loaded(block: str, tmp_path: Path) -> None:
    assert _loaded(block, tmp_path).config.models


def _loaded(block: str, folder: Path) -> Loaded:
    names = {*_NAME.findall(block), *(name for row in load_table().values() for name in row.secret_env)}
    environ = {name: f"made-up-{number:04d}-secret" for number, name in enumerate(sorted(names))}
    return load_text(block, environ, path=folder / "gateway.yaml")


def test_the_examples_of_the_configuration_mean_what_is_said_of_them(tmp_path: Path) -> None:
    text = _text(REPOSITORY / "docs" / "configuration.md")
    examples = {
        title: _loaded(block, tmp_path).config
        for title, block in re.findall(r"^### (.+?)\n.*?^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    }
    chain = examples["A chain of fallbacks"].models["assistant"]
    assert not isinstance(chain, tuple)
    assert [one.provider for one in chain.deployments] == ["openai", "azure-openai", "local"]
    assert chain.deployments[0].timeouts is not None
    assert chain.deployments[0].timeouts.first_byte == 20
    keys = examples["Gateway keys"].keys
    assert keys is not None
    assert [(key.name, key.stream_usage) for key in keys.static] == [("alice", None), ("notebook", "always")]
    drained = examples["Exact numbers although the client hung up"].models["my-model"]
    assert not isinstance(drained, tuple)
    assert drained.client_gone is not None
    assert (drained.client_gone.action, drained.client_gone.drain) == ("drain", 20)
    assert examples["Clients that never ask for usage"].stream_usage == "always"
    assert examples["Only this machine"].discover is False


def test_the_invented_provider_is_proved_as_the_page_says() -> None:
    row = read_table(_block(ADDING, "toml"), DIALECTS)["harbour"]
    before, after = _harbour(None), _harbour(row)
    assert before.settlement.usage.output_tokens == 9
    assert {(one.kind, one.reported, one.expected) for one in before.settlement.discrepancies} == {
        (DiscrepancyKind.PART_EXCEEDS_WHOLE, 14, 9),
        (DiscrepancyKind.TOTAL_MISMATCH, 54, 40),
    }
    usage = after.settlement.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (31, 23, 14, 54)
    assert after.settlement.discrepancies == ()
    assert after.exit is Exit.COMPLETED
    assert "31 in, 9 out" in ADDING
    assert "31 in, 23 out, 14 of them reasoning, total 54" in ADDING


def _harbour(row: Provider | None) -> ReadReply:
    dialect = DIALECTS["openai_chat"]
    convention = None if row is None else row.convention_for("tide-large", dialect.convention)
    return read_reply([_block(ADDING, "sse").encode()], dialect, streamed=True, convention=convention)


# ---- the worked examples of the laws

CHAT: Final = DIALECTS["openai_chat"].convention
MESSAGES: Final = DIALECTS["anthropic_messages"].convention
I, O, T, R = Counter.INPUT, Counter.OUTPUT, Counter.TOTAL, Counter.REASONING  # noqa: E741 - as in the tables
READ, WRITE = Counter.CACHE_READ, Counter.CACHE_WRITE


def _of(provider: str) -> Convention:
    return load_table()[provider].face("openai_chat").convention_for("any", CHAT)


def _settled(
    *reports: Report, by: Convention = CHAT, ended: bool = True, delivered: Delivered | None = None
) -> Settlement:
    reading = NO_READING
    for report in reports:
        reading = reading.join(report)
    return settle(reading, by, ended=ended, delivered=delivered)


def _said(settlement: Settlement) -> str:
    usage = settlement.usage
    return f"{usage.input_tokens} in, {usage.output_tokens} out"


_GROQ: Final = Report({I: 40, O: 8, T: 48})
_TWO_CHOICES: Final = (Report({I: 12, O: 5}, scope=0), Report({I: 12, O: 6}, scope=1))
_HEAD: Final = Report({I: 10, READ: 90, O: 1}, provisional=frozenset({O}))
_WITH_REASONING: Final = Report({I: 50, O: 20, R: 12, T: 70})
_REASONING_APART: Final = Report({I: 50, O: 20, R: 12, T: 82})
_CUT: Final = Delivered(input=47, output=463, since_report=60, choices=frozenset({0}))
_SILENT: Final = Delivered(input=47, output=63, choices=frozenset({0}))
_COMPACTED: Final = Report(
    {I: 11, O: 10}, lines=(ReportLine("compaction", {I: 90, O: 7}), ReportLine("message", {I: 11, O: 10}))
)
_DECLINED: Final = Report(
    {I: 20, O: 30},
    lines=(
        ReportLine("message", {I: 20, O: 0}, "first", waived=True),
        ReportLine("fallback_message", {I: 20, O: 30}, "second"),
    ),
)

EXAMPLES: Final = {
    "three times the same": (_settled(_GROQ, _GROQ, _GROQ), "40 in, 8 out"),
    "one prompt, two choices": (_settled(*_TWO_CHOICES), "12 in, 11 out"),
    "null neither sets nor clears": (_settled(Report({I: 30, READ: 12, O: None}), Report({O: 9})), "30 in, 9 out"),
    "settled once": (_settled(_HEAD, Report({I: 10, READ: 90, O: 25}), by=MESSAGES), "100 in, 25 out"),
    "reasoning inside": (_settled(_WITH_REASONING), "50 in, 20 out"),
    "reasoning beside": (_settled(_REASONING_APART, by=_of("xai")), "50 in, 32 out"),
    "reasoning hidden": (_settled(Report({I: 66, O: 6, T: 100}), by=_of("google")), "66 in, 34 out"),
    "silent": (_settled(delivered=_SILENT), "47 in, 63 out"),
    "compaction": (_settled(_COMPACTED, by=MESSAGES), "101 in, 17 out"),
    "waived": (_settled(_DECLINED, by=MESSAGES), "20 in, 30 out"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_worked_example_of_the_laws_is_right(name: str) -> None:
    settlement, figures = EXAMPLES[name]
    assert _said(settlement) == figures
    assert f"**{figures}**" in " ".join(LAWS.replace("\n>", "\n").split())
    assert settlement.discrepancies == ()


def test_the_worked_examples_of_sums_and_unknowns_are_right() -> None:
    both = total_of([_settled(Report({I: 40, O: 3}), ended=False).usage, _settled(_GROQ).usage])
    assert (both.input_tokens, both.output_tokens) == (80, 11)
    unknown = _settled(Report({I: 30, READ: 12, O: None})).usage
    assert (unknown.output_tokens, unknown.total_tokens) == (None, None)


def test_the_worked_examples_of_vouchers_are_right() -> None:
    cut = _settled(Report({I: 50, O: 400}), ended=False, delivered=_CUT)
    assert _said(cut) == "50 in, 460 out"
    assert cut.usage.provenance == {Bucket.INPUT: Provenance.PARTIAL, Bucket.OUTPUT: Provenance.ESTIMATED}
    assert set(EXAMPLES["silent"][0].usage.provenance.values()) == {Provenance.ESTIMATED}
    hidden = EXAMPLES["reasoning hidden"][0].usage
    assert (hidden.reasoning_tokens, hidden.provenance[Bucket.REASONING]) == (28, Provenance.DERIVED)


def test_the_worked_examples_of_buckets_are_right() -> None:
    grok = _settled(Report({I: 7, READ: 163, O: 5, T: 12}))
    assert grok.usage.input_tokens == 7
    assert grok.usage.excess == {Bucket.CACHE_READ: 156}
    assert [one.kind for one in grok.discrepancies] == [DiscrepancyKind.PART_EXCEEDS_WHOLE]
    usage = _settled(Report({I: 1000, READ: 600, WRITE: 100, O: 50, T: 1050})).usage
    assert {bucket.value: count for bucket, count in usage.buckets.items()} == {
        "input": 300,
        "cache_read": 600,
        "cache_write": 100,
        "output": 50,
    }
    assert 300 * 300 + 600 * 30 + 100 * 375 + 50 * 1500 == 220_500  # hundred-millionths of a dollar
    assert "**0.002205**" in LAWS
    lifetimes = {Counter.CACHE_WRITE_5M: 150, Counter.CACHE_WRITE_1H: 50}
    stale = _settled(Report({I: 20, WRITE: 200, **lifetimes, O: 1}), Report({I: 20, WRITE: 260, O: 30}), by=MESSAGES)
    kept = [stale.usage.buckets[one] for one in (Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H, Bucket.CACHE_WRITE)]
    assert kept == [150, 50, 60]


def test_the_worked_examples_of_bills_are_right() -> None:
    bill = {Counter.BILLED_INPUT: 12, Counter.BILLED_OUTPUT: 7}
    chat = _settled(Report({I: 500, READ: 448, O: 10, **bill}))
    assert _said(chat) == "500 in, 10 out"
    rates = own_price("harbour", "tide-large", {"input": "2.50", "output": "10.00"}, date="2026-11-01")
    assert format_usd(cost_of(chat.usage.priced, rates).amount or 0) == "$0.0001"
    ranking = _settled(
        Report({Counter.SEARCH_UNITS: 3, Counter.BILLED_INPUT: 0}), by=DIALECTS["cohere.rerank"].convention
    ).usage
    assert (ranking.input_tokens, ranking.total_tokens) == (None, None)
    searches = own_price("harbour", "tide-order", {"search_units": 2000}, date="2026-11-01")
    assert format_usd(cost_of(ranking.priced, searches).amount or 0) == "$0.006"
    assert {"**0.0001**", "**0.006**"} <= set(re.findall(r"\*\*[\d.]+\*\*", LAWS))


def test_a_recorded_exchange_looks_as_the_page_says() -> None:
    from counterfoil.cli.meter import read_record

    body = _block(ADDING, "sse")
    record = {
        "id": "h-1",
        "dialect": "openai.chat",
        "provider": "harbour",
        "model": "tide-large",
        "stream": True,
        "request": {"body": {"model": "tide-large", "stream": True}},
        "response": {"status": 200, "headers": {"content-type": "text/event-stream"}, "body": body},
    }
    table = read_table(_block(ADDING, "toml"), DIALECTS)
    read = read_record("harbour.json", msgspec.json.encode(record), table).read()
    assert _said(read.settlement) == "31 in, 23 out"
