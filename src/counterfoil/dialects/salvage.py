"""What a reply that cannot be read still says of its usage.

Rule: a provider bills what it sent, also where it changed a shape that nobody here knows yet. Its report is taken from
a frame whose content is unreadable; nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from counterfoil.core.event import Event, UsageReported
from counterfoil.dialects.schema import UNREADABLE, fields_of
from counterfoil.usage.reading import Report

__all__ = ["salvaged"]


def salvaged(
    data: bytes, read: Callable[[msgspec.Raw], Report | None], *ways: tuple[str, ...], told: Sequence[Event] = ()
) -> list[Event]:
    """The report at the end of the first of `ways` (keys of objects in each other) that leads to one.

    Nothing when `told`, the events that the frame gave before it broke, has a report already. Never raises.
    """
    if any(isinstance(event, UsageReported) for event in told):
        return []
    for way in ways:
        raw = msgspec.Raw(data)
        try:
            for key in way:
                raw = fields_of(raw)[key]
        except (*UNREADABLE, KeyError):
            continue
        report = read(raw)
        if report is not None:
            return [UsageReported(report)]
    return []
