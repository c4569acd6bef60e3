"""What holds of every recorded reply, whatever its dialect: the oracle, any cut of the bytes, any prefix of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from counterfoil.cli.meter import Recorded, read_record
from counterfoil.driver.deployment import load_table
from counterfoil.exchange.recorded import ReadReply
from counterfoil.ledger.entry import Exit, figures
from tests import wire

__all__ = ["check_recording", "recorded"]

_SMALL = 8_000
"""Bytes of a reply that is cut at every place."""
_JUDGED = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def recorded(name: str) -> Recorded:
    """One recording as `counterfoil meter` reads it."""
    directory = wire.shared()
    assert directory is not None
    return read_record(name, (directory / "wire" / f"{name}.json").read_bytes(), load_table())


def check_recording(name: str) -> ReadReply:
    """The reply, after everything that holds of every recording."""
    one = recorded(name)
    reply = one.read()
    shown = figures(reply.settlement.usage)
    oracle = wire.expected().get(name)
    judged: Mapping[str, Any] = {
        cell: getattr(shown, cell) for cell in _JUDGED if getattr(oracle, cell, None) is not None
    }
    assert judged == {cell: getattr(oracle, cell) for cell in judged}
    if one.status < 300:
        for size in (1, 7, 4096):
            assert one.read([one.data[place : place + size] for place in range(0, len(one.data), size)]) == reply
        step = 1 if len(one.data) < _SMALL else len(one.data) // 64
        for end in range(0, len(one.data), step):
            cut = one.read([one.data[:end]])
            if cut.exit is Exit.COMPLETED and cut.reading.reports == reply.reading.reports:
                assert cut.settlement == reply.settlement
    return reply
