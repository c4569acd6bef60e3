"""Numbers for Prometheus: a small registry, and what an exchange adds to it.

Rule 1: nothing here holds content, and no name a client made up becomes a label: a model is named once a provider has
served it, and only so many are.
Rule 2: the books are the truth. These are counts since the start, for graphs and alarms.

The text format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from counterfoil.exchange.command import Outcome
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.usage.usage import Bucket, Provenance

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"
"""What stands for every name beyond the bound."""
_NAMES: Final = 500
_SERIES: Final = 5000
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_PICO: Final = 10**12
_DIRECTIONS: Final = {
    **dict.fromkeys((Bucket.INPUT, Bucket.INPUT_AUDIO, Bucket.INPUT_IMAGE, Bucket.TOOL_INPUT), "input"),
    **dict.fromkeys((Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO), "cache_read"),
    **dict.fromkeys((Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H), "cache_write"),
    **dict.fromkeys((Bucket.OUTPUT, Bucket.OUTPUT_AUDIO, Bucket.OUTPUT_IMAGE), "output"),
    Bucket.REASONING: "reasoning",
}
"""Buckets are disjoint, so directions are: `input` is what no cache gave, `output` what was not reasoning. A bucket
that is not here counts no tokens."""


class Counter:
    """A family of counts that only rise, by label values. `unit`: how many make one in the text."""

    def __init__(self, name: str, help_: str, labels: Sequence[str] = (), *, unit: int = 1) -> None:
        self.name, self.help, self.labels, self._unit = name, help_, tuple(labels), unit
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def add(self, amount: int, *values: str) -> None:
        """Add to the count of these label values. Beyond the bound everything is counted under `other`."""
        if values not in self._values and len(self._values) >= _SERIES:
            values = (OTHER,) * len(values)
        self._values[values] = self._values.get(values, 0) + amount

    def value(self, *values: str) -> int:
        """The count of these label values."""
        return self._values.get(values, 0)

    def text(self) -> Iterator[str]:
        """The lines of the family."""
        yield from _head(self.name, self.help, "counter")
        for values, amount in self._values.items():
            whole, rest = divmod(amount, self._unit)
            shown = f"{whole}.{rest:012d}" if self._unit == _PICO else str(amount)
            yield f"{self.name}{_labels(self.labels, values)} {shown}"


class Gauge:
    """A number that is asked for when it is shown. None: not to be had here."""

    def __init__(self, name: str, help_: str, read: Callable[[], float | None], kind: str = "gauge") -> None:
        self.name, self.help, self._read, self._kind = name, help_, read, kind

    def text(self) -> Iterator[str]:
        """The lines of the family."""
        value = self._read()
        if value is not None:
            yield from _head(self.name, self.help, self._kind)
            yield f"{self.name} {value:.15g}"


class Histogram:
    """How long something took, in seconds."""

    def __init__(self, name: str, help_: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help_, tuple(labels)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, seconds: float, *values: str) -> None:
        """Count one."""
        if values not in self._counts and len(self._counts) >= _SERIES:
            values = (OTHER,) * len(values)
        counts = self._counts.setdefault(values, [0] * (len(_SECONDS) + 1))
        counts[bisect_left(_SECONDS, seconds)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + seconds

    def text(self) -> Iterator[str]:
        """The lines of the family."""
        yield from _head(self.name, self.help, "histogram")
        for values, counts in self._counts.items():
            so_far = 0
            for bound, count in zip([*map(str, _SECONDS), "+Inf"], counts, strict=True):
                so_far += count
                yield f"{self.name}_bucket{_labels((*self.labels, 'le'), (*values, bound))} {so_far}"
            labels = _labels(self.labels, values)
            yield f"{self.name}_sum{labels} {self._sums[values]:.9g}"
            yield f"{self.name}_count{labels} {so_far}"


class Metrics:
    """All numbers of one gateway."""

    def __init__(self, open_exchanges: Callable[[], int], books_healthy: Callable[[], bool]) -> None:
        started = time.time()
        self.requests = Counter(
            "counterfoil_requests_total", "Requests answered, by route and HTTP status.", ("route", "status")
        )
        self.attempts = Counter(
            "counterfoil_attempts_total", "Upstream calls, by how they ended.", ("provider", "model", "exit")
        )
        self.tokens = Counter(
            "counterfoil_tokens_total",
            "Tokens in disjoint directions, by who vouches for them.",
            ("provider", "model", "direction", "provenance"),
        )
        self.units = Counter(
            "counterfoil_units_total",
            "Units that are billed and are no tokens (searches, images), by who vouches for them.",
            ("provider", "model", "unit", "provenance"),
        )
        self.cost = Counter("counterfoil_cost_usd_total", "Cost of priced attempts.", ("provider", "model"), unit=_PICO)
        self.unpriced = Counter(
            "counterfoil_unpriced_attempts_total", "Attempts in which a model ran whose cost is not known."
        )
        self.corrections = Counter(
            "counterfoil_corrections_total",
            "Attempts whose estimate was counted again and changed.",
            ("provider", "model"),
        )
        self.corrected_tokens = Counter(
            "counterfoil_corrected_tokens_total",
            "Tokens that corrections changed, which counterfoil_tokens_total has as they were estimated.",
            ("provider", "model", "direction", "change"),
        )
        self.corrected_cost = Counter(
            "counterfoil_corrected_cost_usd_total",
            "Cost that corrections changed; what it was before is in counterfoil_cost_usd_total.",
            ("provider", "model", "change"),
            unit=_PICO,
        )
        self.first_byte = Histogram(
            "counterfoil_first_byte_seconds", "From opening an attempt to its reply's first byte.", ("provider",)
        )
        self._gauges = (
            Gauge("counterfoil_open_exchanges", "Exchanges that are running.", open_exchanges),
            Gauge("counterfoil_books_healthy", "1 while the books can be written.", lambda: float(books_healthy())),
            Gauge("process_start_time_seconds", "Unix time of the start.", lambda: started),
            Gauge("process_cpu_seconds_total", "CPU time used.", time.process_time, "counter"),
            Gauge("process_resident_memory_bytes", "Memory held.", _resident),
            Gauge("process_open_fds", "Open file descriptors.", _descriptors),
        )
        self._names: set[str] = set()

    def answered(self, route: str | None, status: int) -> None:
        """A request was answered without an exchange, or after one."""
        self.requests.add(1, "" if route is None else self._name(route, served=False), str(status))

    def exchanged(self, route: str, status: int, outcome: Outcome) -> None:
        """An exchange ended."""
        for entry in outcome.entries:
            if entry.exit is Exit.COMPLETED:
                self._name(route, served=True)
                self._name(entry.opening.model, served=True)
            self._count(entry)
        self.answered(route, status)

    def corrected(self, correction: Entry) -> None:
        """A correction was written down. Counts never fall, so what it took off and what it added are apart."""
        provider, model = correction.opening.provider, self._name(correction.opening.model, served=False)
        self.corrections.add(1, provider, model)
        for line in correction.lines:
            for bucket, count in line.usage.buckets.items():
                direction = _DIRECTIONS.get(bucket)
                if count and direction is not None and not line.waived:
                    self.corrected_tokens.add(abs(count), provider, model, direction, _change(count))
        if correction.cost:
            self.corrected_cost.add(abs(correction.cost), provider, model, _change(correction.cost))

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        counts = (self.requests, self.attempts, self.tokens, self.units, self.cost, self.unpriced)
        corrected = (self.corrections, self.corrected_tokens, self.corrected_cost)
        families = (*counts, *corrected, self.first_byte, *self._gauges)
        return "".join(f"{line}\n" for family in families for line in family.text()).encode()

    def know(self, names: Iterable[str]) -> None:
        """Names the operator wrote down may be shown before anything was served."""
        for name in names:
            self._name(name, served=True)

    def _count(self, entry: Entry) -> None:
        provider, model = entry.opening.provider, self._name(entry.opening.model, served=False)
        self.attempts.add(1, provider, model, entry.exit.value)
        if entry.first_byte_ms is not None:
            self.first_byte.observe(entry.first_byte_ms / 1e3, provider)
        for line in entry.lines:
            if line.waived:
                continue
            for bucket, count in line.usage.buckets.items():
                voucher = line.usage.provenance.get(bucket, Provenance.REPORTED).value
                direction = _DIRECTIONS.get(bucket)
                if direction is None:
                    self.units.add(count, provider, model, bucket.value, voucher)
                else:
                    self.tokens.add(count, provider, model, direction, voucher)
        cost = entry.cost
        if cost is None:
            self.unpriced.add(1)
        elif entry.lines:
            self.cost.add(cost, provider, model)

    def _name(self, name: str, *, served: bool) -> str:
        if name in self._names:
            return name
        if not served or len(self._names) >= _NAMES or len(name) > 200:
            return OTHER
        self._names.add(name)
        return name


def _change(difference: int) -> str:
    return "more" if difference > 0 else "fewer"


def _head(name: str, help_: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {help_}", f"# TYPE {name} {kind}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resident() -> float | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):  # no /proc on this system
        return None


def _descriptors() -> float | None:
    try:
        return float(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - a listing, not paths
    except OSError:
        return None
