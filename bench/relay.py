"""What carrying one chat frame costs, in microseconds of CPU, beside what framing and decoding it cost.

Run: python bench/relay.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from counterfoil.core.event import Event
from counterfoil.dialects.dialect import Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming

FRAMES = 200
ROUNDS = 40


def stream(choice: Mapping[str, object], **more: object) -> bytes:
    """A role frame, and `FRAMES` frames of one kind."""
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": "inner"}
    note = {"service_tier": "default", "system_fingerprint": "fp_1a2b3c4d"}
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    frames = [{**head, **note, "choices": [one], **more} for one in [first, *[choice] * FRAMES]]
    return b"".join(b"data: " + json.dumps(frame, separators=(",", ":")).encode() + b"\n\n" for frame in frames)


PLAIN = {"index": 0, "delta": {"content": " tide"}, "logprobs": None, "finish_reason": None}
UNFINISHED = {"index": 0, "delta": {"content": " tide"}}
ROLE_AGAIN = {"index": 0, "delta": {"role": "assistant", "content": " tide"}, "finish_reason": None}
CALL = {"tool_calls": [{"index": 0, "function": {"arguments": '{"port'}}]}
ARGUMENTS = {"index": 0, "delta": CALL, "logprobs": None, "finish_reason": None}

CASES: Mapping[str, tuple[bytes, str, bool]] = {
    "nothing to mend": (stream(PLAIN, usage=None, obfuscation="x7Qd"), "inner", True),
    "tool arguments, nothing to mend": (stream(ARGUMENTS, usage=None), "inner", True),
    "model": (stream(PLAIN, usage=None, obfuscation="x7Qd"), "public", True),
    "usage key put in": (stream(PLAIN), "inner", True),
    "model and usage key": (stream(PLAIN), "public", True),
    "running usage taken out": (stream(PLAIN, usage={"prompt_tokens": 9, "completion_tokens": 4}), "inner", False),
    "finish key missing, model": (stream(UNFINISHED, usage=None), "public", True),
    "role repeated, model": (stream(ROLE_AGAIN, usage=None), "public", True),
}


def cost(work: Callable[[], object]) -> float:
    """The least CPU time of several rounds, in microseconds a frame."""
    least = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time_ns()
        work()
        least = min(least, time.process_time_ns() - begun)
    return least / 1000 / (FRAMES + 1)


def main() -> None:
    print(f"{'case':34}{'framing':>10}{'decoder':>10}{'relay':>10}   us of CPU a frame")
    for name, (data, model, asked) in CASES.items():
        frames: list[Frame] = SseFraming(1 << 20).feed(data)
        blocks = [frame.raw for frame in frames]
        events: list[tuple[Event, ...]] = [()] * len(frames)
        about = ReplyFacts("ours", 1700000000, model, streamed=True, usage_asked=asked)

        def framed(blocks: list[bytes] = blocks) -> None:
            framing = SseFraming(1 << 20)
            for block in blocks:
                framing.feed(block)

        def decoded(frames: list[Frame] = frames) -> None:
            decoder = ChatDecoder(True, 1, Quirks())
            for frame in frames:
                decoder.feed(frame)

        def carried(
            frames: list[Frame] = frames, events: list[tuple[Event, ...]] = events, about: ReplyFacts = about
        ) -> None:
            relay = ChatRelay(about, Quirks())
            for frame, said in zip(frames, events, strict=True):
                relay.carry(frame, said)

        print(f"{name:34}{cost(framed):10.2f}{cost(decoded):10.2f}{cost(carried):10.2f}")


if __name__ == "__main__":
    main()
