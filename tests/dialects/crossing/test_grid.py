"""What a client of one dialect asks, as a provider of another is asked it: kept beside this file, a page a case.

Two things are proved of every cell, and one is kept for people. No mark of the request is lost without a word. What is
refused names its field, and the operator's `drop` lets the rest through. And the bodies are what they were when
somebody last read them: `pytest tests/dialects/crossing --write-pages` writes the pages again, for the reviewer's eyes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.core.error import Failure, RequestError
from counterfoil.core.operation import Operation
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from tests.dialects.crossing import words
from tests.dialects.crossing.cases import CASES
from tests.dialects.crossing.words import NUMBERS

__all__: list[str] = []

PAGES = Path(__file__).parent / "pages"
MODELS = {"bedrock_invoke": "anthropic.claude-made-1-v1:0"}
BOUND_NEEDED = {"anthropic_messages", "bedrock_invoke"}
METERED_ONLY = {"cohere_v1", "gemini_interactions"}
"""Their requests are refused whole; a test of theirs says so."""
PROVIDERS = [
    dialect for name, dialect in DIALECTS.items() if dialect.operation is Operation.CHAT and name not in METERED_ONLY
]
CELLS = [(client, case) for client, cases in CASES.items() for case in cases]


def ask(client: str, case: str, provider: Dialect[Any], *, drop: bool) -> WrittenRequest:
    canonical = CLIENT_DIALECTS[client].read_request(json.dumps(CASES[client][case]).encode())
    quirks = Quirks(default_max_tokens=4096 if provider.name in BOUND_NEEDED else None)
    written = provider.write_request(canonical, MODELS.get(provider.name, "made-1"), quirks, drop)
    return WrittenRequest(written.body, (*written.dropped, *canonical.hints))  # what the client is told of an attempt


def cell(client: str, case: str, provider: Dialect[Any]) -> Iterator[str]:
    """A cell as a person reads it."""
    try:
        written = ask(client, case, provider, drop=False)
    except RequestError as error:
        yield f"400 ({error.failure.param}): {error.failure.message}"
        try:
            written = ask(client, case, provider, drop=True)
        except RequestError as again:
            if again.failure.message != error.failure.message:
                yield f"with drop, 400 ({again.failure.param}): {again.failure.message}"
            return
        yield "with drop:"
    if written.dropped:
        yield f"left out: {', '.join(written.dropped)}"
    yield shown(json.loads(written.body))


def shown(value: Any) -> str:
    """A body for people: what is the same in every page is shown by its name."""
    text = json.dumps(shortened(value), indent=1, ensure_ascii=False)
    for name in ("PIXEL", "PDF", "SOUND"):
        text = text.replace(getattr(words, name), f"({name})")
    return text


def shortened(value: Any) -> Any:
    if value == words.SCHEMA:
        return "(SCHEMA)"
    if isinstance(value, dict):
        return {key: shortened(inside) for key, inside in value.items()}
    return [shortened(inside) for inside in value] if isinstance(value, list) else value


def page(client: str, case: str) -> str:
    parts = [f"{client}: {case}", "", shown(CASES[client][case])]
    for provider in PROVIDERS:
        if provider.name != client:
            parts += ["", f"---- {provider.name}", *cell(client, case, provider)]
    return "\n".join(parts) + "\n"


@pytest.mark.parametrize(("client", "case"), CELLS)
def test_each_wish_becomes_what_it_became_when_somebody_last_read_it(
    client: str, case: str, request: pytest.FixtureRequest
) -> None:
    path = PAGES / client / f"{re.sub('[^a-z0-9]+', '-', case.lower())}.txt"
    now = page(client, case)
    if request.config.getoption("--write-pages"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now)
    assert path.is_file(), "there is no page of this case: read it, and write it with --write-pages"
    assert path.read_text() == now


def test_no_page_is_left_of_a_case_that_is_gone() -> None:
    named = {f"{client}/{re.sub('[^a-z0-9]+', '-', case.lower())}.txt" for client, case in CELLS}
    assert {str(path.relative_to(PAGES)) for path in PAGES.rglob("*.txt")} == named


EVERY_CROSSING = pytest.mark.parametrize(
    ("client", "case", "provider"),
    [
        pytest.param(client, case, provider, id=f"{client}-{case}-{provider.name}")
        for client, case in CELLS
        for provider in PROVIDERS
        if provider.name != client  # the same dialect is patched, not written
    ],
)


@EVERY_CROSSING
def test_nothing_is_lost_without_a_word(client: str, case: str, provider: Dialect[Any]) -> None:
    refused: Failure | None = None
    try:
        written = ask(client, case, provider, drop=False)
    except RequestError as error:
        refused = error.failure
    if refused is not None:
        assert refused.param, "a refusal that names no field"
        assert refused.status == 400
        return
    sent = "\n".join(texts(json.loads(written.body)))
    lost = [
        (field, mark)
        for field, mark in marks(CASES[client][case])
        if not found(mark, sent) and not any(named(field, name) for name in written.dropped)
    ]
    assert [mark for field, mark in lost if not harmless(field, CASES[client][case])] == [], written.dropped


@EVERY_CROSSING
def test_a_refusal_speaks_of_drop_where_drop_helps_and_nowhere_else(
    client: str, case: str, provider: Dialect[Any]
) -> None:
    refused: Failure | None = None
    try:
        ask(client, case, provider, drop=False)
    except RequestError as error:
        refused = error.failure
    if refused is None:
        return
    spoken = "drop" in refused.message
    assert spoken == (refused.code == "cannot_be_carried")
    with contextlib.nullcontext() if spoken else pytest.raises(RequestError):
        ask(client, case, provider, drop=True)


def harmless(field: str, body: Any) -> bool:
    """What may go without a word: it asks nothing of the reply, or is not given to whom it does not belong."""
    none = {"functionCallingConfig": {"mode": "NONE"}}
    no_tool_can_be_called = body.get("tool_choice") in ("none", {"type": "none"}) or body.get("toolConfig") == none
    return field.endswith(HARMLESS) or (field.startswith("tools") and no_tool_can_be_called)


HARMLESS = (
    "json_schema.name",  # a label
    "format.name",
    "content.title",
    "file.filename",  # one provider's may have no dot
    "content.filename",
    "reasoning_details.text",  # another maker's thoughts
    "content.thinking",
)


def marks(value: Any, field: str = "") -> Iterator[tuple[str, str | float]]:
    """Every mark of a request, and the path of its field."""
    if isinstance(value, dict):
        for key, inside in value.items():
            below = f"{field}.{key}" if field else key
            if key.startswith("mk"):
                yield below, key
            yield from marks(inside, below)
    elif isinstance(value, list):
        for inside in value:
            yield from marks(inside, field)
    elif isinstance(value, str) and value.startswith(("mk", "{")):
        yield from ((field, mark) for mark in re.findall(r"mk[\w .?,-]*\w", value))
    elif isinstance(value, int | float) and not isinstance(value, bool) and value in NUMBERS:
        yield field, value


def texts(value: Any) -> Iterator[str]:
    """All that a body says: its keys, its texts and numbers, and what stands in base64."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield key
            yield from texts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from texts(inside)
    else:
        yield str(value)
        with contextlib.suppress(ValueError):
            yield base64.b64decode(str(value), validate=True).decode("utf-8", "replace")


def found(mark: str | float, sent: str) -> bool:
    if isinstance(mark, str):
        return mark in sent
    return re.search(rf"(?<![\d.]){re.escape(str(mark))}(?![\d.])", sent) is not None


def named(field: str, dropped: str) -> bool:
    """Whether a dropped name speaks of this field: they share a word."""
    words = set(field.split("."))
    return any(word in words or ALSO_CALLED.get(word) in words for word in dropped.split("."))


ALSO_CALLED = {"user": "user_id", "budget_tokens": "thinkingBudget"}
"""Fields that dialects call by different names."""
