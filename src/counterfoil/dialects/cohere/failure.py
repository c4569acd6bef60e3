"""Errors on Cohere's wire, both ways: `{"message": ...}`, with `id` and sometimes `error_type` beside it.

Rule: the shapes are those chat servers use, too (`message`, `detail`), so they are read in one place; here is only what
Cohere's own status numbers and words mean.

https://docs.cohere.com/reference/errors; recorded: 400 in cohere.v2/cohere, 404 in cohere.v1/cohere and
cohere.embed/cohere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.failure import error_object, word_of
from counterfoil.dialects.openai_chat import failure as chat
from counterfoil.dialects.schema import encode

__all__ = ["frame_failure", "read_failure", "write_failure"]

_KINDS: Final[Mapping[int, tuple[FailureKind, Fault]]] = {
    498: (FailureKind.CONTENT_POLICY, Fault.CLIENT),  # the request or the reply holds a deny-listed token
    499: (FailureKind.TIMED_OUT, Fault.PROVIDER),  # the connection was closed before the answer
}


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure of an answer with an error status. `headers` have lower-case names. Never raises."""
    failure = chat.read_failure(status, headers, body)
    kind, fault = _KINDS.get(status, (failure.kind, failure.fault))
    word = word_of(error_object(body).get("error_type"))
    return msgspec.structs.replace(failure, kind=kind, fault=fault, code=word or failure.code)


def frame_failure(data: bytes) -> Failure:
    """The failure of an error body under another status, or of an error in a stream. Never raises."""
    return chat.frame_failure(data)


def write_failure(failure: Failure) -> bytes:
    """`{"message": ...}`, and `fault`: whose fault it was."""
    return encode({"message": failure.message, "fault": failure.fault.value})
