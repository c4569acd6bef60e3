"""The names by which the models that most people use are called, where they are called so, have a price."""

from __future__ import annotations

from importlib import resources
from typing import Final

import pytest

from counterfoil.driver.deployment import load_table
from counterfoil.ledger.price_sheet import read_sheet
from counterfoil.ledger.price_table import PriceTable
from counterfoil.usage.usage import Bucket

__all__: list[str] = []

AT: Final = 1_795_000_000
"""In November 2026, about when the shipped list was taken."""
TABLE: Final = PriceTable([read_sheet(resources.files("counterfoil.ledger").joinpath("prices.json").read_bytes())])

NAMES: Final = {
    "bedrock": (
        "anthropic.claude-3-haiku-20240307-v1:0",
        "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.anthropic.claude-opus-4-6-v1",
        "anthropic.claude-sonnet-4-6",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "amazon.nova-micro-v1:0",
        "us.amazon.nova-lite-v1:0",
        "us.amazon.nova-2-lite-v1:0",
        "us.meta.llama3-3-70b-instruct-v1:0",
        "us.deepseek.r1-v1:0",
        "openai.gpt-oss-120b-1:0",
        "mistral.mistral-large-2402-v1:0",
        "amazon.titan-text-express-v1",
    ),
    "vertex": (
        "claude-sonnet-4-5@20250929",
        "claude-opus-4-1@20250805",
        "claude-haiku-4-5@20251001",
        "claude-opus-4-6",
    ),
    "vertex-gemini": ("gemini-2.5-flash", "gemini-2.0-flash-001", "gemini-3-pro-preview", "gemini-embedding-001"),
    "google": ("gemini-2.5-pro", "gemini-flash-latest", "gemini-2.5-flash-preview-09-2025", "gemini-embedding-001"),
    "azure-openai": ("gpt-4o", "gpt-4o-2024-08-06", "gpt-35-turbo", "gpt-5-mini", "o4-mini", "text-embedding-3-small"),
    "azure-ai": ("grok-3", "gpt-4o", "DeepSeek-R1"),
    "anthropic-foundry": ("claude-sonnet-4-5", "claude-opus-4-1", "claude-haiku-4-5"),
    "openai": ("gpt-4o-mini", "gpt-5", "o3", "gpt-3.5-turbo-instruct", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
    "cohere": ("command-r-08-2024", "command-a-03-2025", "command-r7b-12-2024", "embed-v4.0"),
    "voyage": ("voyage-3.5", "voyage-3-large", "voyage-code-3"),
    "mistral": ("mistral-large-latest", "mistral-small-latest", "codestral-latest", "mistral-embed"),
}
CALLED: Final = [(row, name) for row, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("row", "name"), CALLED)
def test_a_common_name_has_a_price(row: str, name: str) -> None:
    price_id = load_table()[row].price_id
    assert price_id is not None
    price = TABLE.find(price_id, name, AT)
    assert price is not None
    assert price.rates[Bucket.INPUT].base > 0


def test_a_region_that_costs_more_is_priced_so() -> None:
    """Bedrock's regional profiles of newer models cost a tenth more than its global ones."""
    name = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    regional, everywhere = (TABLE.find("aws", f"{where}.{name}", AT) for where in ("us", "global"))
    assert regional is not None
    assert everywhere is not None
    assert regional.rates[Bucket.INPUT].base * 10 == everywhere.rates[Bucket.INPUT].base * 11


def test_a_name_of_ones_own_has_no_list_price() -> None:
    """What a deployment on Azure or a profile of one's own on Bedrock runs, its name does not tell: `prices:` does."""
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcd1234"
    assert TABLE.find("aws", profile, AT) is None
    assert TABLE.find("azure", "team-deployment", AT) is None
