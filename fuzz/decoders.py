"""No bytes make a decoder raise, loop, or grow without bound; and any cut of them reads the same.

Replies of every dialect, our own (`fuzz/corpus`, `counterfoil.testing`) and recorded ones where they stand beside the
checkout, are damaged and read as the gateway reads them; what a client would be written is written, by relays and
encoders, and has to be frames a client can read, with the usage exactly once.

    python fuzz/decoders.py --seconds 60
    python fuzz/decoders.py --seed 7 --case 1234        # one case again
    python fuzz/decoders.py --replay FILE --dialect openai_chat

A case is made from its seed and number alone. The first one that breaks the rule is made smaller, saved, and ends the
run with exit code 1. `fuzz/run.py` lets coverage choose the bytes instead.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import re
import signal
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from damage import DAMAGES
from readable import Broken, readable
from replies import LARGEST, Case, case_of_bytes, corpus, shared

from counterfoil.config import Limits
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.crossing import Crossing
from counterfoil.exchange.ending import CUT
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.recorded import read_reply
from counterfoil.exchange.reply import Reply, Step

__all__ = ["TARGETS", "Broken", "Case", "case_of", "check", "corpus", "main"]

LIMITS: Final = Limits(frame=1 << 18, reply=1 << 20)
BYTE_BY_BYTE: Final = 3000
SECONDS_PER_CASE: Final = 20
MEMORY: Final = 3 << 30
_BLANK: Final = re.compile(rb"[\r\n]{2,}")


# ---- what the rule says


def check(case: Case, rng: random.Random) -> None:
    """Raises Broken, or whatever the code under test raises."""
    whole = _read(case, [case.data])
    _bound("events", len(whole[0]), 4 * len(case.data) + 256)
    for pieces in _cuts(case.data, rng):
        if _read(case, pieces) != whole:
            raise Broken(f"read otherwise when cut into {len(pieces)} pieces")
    provider = DIALECTS[case.dialect]
    for client, streamed in _clients(case, rng):
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
            readable(out, client, facts)
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
    operation = DIALECTS[case.dialect].operation
    able = [client for client in CLIENT_DIALECTS.values() if client.operation is operation]
    others = [(client, streamed) for client in able for streamed in (True, False) if operation.streams or not streamed]
    same = CLIENT_DIALECTS.get(case.dialect)
    some = ([] if same is None else [(same, case.streamed)]) + rng.sample(others, min(2, len(others)))
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


def _cuts(data: bytes, rng: random.Random) -> Iterator[list[bytes]]:
    if len(data) <= BYTE_BY_BYTE:
        yield [data[place : place + 1] for place in range(len(data))]
    places = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 3, 30))))})
    yield [data[start:end] for start, end in itertools.pairwise(places)]


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


def _target(dialect: str, data: bytes) -> None:
    """One input of a fuzzer that chooses bytes itself. Raises what is wrong."""
    check(case_of_bytes(dialect, data[:LARGEST]), random.Random(zlib.crc32(data)))


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    f"decoder.{dialect}": partial(_target, dialect) for dialect in DIALECTS
}
"""By name: what takes any bytes and holds the rule against them."""


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
    given = parser.parse_args(arguments)
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit here
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    directory = None if given.no_recordings else shared()
    if given.replay is not None:
        case = Case(given.dialect, not given.whole, 1, Quirks(), given.replay.read_bytes())
        check(case, random.Random(given.seed))
        print("the rule holds")
        return 0
    samples = corpus(directory)
    print(f"{len(samples)} replies{'' if directory else ' (no recordings)'}, seed {given.seed}", flush=True)
    end = time.monotonic() + given.seconds
    first = 0 if given.case is None else given.case
    number = first
    while number == first or (given.case is None and _more(given, number, end)):
        case, rng = case_of(given.seed, number, samples)
        state = rng.getstate()
        fault = _fault(case, state)
        if fault is not None:
            apart = " --no-recordings" if directory is None else ""
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
