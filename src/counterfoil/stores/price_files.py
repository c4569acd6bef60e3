"""Price lists on disk: the one that ships, an updated one, and the owner's own.

Rule 1: the owner's file comes first, then the newer of the updated and the shipped list. A broken file of the owner's
stops the start; a broken update is passed over and said, for the shipped list is always there.
Rule 2: a new list is validated whole before it takes the place of the old one, in one rename; the old one is kept.
Rule 3: nothing is fetched but when `update` is called, and nothing fetched is run.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.ledger.price_sheet import ModelRow, Sheet, SheetError, VariantRow, models_of, read_sheet
from counterfoil.ledger.price_table import PriceTable, check_sheet
from counterfoil.stores.price_compile import compile_wheel
from counterfoil.stores.price_override import OVERRIDE_LIMIT, read_override

__all__ = [
    "OVERRIDE_NAMES",
    "PREVIOUS_NAME",
    "UPDATED_NAME",
    "Change",
    "LoadedPrices",
    "ShownPrice",
    "ShownPrices",
    "UpdateError",
    "UpdateSummary",
    "fetch_wheel",
    "load_prices",
    "shipped_sheet",
    "show",
    "update",
]

OVERRIDE_NAMES: Final = ("prices.yaml", "prices.yml", "prices.override.json")
"""What the owner's file may be called in the data directory; the first that is there is read."""
UPDATED_NAME: Final = "prices.updated.json"
PREVIOUS_NAME: Final = "prices.previous.json"

_SHIPPED: Final = "shipped"
_SHEET_LIMIT: Final = 32 * 1024 * 1024
_FETCH_SECONDS: Final = 180
_LEAST_SHARE: Final = 0.5
"""An update with fewer than this share of the models before is taken for a broken one."""
_BIGGEST: Final = 10


class UpdateError(Exception):
    """An update that did not happen; the list before is still in use. The message is for the operator."""


class LoadedPrices(msgspec.Struct, frozen=True):
    """The table, where its sheets came from (first decides), and what was passed over."""

    table: PriceTable
    files: tuple[str, ...]
    notices: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """One rate that differs: dollars per million tokens before and now."""

    provider: str
    model: str
    bucket: str
    before: str
    now: str


class UpdateSummary(msgspec.Struct, frozen=True):
    """What an update changed, in models; `biggest` are the rates that moved by the largest factor."""

    source: str
    date: str
    models: int
    added: int
    removed: int
    changed: int
    biggest: tuple[Change, ...]
    path: str


class ShownPrice(msgspec.Struct, frozen=True, omit_defaults=True, rename={"since": "from"}):
    """One set of rates, for people: dollars per million tokens by bucket, and above which input they are others.

    `when` is the context the rates need, `from` and `between` when they apply (UTC), `current` whether they do now
    (without a context). `note` says when a price is the list of another provider.
    """

    provider: str
    model: str
    rates: dict[str, str]
    above: dict[int, dict[str, str]]
    date: str
    source: str
    current: bool
    since: str | None = None
    between: tuple[str, str] | None = None
    when: dict[str, str] | None = None
    excluded: tuple[str, ...] = ()
    note: str | None = None


class ShownPrices(msgspec.Struct, frozen=True):
    """The answer to `prices show`: what is listed, and nearest names when nothing is."""

    prices: tuple[ShownPrice, ...]
    nearest: tuple[str, ...] = ()


def shipped_sheet() -> Sheet:
    """The list that came with this version."""
    return read_sheet((resources.files("counterfoil.ledger") / "prices.json").read_bytes())


def load_prices(data_dir: Path | None = None, override: Path | None = None) -> LoadedPrices:
    """The table in force. About a millisecond; models are decoded when their provider is first asked for.

    `override` names the owner's file; without it, `data_dir` is searched. Raises SheetError for a bad override and
    OSError for a named one that cannot be read.
    """
    sheet, file, notices = _listed(data_dir)
    own = override or _own_file(data_dir)
    if own is None:
        return LoadedPrices(PriceTable([sheet]), (file,), notices)
    return LoadedPrices(PriceTable([sheet], own=_read_own(own)), (str(own), file), notices)


def fetch_wheel(directory: Path) -> Path:
    """Download the newest genai-prices wheel into `directory` with pip; nothing is installed. Raises UpdateError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(directory), "genai-prices"]
    try:
        # The whole command is fixed above but for a directory of our own making.
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UpdateError(f"pip could not be run: {error}") from error
    if done.returncode != 0:
        tail = done.stderr.strip().splitlines()[-3:]
        raise UpdateError("pip could not download genai-prices: " + " / ".join(tail))
    wheels = sorted(directory.glob("genai_prices-*.whl"))
    if len(wheels) != 1:
        raise UpdateError("pip downloaded no wheel of genai-prices")
    return wheels[0]


def update(
    data_dir: Path,
    *,
    wheel: Path | None = None,
    today: datetime.date | None = None,
    fetch: Callable[[Path], Path] = fetch_wheel,
) -> UpdateSummary:
    """Install the newest price list in `data_dir` and say what changed.

    `wheel` uses a downloaded one instead of fetching. The list before is kept beside it as `PREVIOUS_NAME`. Raises
    UpdateError, and then nothing has changed.
    """
    day = (today or datetime.datetime.now(datetime.UTC).date()).isoformat()
    try:
        if wheel is None:
            with tempfile.TemporaryDirectory(prefix="counterfoil-prices-") as scratch:
                compiled = compile_wheel(fetch(Path(scratch)), day)
        else:
            compiled = compile_wheel(wheel, day)
        sheet = read_sheet(compiled)
        models = check_sheet(sheet)
        before, _, _ = _listed(data_dir)
        if models < _LEAST_SHARE * check_sheet(before):
            raise UpdateError(f"the new list has only {models} models; it is taken for a broken one")
        added, removed, changes = _compare(before, sheet)
        path = _install(data_dir, compiled)
    except SheetError as error:
        raise UpdateError(f"the new list is not usable: {error}") from error
    except OSError as error:
        raise UpdateError(f"the new list could not be stored: {error}") from error
    biggest = tuple(sorted(changes, key=_factor, reverse=True)[:_BIGGEST])
    changed = len({(change.provider, change.model) for change in changes})
    return UpdateSummary(sheet.source, sheet.date, models, added, removed, changed, biggest, str(path))


def show(table: PriceTable, model: str, *, at: float, provider: str | None = None) -> ShownPrices:
    """Every price of `model`, at one provider or at each that lists it; nearest names when there is none."""
    shown: list[ShownPrice] = []
    for name, sheet, row in table.rows(model, provider):
        current = table.window(name, model, at)
        found = table.find(name, model, at)
        note = found.notes[0] if found is not None and found.notes else None
        for place, window in enumerate(row.prices):
            rates, above = _for_people(window.rates)
            shown.append(
                ShownPrice(
                    provider=name,
                    model=row.id,
                    rates=rates,
                    above=above,
                    date=sheet.date,
                    source=sheet.source,
                    current=place == current,
                    since=window.since,
                    between=window.between,
                    excluded=tuple(window.other),
                    note=note,
                )
            )
        if note is None:
            shown += [_in_context(name, sheet, row, variant) for variant in row.variants if variant.rates]
    return ShownPrices(tuple(shown), () if shown else table.nearest(model, provider))


def _in_context(provider: str, sheet: Sheet, row: ModelRow, variant: VariantRow) -> ShownPrice:
    rates, above = _for_people(variant.rates)
    return ShownPrice(
        provider=provider,
        model=row.id,
        rates=rates,
        above=above,
        date=sheet.date,
        source=sheet.source,
        current=False,
        since=variant.since,
        when=variant.when,
    )


def _listed(data_dir: Path | None) -> tuple[Sheet, str, tuple[str, ...]]:
    """The newer of the updated and the shipped list, where it is, and what was passed over."""
    shipped = shipped_sheet()
    path = None if data_dir is None else data_dir / UPDATED_NAME
    if path is None or not path.exists():
        return shipped, _SHIPPED, ()
    try:
        updated = read_sheet(_read_bytes(path, _SHEET_LIMIT))
    except (SheetError, OSError) as error:
        return shipped, _SHIPPED, (f"{path} is passed over: {error}",)
    if updated.date >= shipped.date:
        return updated, str(path), ()
    return shipped, _SHIPPED, (f"{path} ({updated.date}) is older than the list that ships ({shipped.date})",)


def _own_file(data_dir: Path | None) -> Path | None:
    if data_dir is None:
        return None
    return next((path for name in OVERRIDE_NAMES if (path := data_dir / name).exists()), None)


def _read_own(path: Path) -> Sheet:
    try:
        text = _read_bytes(path, OVERRIDE_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise SheetError(f"{path}: not UTF-8") from error
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).date()
    return read_override(text, name=str(path), default_date=written.isoformat())


def _read_bytes(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise SheetError(f"{path}: larger than {limit} bytes")
    return data


def _install(data_dir: Path, compiled: bytes) -> Path:
    """Write beside, sync, keep the old one, rename. A crash at any point leaves a whole list in place."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / UPDATED_NAME
    handle, scratch = tempfile.mkstemp(dir=data_dir, prefix=".prices-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(compiled)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copyfile(path, data_dir / PREVIOUS_NAME)
        Path(scratch).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(scratch).unlink()
        raise
    return path


def _compare(before: Sheet, now: Sheet) -> tuple[int, int, list[Change]]:
    """Models added and removed, and every rate of the newest window that differs."""
    old, new = _latest_rates(before), _latest_rates(now)
    changes = [
        Change(*name, bucket, rates.get(bucket, "none"), new[name].get(bucket, "none"))
        for name, rates in old.items()
        if name in new
        for bucket in sorted(rates.keys() | new[name].keys())
        if rates.get(bucket) != new[name].get(bucket)
    ]
    return len(new.keys() - old.keys()), len(old.keys() - new.keys()), changes


def _latest_rates(sheet: Sheet) -> dict[tuple[str, str], dict[str, str]]:
    """Rates as text by model; every window counts, so that a change anywhere is seen."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for provider, row in sheet.providers.items():
        for model in models_of(row):
            rates = found.setdefault((provider, model.id), {})
            for window in model.prices:
                when = f" from {window.since}" if window.since else ""
                when += f" between {'-'.join(window.between)}" if window.between else ""
                for bucket, rate in window.rates.items():
                    rates[bucket + when] = rate if isinstance(rate, str) else " / ".join(map(str, rate))
    return found


def _factor(change: Change) -> float:
    """How far a rate moved, for ordering only; appearing or becoming free is the farthest."""
    try:
        before, now = float(change.before.split(" ")[0]), float(change.now.split(" ")[0])
    except ValueError:
        return 0.0
    return max(before, now) / min(before, now) if before and now else float("inf")


def _for_people(written: dict[str, str | list[str | int]]) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    rates: dict[str, str] = {}
    above: dict[int, dict[str, str]] = {}
    for bucket, rate in written.items():
        if isinstance(rate, str):
            rates[bucket] = rate
            continue
        rates[bucket] = str(rate[0])
        for edge, stepped in zip(rate[1::2], rate[2::2], strict=True):
            above.setdefault(int(edge), {})[bucket] = str(stepped)
    return rates, above
