"""The published schema of what is sent on this wire, where it stands beside the checkout; the official client's types
everywhere."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests import wire

__all__ = ["checked", "frames_of_stream", "of_client", "published"]

ABSENT = "OpenAI's published schema is not beside this checkout (../shared/spec)"
_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    shared = wire.shared()
    if shared is None or not (shared / "spec" / "openai.json").is_file():
        pytest.skip(ABSENT)
    document = json.loads((shared / "spec" / "openai.json").read_text())
    return Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def published(name: str, value: Any) -> None:
    """Assert that `value` is valid by the published schema `name`."""
    error = next(iter(_validator(name).iter_errors(value)), None)
    assert error is None, f"{error.json_path}: {error.message[:300]}"


def frames_of_stream(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream, as a client dispatches them: by their name, which must be their type."""
    assert b"\r" not in stream
    frames = []
    for block in stream.decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        lines = dict(line.split(": ", 1) for line in block.split("\n"))  # openai.responses/bedrock-mantle: data first
        frame = json.loads(lines["data"])
        assert lines == {"event": frame["type"], "data": lines["data"]}
        frames.append(frame)
    return frames


def of_client(frame: dict[str, Any]) -> Any:
    """One event as the official client's own type. Raises where it is none."""
    return _EVENTS.validate_python(frame)


def checked(frames: list[dict[str, Any]]) -> Response:
    """Assert that these events are a stream as WIRE.md 3 has it; return the response its client ends with."""
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
    assert [frame["type"] for frame in frames[:2]] == ["response.created", "response.in_progress"]
    identities = set()
    for frame in frames:
        event = of_client(frame)
        response = frame.get("response")
        if response is not None:
            identities.add((response["id"], response["created_at"], response["model"]))
            last = event.response
            if frame is not frames[-1]:
                assert (response["usage"], response["output"]) == (None, [])
                response = {key: value for key, value in response.items() if key != "usage"}
            elif response["usage"] is None:
                response = {key: value for key, value in response.items() if key != "usage"}
            frame = {**frame, "response": response}
        # The schema has no null for `usage`, which the API sends in every event but the last (222 of 222, WIRE.md 1).
        published(_NAMES.get(frame["type"], "ResponseStreamEvent"), frame)
    assert len(identities) == 1
    assert frames[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    found: Response = last
    return found


_NAMES = {
    "response.created": "ResponseCreatedEvent",
    "response.in_progress": "ResponseInProgressEvent",
    "response.completed": "ResponseCompletedEvent",
    "response.incomplete": "ResponseIncompleteEvent",
    "response.failed": "ResponseFailedEvent",
    "response.output_item.added": "ResponseOutputItemAddedEvent",
    "response.output_item.done": "ResponseOutputItemDoneEvent",
    "response.content_part.added": "ResponseContentPartAddedEvent",
    "response.content_part.done": "ResponseContentPartDoneEvent",
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.output_text.done": "ResponseTextDoneEvent",
    "response.output_text.annotation.added": "ResponseOutputTextAnnotationAddedEvent",
    "response.refusal.delta": "ResponseRefusalDeltaEvent",
    "response.refusal.done": "ResponseRefusalDoneEvent",
    "response.reasoning_summary_part.added": "ResponseReasoningSummaryPartAddedEvent",
    "response.reasoning_summary_part.done": "ResponseReasoningSummaryPartDoneEvent",
    "response.reasoning_summary_text.delta": "ResponseReasoningSummaryTextDeltaEvent",
    "response.reasoning_summary_text.done": "ResponseReasoningSummaryTextDoneEvent",
    "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaEvent",
    "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneEvent",
    "error": "ResponseErrorEvent",
}
"""The schema of each event, so that what is wrong is said of it and not of a union."""
