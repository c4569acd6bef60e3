"""One JSON object of a reply: its keys as attributes and as items, and nothing that was not there.

Rule 1: a standard field that the provider left out is None as an attribute, and missing as an item.
Rule 2: what the provider added beyond the standard is kept and reachable like everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeAlias

import msgspec

__all__ = ["Json", "Node", "plain"]

Json: TypeAlias = Any
"""A JSON value as builtins, or as nodes."""

_Object = dict[str, Any]
"""JSON's; within the class `dict` is a method."""


class Node(Mapping[str, Any]):
    """A JSON object. Read it by attribute or by item; `model_dump()` gives plain builtins."""

    __slots__ = ("_data",)

    STANDARD: ClassVar[frozenset[str]] = frozenset()
    """Fields that are None where the provider left them out."""
    KINDS: ClassVar[Mapping[str, type[Node]]] = {}
    """What the objects in (lists of) these fields are."""

    _data: _Object

    def __init__(self, data: Mapping[str, Any] | None = None, /, **fields: Json) -> None:
        """`data` is a JSON object as builtins; nodes in it are taken as they are."""
        kinds = self.KINDS
        given = {**(data or {}), **fields}
        object.__setattr__(self, "_data", {key: _node(value, kinds.get(key, Node)) for key, value in given.items()})

    def __getattr__(self, name: str) -> Json:
        if name.startswith("_"):  # also what copying asks of an object that has no data yet
            raise AttributeError(name)
        try:
            return self._data[name]
        except KeyError:
            if name in self.STANDARD:
                return None
            raise AttributeError(f"this {type(self).__name__} has no {name!r}") from None

    def __setattr__(self, name: str, value: Json) -> None:
        if name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __getitem__(self, key: str) -> Json:
        return self._data[key]

    def __setitem__(self, key: str, value: Json) -> None:
        self._data[key] = _node(value, self.KINDS.get(key, Node))

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return plain(self) == plain(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any mapping that can change

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._data.items())})"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._data, *self.STANDARD]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (plain(self),)

    def get(self, key: str, default: Json = None) -> Json:
        """The item `key`, or `default`."""
        return self._data.get(key, default)

    def model_dump(self, *, mode: str = "python", exclude_none: bool = False, **_: object) -> _Object:
        """Plain builtins, as the provider's JSON had them. Further options of pydantic's method change nothing."""
        found: _Object = _without_none(plain(self)) if exclude_none else plain(self)
        return found

    def model_dump_json(self, *, indent: int | None = None, exclude_none: bool = False, **_: object) -> str:
        """The same as JSON text."""
        raw = msgspec.json.encode(self.model_dump(exclude_none=exclude_none))
        return (raw if indent is None else msgspec.json.format(raw, indent=indent)).decode()

    def dict(self) -> _Object:
        """`model_dump()`, by its older name."""
        return self.model_dump()

    def json(self) -> str:
        """`model_dump_json()`, by its older name."""
        return self.model_dump_json()

    def model_copy(self) -> Self:
        """Another one, equal to this."""
        return type(self)(plain(self))


def plain(value: Json) -> Json:
    """Builtins all the way down."""
    if isinstance(value, Node):
        return {key: plain(inner) for key, inner in value._data.items()}  # noqa: SLF001 - another of this class
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _node(value: Json, kind: type[Node]) -> Json:
    if isinstance(value, dict):
        return kind(value)
    if isinstance(value, list | tuple):
        return [_node(inner, kind) for inner in value]
    return value


def _without_none(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
