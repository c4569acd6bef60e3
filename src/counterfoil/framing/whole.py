"""A reply that is not streamed: the whole body is one frame."""

from __future__ import annotations

from counterfoil.framing.frame import Frame, FrameTooLarge

__all__ = ["WholeFraming"]


class WholeFraming:
    """The body, however it is cut. `limit` is its largest size in bytes.

    Only the transport knows where a body ends, so the frame comes out of `close`, and whether the body is whole is the
    transport's word (its length), not this framing's. No bytes at all are no frame.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self._failure: FrameTooLarge | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Never a frame yet. Raises FrameTooLarge."""
        if self._failure is None and len(self._body) + len(data) > self._limit:
            self._failure = FrameTooLarge(self._limit)
            self._body.clear()
        if self._failure is not None:
            raise self._failure
        self._body += data
        return []

    def close(self) -> Frame | None:
        """The body. Raises FrameTooLarge when it was."""
        if self._failure is not None:
            raise self._failure
        body = bytes(self._body)
        self._body.clear()
        return Frame(body, "", body) if body else None
