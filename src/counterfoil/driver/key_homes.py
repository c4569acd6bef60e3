"""Where the keys of a configuration belong, for the message about one that stands in the wrong place.

Rule: the places have the names that docs/configuration.md has as headings: `models.NAME`, `models.NAME[]`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec.inspect as shape

__all__ = ["homes_of"]


def homes_of(kind: shape.Type) -> Mapping[str, tuple[str, ...]]:
    """By the name of every key that `kind` has anywhere: the places it belongs in, outermost first. The file itself
    is the empty name."""
    homes: dict[str, tuple[str, ...]] = {}
    _find(kind, "", homes)
    return homes


def _find(kind: shape.Type, place: str, homes: dict[str, tuple[str, ...]]) -> None:
    match kind:
        case shape.Metadata(type=inner):
            _find(inner, place, homes)
        case shape.UnionType(types=kinds):
            for one in kinds:
                _find(one, place, homes)
        case shape.DictType(value_type=inner):
            _find(inner, f"{place}.NAME", homes)
        case shape.VarTupleType(item_type=inner):
            # A list of deployments is short for a route with `deployments`: one place, not two.
            _find(inner, f"{place.removesuffix('.deployments')}[]", homes)
        case shape.StructType(fields=fields):
            for field in fields:
                name = field.encode_name
                homes[name] = tuple(dict.fromkeys((*homes.get(name, ()), place)))
                _find(field.type, f"{place}.{name}" if place else name, homes)
        case _:
            pass
