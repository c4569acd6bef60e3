"""No bytes make a decoder raise, loop, or grow without bound; and any cut of them reads the same.

Replies of our own making (`counterfoil.testing`), and recorded ones where they stand beside the checkout, are damaged
and read by every dialect as the gateway reads them; what a client would be written is written, by the relay and by the
encoder of each dialect, and has to be frames a client can read, with the usage exactly once.

    python fuzz/decoders.py --seconds 60
    python fuzz/decoders.py --seed 7 --case 1234        # one case again
    python fuzz/decoders.py --replay FILE --dialect openai_chat

A case is made from its seed and number alone. The first one that breaks the rule is made smaller, saved, and ends the
run with exit code 1. With `--atheris`, where that is installed, coverage chooses the bytes instead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from damage import DAMAGES

from counterfoil.cli.meter import RECORDED_DIALECTS, read_record
from counterfoil.config import Limits
from counterfoil.core.operation import Operation
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.exchange.crossing import Crossing
from counterfoil.exchange.ending import CUT
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.recorded import read_reply
from counterfoil.exchange.reply import Reply, Step
from counterfoil.testing import CHAT_SHAPES, ChatReply, Counts, MessagesReply, Script, Send, Tool

__all__ = ["Broken", "Case", "case_of", "check", "corpus", "main"]

LIMITS: Final = Limits(frame=1 << 18, reply=1 << 20)
LARGEST: Final = 1 << 17
"""Bytes of a sample, so that a case takes milliseconds."""
BYTE_BY_BYTE: Final = 3000
SECONDS_PER_CASE: Final = 20
MEMORY: Final = 3 << 30
_BLANK: Final = re.compile(rb"[\r\n]{2,}")


class Broken(Exception):
    """The rule does not hold; the message says how."""


class Case(NamedTuple):
    """A reply to read, as one dialect."""

    dialect: str
    streamed: bool
    choices: int
    quirks: Quirks
    data: bytes


# ---- what the rule says


def check(case: Case, rng: random.Random) -> None:
    """Raises Broken, or whatever the code under test raises."""
    whole = _read(case, [case.data])
    _bound("events", len(whole[0]), 4 * len(case.data) + 256)
    for pieces in _cuts(case.data, rng):
        if _read(case, pieces) != whole:
            raise Broken(f"read otherwise when cut into {len(pieces)} pieces")
    provider = DIALECTS[case.dialect]
    for client, streamed in _clients(case, rng) if provider.operation is Operation.CHAT else ():
        facts = ReplyFacts(
            id="ours",
            created=1_700_000_000,
            model="house-model",
            streamed=streamed,
            usage_asked=streamed and rng.random() < 0.7,
            choices=case.choices,
            input_estimate=17,
        )
        out, failed = _written(case, [case.data], client, facts)
        _bound("written bytes", len(out), 64 * len(case.data) + (1 << 16))
        if streamed and not failed:
            _READABLE[client.name](out, facts)
        for pieces in _cuts(case.data, rng):
            again, failed_too = _written(case, pieces, client, facts)
            # A blank line that mixes LF and CR may be seen as one or two: it says nothing either way.
            if failed_too != failed or _BLANK.sub(b"\n\n", again) != _BLANK.sub(b"\n\n", out):
                raise Broken(f"written otherwise for {client.name} when cut into {len(pieces)} pieces")
        if provider is client and case.streamed and streamed and case.dialect == "openai_chat":
            slow = _written(case, [case.data], client, facts, ChatRelay(facts, case.quirks, shortcuts=False))
            if slow != (out, failed):
                raise Broken("the relay's shortcuts change what is written")


def _clients(case: Case, rng: random.Random) -> list[tuple[ClientDialect[Any], bool]]:
    """Who reads the reply: a client of the same dialect, where there are any, and two of others."""
    others = [(client, streamed) for client in CLIENT_DIALECTS.values() for streamed in (True, False)]
    same = CLIENT_DIALECTS.get(case.dialect)
    some = ([] if same is None else [(same, case.streamed)]) + rng.sample(others, 2)
    return list({(client.name, streamed): (client, streamed) for client, streamed in some}.values())


def _read(case: Case, pieces: Sequence[bytes]) -> tuple[Any, ...]:
    read = read_reply(
        pieces,
        DIALECTS[case.dialect],
        streamed=case.streamed,
        quirks=case.quirks,
        choices=case.choices,
        input_estimate=17,
        estimate=True,
        limits=LIMITS,
    )
    return read.events, read.exit, read.reading, read.settlement, read.text_sha256, read.provider_id


def _written(
    case: Case, pieces: Sequence[bytes], client: ClientDialect[Any], facts: ReplyFacts, relay: ChatRelay | None = None
) -> tuple[bytes, bool]:
    """What a client reads, and whether it was told of a failure."""
    provider = DIALECTS[case.dialect]
    meter = Meter("fuzz", facts.input_estimate)
    reply = Reply(provider, meter, streamed=case.streamed, choices=case.choices, quirks=case.quirks, limits=LIMITS)
    same = provider is client and case.streamed == facts.streamed
    writer = relay or (client.relay(facts, case.quirks) if same else Crossing(client.encoder(facts)))
    out: list[bytes] = []

    def write(steps: Sequence[Step]) -> None:
        out.extend(writer.carry(frame, events) for frame, events in steps)

    for piece in pieces:
        if reply.over:
            break
        write(reply.feed(piece))
    write(reply.close())
    failure = meter.failure if meter.failure is not None else None if reply.ended else CUT
    if failure is not None:
        return b"".join(out) + writer.fail(failure), True
    usage = meter.settle(provider.convention, ended=True).usage
    raw = meter.reading.raw
    return b"".join(out) + writer.close(FinalUsage(usage, usage.estimated, raw[-1] if raw else b"")), False


def _bound(what: str, amount: int, most: int) -> None:
    if amount > most:
        raise Broken(f"{amount} {what}, where {most} would be much")


_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a frame, as a client reads an event stream: bytes that are not UTF-8 are U+FFFD."""
    return _object(data.decode("utf-8", "replace"))


def _blocks(out: bytes) -> Iterator[tuple[str, bytes]]:
    """Event name and data of every block, by the rules of event streams."""
    text = out.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not text.endswith(b"\n\n"):
        raise Broken("the stream ends inside a block")
    for block in text.split(b"\n\n"):
        fields = [line.partition(b":") for line in block.split(b"\n")]
        names = [value.removeprefix(b" ") for field, _, value in fields if field == b"event"]
        data = [value.removeprefix(b" ") for field, _, value in fields if field == b"data"]
        if data:
            yield b"".join(names[-1:]).decode("utf-8", "replace"), b"\n".join(data)


def _chat_readable(out: bytes, facts: ReplyFacts) -> None:
    if b"\r" in out or any(name for name, _ in _blocks(out)):
        raise Broken("a carriage return, or an event's name")
    blocks = [data for _, data in _blocks(out)]
    if blocks.pop() != b"[DONE]" or b"[DONE]" in blocks:
        raise Broken("[DONE] is not the one end")
    said = [_members(data) for data in blocks]
    for number, frame in enumerate(said, 1):
        usage = frame.get("usage")
        if facts.usage_asked and number == len(said):
            if usage is None or bytes(frame.get("choices", b"")) != b"[]":
                raise Broken("the last frame is not the usage frame")
        elif (usage is None) if facts.usage_asked else (usage is not None):
            raise Broken("a usage key where none should be, or none where one should be")
        elif usage is not None and bytes(usage) != b"null":
            raise Broken("the usage comes more than once")


def _messages_readable(out: bytes, facts: ReplyFacts) -> None:
    said = [(name, _members(data).get("type")) for name, data in _blocks(out) if data.strip()]
    kinds = [(None if kind is None else msgspec.json.decode(kind)) or name for name, kind in said]
    if kinds[-1:] != ["message_stop"] or kinds.count("message_stop") != 1:
        raise Broken("message_stop is not the one end")
    if kinds.count("message_delta") != 1:
        raise Broken(f"{kinds.count('message_delta')} message_delta")


_READABLE: Final[dict[str, Callable[[bytes, ReplyFacts], None]]] = {
    "openai_chat": _chat_readable,
    "anthropic_messages": _messages_readable,
}


def _cuts(data: bytes, rng: random.Random) -> Iterator[list[bytes]]:
    if len(data) <= BYTE_BY_BYTE:
        yield [data[place : place + 1] for place in range(len(data))]
    places = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 3, 30))))})
    yield [data[start:end] for start, end in itertools.pairwise(places)]


# ---- the replies


def corpus(shared: Path | None) -> list[Case]:
    """Whole replies to begin with; `shared`: the directory of recorded ones, if there is one."""
    tools = (Tool("tide", '{"port": "north", "days": [1, 2]}'), Tool("noon"))
    counts = Counts(input=40, output=20, cache_read=16, cache_write=8, reasoning=5)
    chats = [ChatReply(shape=shape, n=n) for shape in CHAT_SHAPES for n in (1, 2)]
    chats += [ChatReply(tools=tools, tool_deltas=how) for how in ("streamed", "whole", "no_index", "no_id")]
    chats += [ChatReply(error=error) for error in ("plain", "groq", "openrouter")]
    chats += [ChatReply(reasoning="It is noon.", parts=parts, usage=counts, role="every") for parts in (False, True)]
    chats += [ChatReply(crlf=True, comments=True, azure=True, logprobs=True), ChatReply(refusal="No.", text="")]
    chats += [ChatReply(stream=False, tools=tools, n=2, reasoning="So."), ChatReply(stream=False, parts=True)]
    chats += [ChatReply(finish_times=0), ChatReply(finish_times=2), ChatReply(done=False)]
    told = [
        MessagesReply(usage=counts, stream=stream, thinking=thinking, tools=tools, redacted="eA==", delta=delta)
        for stream in (True, False)
        for thinking in ("", "It is noon.")
        for delta in ("full", "output_only")
    ]
    told += [MessagesReply(error="overloaded_error"), MessagesReply(iterations=_ITERATIONS), MessagesReply(stop=False)]
    cases = [Case("openai_chat", plan.stream, plan.n, quirks, _bytes(plan.script())) for plan in chats for quirks in
             (Quirks(), Quirks(end="done", usage_per_choice=True))]  # fmt: skip
    cases += [Case("anthropic_messages", plan.stream, 1, Quirks(), _bytes(plan.script())) for plan in told]
    return cases + list(_recorded(shared))


_ITERATIONS: Final = (
    {"type": "compaction", "input_tokens": 90, "output_tokens": 7},
    {"type": "message", "input_tokens": 11, "output_tokens": 10},
)


def _bytes(script: Script) -> bytes:
    return b"".join(step.data for step in script.steps if isinstance(step, Send))


def _recorded(shared: Path | None) -> Iterator[Case]:
    table = load_table()
    spoken = sorted(name for name, dialect in RECORDED_DIALECTS.items() if dialect in DIALECTS)
    for name in spoken if shared is not None else ():
        for path in sorted((shared / "wire" / name).rglob("*.json")) if shared is not None else ():
            record = read_record(path.stem, path.read_bytes(), table)
            if record.status < 300 and 0 < len(record.data) <= LARGEST:
                quirks = Quirks() if record.provider is None else record.provider.quirks_for(record.model)
                yield Case(record.dialect.name, record.streamed, min(record.choices, 8), quirks, record.data)


def case_of(seed: int, number: int, samples: Sequence[Case]) -> tuple[Case, random.Random]:
    """A case, and the chance its checks go on with."""
    rng = random.Random(f"{seed}:{number}")
    case = rng.choice(samples)
    data = case.data
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        data = rng.choice(DAMAGES)(data, rng, [sample.data for sample in samples])[:LARGEST]
    if rng.random() < 0.05:
        case = case._replace(dialect=rng.choice(list(DIALECTS)), streamed=rng.random() < 0.7)
    return case._replace(data=data), rng


# ---- running


class _Stuck(Broken):
    pass


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """A case that takes too long is stuck. Where there is no such alarm, a loop is seen by whoever waits for it."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise _Stuck(f"not done after {SECONDS_PER_CASE} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _fault(case: Case, rng_state: tuple[Any, ...]) -> BaseException | None:
    rng = random.Random()
    rng.setstate(rng_state)
    try:
        with _watched():
            check(case, rng)
    except Exception as error:  # noqa: BLE001 - finding it is the purpose
        return error
    return None


def _smaller(case: Case, state: tuple[Any, ...], fault: BaseException) -> Case:
    """The case with as much left out as leaves the same kind of fault."""
    tries, width = 400, max(1, len(case.data) // 2)
    while width and tries and not isinstance(fault, _Stuck):
        place = 0
        while place < len(case.data) and tries:
            tries -= 1
            less = case._replace(data=case.data[:place] + case.data[place + width :])
            found = _fault(less, state)
            if type(found) is type(fault) and str(found)[:20] == str(fault)[:20]:
                case = less
            else:
                place += width
        width //= 2
    return case


def _show(case: Case, fault: BaseException, again: str) -> None:
    with tempfile.NamedTemporaryFile(prefix="counterfoil-fuzz-", suffix=".reply", delete=False) as file:
        file.write(case.data)
    print("".join(traceback.format_exception(fault)))
    print(f"BROKEN  {type(fault).__name__}: {str(fault)[:200]}")
    print(f"input   {file.name} ({len(case.data)} bytes), {case.dialect}, {'streamed' if case.streamed else 'whole'}")
    print(f"again   python fuzz/decoders.py {again}")


def _guided(samples: Sequence[Case]) -> None:
    """Let coverage choose the bytes. Does not return."""
    atheris = importlib.import_module("atheris")  # optional, and not in the lock file

    def one(data: bytes) -> None:
        rng = random.Random(data[:4])
        case = rng.choice(samples)
        with _watched():
            check(case._replace(data=data[4:]), rng)

    atheris.instrument_all()
    atheris.Setup(sys.argv[:1], one)
    atheris.Fuzz()


def _shared() -> Path | None:
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "wire").is_dir():
            return parent / "shared"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--cases", type=int, help="how many, instead of how long")
    parser.add_argument("--seed", type=int, default=1, help="chooses the cases (default: 1)")
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--no-recordings", action="store_true", help="only replies of our own making")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check these bytes")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="openai_chat", help="of --replay")
    parser.add_argument("--whole", action="store_true", help="--replay is no stream")
    parser.add_argument("--atheris", action="store_true", help="let coverage choose, where atheris is installed")
    given = parser.parse_args(arguments)
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit here
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    shared = None if given.no_recordings else _shared()
    if given.replay is not None:
        case = Case(given.dialect, not given.whole, 1, Quirks(), given.replay.read_bytes())
        check(case, random.Random(given.seed))
        print("the rule holds")
        return 0
    samples = corpus(shared)
    if given.atheris:
        _guided(samples)
    print(f"{len(samples)} replies{'' if shared else ' (no recordings)'}, seed {given.seed}", flush=True)
    end = time.monotonic() + given.seconds
    first = 0 if given.case is None else given.case
    number = first
    while number == first or (given.case is None and _more(given, number, end)):
        case, rng = case_of(given.seed, number, samples)
        state = rng.getstate()
        fault = _fault(case, state)
        if fault is not None:
            apart = " --no-recordings" if shared is None else ""
            small = _smaller(case, state, fault)
            _show(small, _fault(small, state) or fault, f"--seed {given.seed} --case {number}{apart}")
            return 1
        number += 1
    print(f"{number - first} cases, the rule holds")
    return 0


def _more(given: argparse.Namespace, number: int, end: float) -> bool:
    return number < given.cases if given.cases is not None else time.monotonic() < end


if __name__ == "__main__":
    raise SystemExit(main())
