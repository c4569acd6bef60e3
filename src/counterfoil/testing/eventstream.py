"""Messages of AWS's binary event stream, written: what Bedrock streams, for a provider that plays it back.

Rule 1. Pure, as in `chat.py`: the reader under test is not asked how a message is written.

https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

import struct
import zlib
from collections.abc import Mapping

from counterfoil.testing.playbook import compact_json

__all__ = ["EVENT_STREAM", "encode_message", "event_message", "exception_message"]

EVENT_STREAM = "application/vnd.amazon.eventstream"
"""The content type."""

_TEXT = 7


def encode_message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """One message with text headers: prelude, headers, payload, and both checksums."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event_message(kind: str, value: object) -> bytes:
    """An event of type `kind` whose payload is `value` as JSON."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return encode_message(headers, compact_json(value))


def exception_message(kind: str, message: str) -> bytes:
    """An exception that the service models (`throttlingException`), as it ends a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_message(headers, compact_json({"message": message}))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _TEXT, len(text)) + text
