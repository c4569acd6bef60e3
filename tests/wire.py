"""The recorded exchanges that stand beside the checkout, where they are present.

They are other people's recordings and never become part of this repository: a user's clone does not have them, and a
test that reads them says so and is skipped.
"""

from __future__ import annotations

import base64
import csv
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

__all__ = ["ABSENT", "Expected", "Recording", "expected", "ids", "params", "read", "records", "shared"]

ABSENT = "recorded exchanges are not beside this checkout (../shared/wire)"


class Expected(msgspec.Struct, frozen=True):
    """One row of the oracle: inclusive totals. None is a cell that is not judged."""

    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    note: str | None


class _Response(msgspec.Struct, frozen=True):
    status: int = 200
    headers: Mapping[str, str] = {}
    body: str | None = None
    body_base64: str | None = None


class Recording(msgspec.Struct, frozen=True):
    """One recorded exchange. `request` is as recorded; use `request_body` and `response_body` for bytes."""

    id: str
    dialect: str
    provider: str
    response: _Response
    model: str | None = None
    stream: bool = False
    features: tuple[str, ...] = ()
    request: Mapping[str, Any] | None = None
    framing: str | None = None
    usage_reported: Any = None
    usage_shape: str = ""
    response_reserialized: bool = False

    @property
    def response_body(self) -> bytes:
        if self.response.body_base64 is not None:
            return base64.b64decode(self.response.body_base64)
        return (self.response.body or "").encode()

    @property
    def request_body(self) -> Any:
        """The request's JSON value, or None when the request was not recorded."""
        return None if self.request is None else self.request.get("body")

    @property
    def framed(self) -> bool:
        """Whether the bytes of the framing are the provider's own (not reconstructed by the recorder)."""
        return self.framing is None and "framing_reconstructed" not in self.features


@functools.cache
def shared() -> Path | None:
    """The directory of shared material: `shared` in the checkout's parent, or further up."""
    for parent in Path(__file__).resolve().parent.parents:
        if (parent / "shared" / "wire" / "INDEX.tsv").is_file():
            return parent / "shared"
    return None


def ids(*prefixes: str, stream: bool | None = None) -> list[str]:
    """Ids of the recordings whose id begins with one of `prefixes` (all without any), streamed or not or both.

    Empty when the recordings are absent.
    """
    directory = shared()
    if directory is None:
        return []
    with (directory / "wire" / "INDEX.tsv").open(newline="") as index:
        known = [
            row["id"]
            for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE)
            if stream is None or row["stream"] == str(stream).lower()
        ]
    return [name for name in known if not prefixes or name.startswith(prefixes)]


def params(*prefixes: str, stream: bool | None = None) -> list[Any]:
    """For `pytest.mark.parametrize`: the ids, or one that is skipped with the reason when there are none."""
    return list(ids(*prefixes, stream=stream)) or [pytest.param("absent", marks=pytest.mark.skip(reason=ABSENT))]


def read(name: str) -> Recording:
    """One recording by its id."""
    directory = shared()
    if directory is None:
        pytest.skip(ABSENT)
    return msgspec.json.decode((directory / "wire" / f"{name}.json").read_bytes(), type=Recording)


def records(*prefixes: str) -> Iterator[Recording]:
    """The recordings whose id begins with one of `prefixes`. Skips the test when they are absent."""
    if shared() is None:
        pytest.skip(ABSENT)
    for name in ids(*prefixes):
        yield read(name)


@functools.cache
def expected() -> Mapping[str, Expected]:
    """The oracle by id; empty when it is absent."""
    directory = shared()
    if directory is None:
        return {}
    with (directory / "wire" / "expected.tsv").open(newline="") as table:
        return {
            row["id"]: msgspec.convert({name: cell or None for name, cell in row.items()}, Expected, strict=False)
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
