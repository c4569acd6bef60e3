"""The owner's own prices: a small file in YAML or JSON, read strictly.

Rule 1: a number is read as it is written. `0.1` never becomes a float.
Rule 2: whatever is not understood stops the reading, with the file, the line and, for a name, the nearest valid one.

The shape; rates are dollars per million tokens, providers are named as `counterfoil providers` names them, as the
deployment names a server that is in no row, or as the shipped list does (a row's `price_id`), and the first model name
that fits wins:

    source: contract 2026-118        # optional: shown with every cost priced from here
    date: 2026-11-01                 # optional: the file's own date otherwise
    prices:
      openai:
        gpt-4o-mini: {input: 0.12, cache_read: 0.06, output: 0.48}
        "gpt-5*": {input: 1, output: 8}          # a star at either end stands for anything
      google:
        gemini-2.5-pro:                          # dearer for the whole request above so many input tokens
          input: {base: 1.25, above: {200000: 2.5}}
          output: {base: 10, above: {200000: 15}}
      deepseek:
        deepseek-chat:                           # the last that applies wins; the first needs no condition
          - {input: 0.27, output: 1.1}
          - {from: 2026-12-01, input: 0.3, output: 1.2}
          - {between: ["16:30", "00:30"], input: 0.15, output: 0.6}
      vllm:
        "*": free
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, Final

import msgspec
import yaml

from counterfoil.ledger.price import read_rate
from counterfoil.ledger.price_sheet import SHEET_VERSION, ModelRow, ProviderRow, Sheet, SheetError, WindowRow
from counterfoil.ledger.price_table import check_sheet
from counterfoil.usage.usage import UNIT_BUCKETS, Bucket

__all__ = ["OVERRIDE_LIMIT", "read_override"]

OVERRIDE_LIMIT: Final = 1024 * 1024
"""Bytes."""
_NODES: Final = 100_000
_DEPTH: Final = 16
"""PyYAML's time grows with the square of the depth."""
_DEEPER: Final[dict[type[yaml.Event], int]] = {
    yaml.MappingStartEvent: 1,
    yaml.SequenceStartEvent: 1,
    yaml.MappingEndEvent: -1,
    yaml.SequenceEndEvent: -1,
}
_TOP: Final = ("source", "date", "prices")
_CONDITIONS: Final = ("from", "between")
_MARKS: Final = {(False, False): "=", (False, True): "^", (True, False): "$", (True, True): "*"}
"""The clause's mark, by whether a name has a star at its start and at its end."""
_BUCKETS: Final = tuple(str(bucket) for bucket in Bucket)


def read_override(text: str, *, name: str, default_date: str) -> Sheet:
    """The sheet of an override file.

    `name` is the file's, for messages, and without its folders as its source when it names none; `default_date` (ISO)
    stands for a missing date. Raises SheetError.
    """
    return _Reader(name).sheet(text, default_date)


class _Reader:
    """Walks the nodes of one file; keeps its name for messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def sheet(self, text: str, default_date: str) -> Sheet:
        if len(text) > OVERRIDE_LIMIT:
            raise SheetError(f"{self.name}: larger than {OVERRIDE_LIMIT} bytes")
        top = self._mapping(self._root(text), _TOP, "key")
        day = self._scalar(top["date"]) if "date" in top else default_date
        if "date" in top:
            self._day(top["date"])
        if "prices" not in top:
            raise SheetError(f"{self.name}: no prices")
        providers = {}
        for provider, node in self._mapping(top["prices"]).items():
            rows = [self._model(model, value) for model, value in self._mapping(node).items()]
            providers[provider] = ProviderRow(msgspec.Raw(msgspec.json.encode(rows)))
        source = self._scalar(top["source"]) if "source" in top else PurePath(self.name).name
        sheet = Sheet(SHEET_VERSION, source, day, "", providers)
        try:
            check_sheet(sheet)
        except SheetError as error:
            raise SheetError(f"{self.name}: {error}") from error
        return sheet

    def _root(self, text: str) -> yaml.Node:
        try:
            # JSON is read as YAML, so that lines are known; valid JSON has tabs only between its tokens, where YAML
            # wants spaces. Aliases are refused: a small file could stand for a huge one.
            flow = text.lstrip().startswith("{")
            clean = text.replace("\t", " ") if flow else text
            depth = 0
            for count, event in enumerate(yaml.parse(clean, Loader=yaml.BaseLoader)):
                depth += _DEEPER.get(type(event), 0)
                if depth > _DEPTH:
                    raise SheetError(f"{self.name}: nested too deeply")
                if isinstance(event, yaml.AliasEvent):
                    raise SheetError(f"{self.name}: aliases (*{event.anchor}) are not read")
                if count > _NODES:
                    raise SheetError(f"{self.name}: more than {_NODES} values")
            node = yaml.compose(clean, Loader=yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise SheetError(f"{self.name}: {error}") from error
        if node is None:
            raise SheetError(f"{self.name}: empty")
        return node

    def _model(self, name: str, node: yaml.Node) -> ModelRow:
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not entries:
            raise self._error(node, "no prices")
        return ModelRow(name, self._clause(name, node), [self._window(entry) for entry in entries])

    def _clause(self, name: str, node: yaml.Node) -> str:
        bare = name.strip("*")
        if "*" in bare:
            raise self._error(node, f"{name!r}: a star can stand only at the start or the end")
        if not bare:
            return "^"
        return _MARKS[name.startswith("*"), name.endswith("*")] + bare

    def _window(self, node: yaml.Node) -> WindowRow:
        if isinstance(node, yaml.ScalarNode):
            if node.value != "free":
                raise self._error(node, f"{node.value!r} is neither rates nor `free`")
            return WindowRow(dict.fromkeys(("input", "output", *map(str, UNIT_BUCKETS)), "0"))
        fields = self._mapping(node, (*_BUCKETS, *_CONDITIONS), "kind of token")
        since = self._day(fields["from"]) if "from" in fields else None
        between = self._times(fields["between"]) if "between" in fields else None
        rates = {bucket: self._rate(value) for bucket, value in fields.items() if bucket not in _CONDITIONS}
        if not rates:
            raise self._error(node, "no rates")
        return WindowRow(rates, since, between)

    def _rate(self, node: yaml.Node) -> str | list[str | int]:
        if isinstance(node, yaml.ScalarNode):
            return self._amount(node)
        fields = self._mapping(node, ("base", "above"), "key")
        if "base" not in fields or "above" not in fields:
            raise self._error(node, "a stepped rate has `base` and `above: {tokens: rate}`")
        written: list[str | int] = [self._amount(fields["base"])]
        steps = self._mapping(fields["above"])
        for above in sorted(steps, key=lambda edge: (len(edge), edge)):
            if not above.isascii() or not above.isdigit():
                raise self._error(fields["above"], f"{above!r} is not a number of tokens")
            written += (int(above), self._amount(steps[above]))
        return written

    def _amount(self, node: yaml.Node) -> str:
        text = self._scalar(node)
        try:
            read_rate(text)
        except ValueError as error:
            raise self._error(node, f"{text!r}: {error}") from error
        return text

    def _times(self, node: yaml.Node) -> tuple[str, str]:
        if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
            raise self._error(node, 'between is two UTC times, such as ["16:30", "00:30"]')
        return self._scalar(node.value[0]), self._scalar(node.value[1])

    def _day(self, node: yaml.Node) -> str:
        text = self._scalar(node)
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError as error:
            raise self._error(node, f"{text!r} is not a day, such as 2026-12-01") from error

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "one value is expected here")
        return str(node.value)

    def _mapping(self, node: yaml.Node, known: Iterable[str] | None = None, what: str = "") -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "a mapping is expected here")
        fields: dict[str, Any] = {}
        for key, value in node.value:
            name = self._scalar(key)
            if name in fields:
                raise self._error(key, f"{name!r} is there twice")
            if known is not None and name not in known:
                nearest = get_close_matches(name, list(known), n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(known)}"
                raise self._error(key, f"{name!r} is not a known {what}{hint}")
            fields[name] = value
        return fields

    def _error(self, node: yaml.Node, message: str) -> SheetError:
        return SheetError(f"{self.name}, line {node.start_mark.line + 1}: {message}")
