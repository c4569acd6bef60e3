"""The values that several cases hold, and that pages show by their names."""

from __future__ import annotations

import base64
from typing import Final

__all__ = ["NUMBERS", "PDF", "PIXEL", "SCHEMA", "SOUND"]

NUMBERS: Final = frozenset({4711, 0.83, 0.37, 37, 0.61, 0.29, 733, 6, 2049, 1213})
PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF: Final = base64.b64encode(b"%PDF-1.4 mk of a chart").decode()
SOUND: Final = base64.b64encode(b"RIFF mk of a bell").decode()
SCHEMA: Final = {
    "type": "object",
    "properties": {"mkport": {"type": "string"}, "hours": {"type": "integer"}},
    "required": ["mkport", "hours"],
    "additionalProperties": False,
}
