"""What writes a reply for a client whose dialect, or whose wish to stream, differs from the provider's."""

from __future__ import annotations

from collections.abc import Sequence

from counterfoil.core.error import Failure
from counterfoil.core.event import Event
from counterfoil.dialects.dialect import Encoder, FinalUsage
from counterfoil.framing.frame import Frame

__all__ = ["Crossing"]


class Crossing:
    """An encoder with a relay's verbs: it reads the events and leaves the frames."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """The bytes of the frame's events in the client's dialect."""
        return self._encoder.encode(events)

    def close(self, final: FinalUsage) -> bytes:
        """The end of the reply."""
        return self._encoder.close(final)

    def fail(self, failure: Failure) -> bytes:
        """An error frame."""
        return self._encoder.fail(failure)
