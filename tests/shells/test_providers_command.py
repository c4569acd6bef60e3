"""`counterfoil providers` shows what the table says, in words a person can use, and never a secret."""

from __future__ import annotations

import json

import pytest

from counterfoil.cli.command import main
from counterfoil.cli.failure import ExitCode
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.providers.facts import convention_words, facts_of, quirk_words
from counterfoil.providers.provider import Provider
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import Convention

TABLE = load_table()
COLUMNS = 100
SECRET = "never-to-be-shown"


@pytest.fixture(autouse=True)
def one_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in TABLE.values():
        for name in (*row.secret_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GROQ_API_KEY", SECRET)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["providers", *words]) == 0
    out = capsys.readouterr().out
    assert SECRET not in out
    return out


def test_every_provider_is_shown_with_every_dialect_and_whether_it_is_proven(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = shown(capsys).partition("\n\n")[0]
    names = [line.split()[0] for line in table.splitlines()[1:] if not line.startswith(" ")]
    assert sorted(names) == sorted(TABLE)
    assert names[0] == "groq"  # what can be used comes first
    said = [line[:60].split()[-1] for line in table.splitlines()[1:]]
    faces = [row.face(dialect).verified for row in TABLE.values() for dialect in row.dialects]
    assert (said.count("yes"), said.count("no")) == (sum(faces), len(faces) - sum(faces))


@pytest.mark.parametrize("words", [(), *((name,) for name in TABLE)], ids=lambda words: words[0] if words else "all")
def test_it_can_be_read_on_a_terminal(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    wide = [line for line in shown(capsys, *words).splitlines() if len(line) > COLUMNS]
    assert [line for line in wide if "https://" not in line] == []


def test_one_provider_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "mistral")
    assert "https://api.mistral.ai/v1" in out
    assert "MISTRAL_API_KEY as a bearer token" in out
    assert "here      needs a secret: write api_key, or set MISTRAL_API_KEY" in out
    assert "mistral/mistral-small-latest" in out
    assert "proven by mistral.chat/mistral" in out
    assert "It counts audio beside the input, not in it." in " ".join(out.split())
    assert "It refuses stream_options" in out
    assert "ready (GROQ_API_KEY)" in shown(capsys, "groq")
    assert "unverified: no recording proves" in shown(capsys, "fireworks")


def test_programs_get_the_same_as_flat_objects(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {one["name"]: one for one in map(json.loads, shown(capsys, "--json").splitlines())}
    assert rows.keys() == TABLE.keys()
    for name, row in TABLE.items():
        assert [face["dialect"] for face in rows[name]["faces"]] == list(row.dialects)
        assert [face["evidence"] for face in rows[name]["faces"]] == [
            list(row.face(dialect).evidence) for dialect in row.dialects
        ]
    assert (rows["groq"]["ready"], rows["groq"]["secret_found"]) == ("yes", "GROQ_API_KEY")
    assert (rows["openai"]["ready"], rows["openai"]["secret_found"]) == ("no", None)
    assert rows["openai"]["needs"].endswith("set OPENAI_API_KEY")
    assert rows["snowflake"]["needs"].startswith("needs a base_url, such as https://")
    assert rows["llama.cpp"]["ready"] == "no secret needed"


@pytest.mark.parametrize(("name", "meant"), [("locl", "local"), ("opnai", "openai"), ("fireworkz", "fireworks")])
def test_a_near_name_is_suggested(name: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", name]) == ExitCode.WRONG
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err
    assert main(["meter", "--dialect", "openai_chat", "--provider", name, "-"]) == ExitCode.USAGE
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err


# ---- words


def test_a_provider_that_counts_as_its_dialect_does_needs_no_words() -> None:
    assert convention_words(None, Convention()) == []
    assert convention_words(Convention(), Convention()) == []
    assert quirk_words(Quirks()) == []


def test_every_departure_has_words() -> None:
    beside = Convention(
        input_includes=frozenset(), output_includes=frozenset(), total_is=frozenset({Counter.INPUT, Counter.CACHE_READ})
    )
    assert convention_words(beside, Convention()) == [
        "It counts cache reads, cached audio, cache writes, audio and images beside the input, not in it.",
        "It counts reasoning, spoken output and drawn output beside the output, not in it.",
        "Its total is input + cache reads.",
    ]
    assert convention_words(Convention(), beside)[0].endswith("and images in the input.")
    assert convention_words(Convention(hidden_reasoning=True), Convention()) == ["Reasoning is only in its total."]
    odd = Quirks(end="done", max_tokens_field="max_completion_tokens", unsupported=frozenset({"seed", "n"}))
    assert quirk_words(odd) == [
        "A reply ends with the end mark, finished or not.",
        "It knows the output bound as max_completion_tokens.",
        "It refuses n, seed.",
    ]


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: str(row.name))
def test_no_words_are_made_up_from_a_fields_name(row: Provider) -> None:
    """A quirk or a convention that a row uses and nobody has words for is shown as it is written: give it words."""
    said = [one for face in facts_of(row, DIALECTS).faces for one in face.departures]
    fields = {*Quirks.__struct_fields__, *Convention.__struct_fields__}
    assert [one for one in said if one.rpartition(": ")[0].rpartition(": ")[2] in fields] == []
    assert all(one.endswith((".", ")")) for one in said)
