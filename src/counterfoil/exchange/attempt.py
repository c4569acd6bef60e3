"""One upstream call, from its opening to its entry. No IO: commands out, answers in.

Rule 1: the entry is opened before the call and closed exactly once, before the last bytes are released.
Rule 2: every event passes the meter, and the meter alone decides what is booked.
Rule 3: what the client sees has one writer: a relay where both sides speak the same dialect, else a crossing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.dialects.dialect import Quirks, Relay
from counterfoil.exchange.asked import ask
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.command import (
    Abort,
    Answer,
    Close,
    Command,
    Deliver,
    Finish,
    Head,
    Interrupted,
    Note,
    Open,
    Post,
    Read,
    Start,
)
from counterfoil.exchange.crossing import Crossing
from counterfoil.exchange.ending import (
    CUT,
    DEFECT,
    Attempted,
    bad_reply,
    failure_of,
    final_usage,
    redirected,
    web_page,
    whose_key,
)
from counterfoil.exchange.reply import Followed, Reply, Step, is_streamed, is_web_page, request_id
from counterfoil.exchange.route import Deployment
from counterfoil.exchange.transcript import meter_of, recount_of
from counterfoil.ledger.entry import Entry, Exit, Opening

__all__ = ["SLOW_CLIENT", "Running", "attempt"]

ERROR_BODY: Final = 256 * 1024
"""How much of a provider's error answer is read, in bytes."""
SLOW_CLIENT: Final = "the client did not take the reply in time"
"""The detail of an attempt that ran out of time while it waited for its client, not for the provider."""
ERROR_SECONDS: Final = 10.0
"""How long a provider may take to say what went wrong."""


def attempt(call: Call, deployment: Deployment, context: Context) -> Generator[Command, Answer, Attempted]:
    """Make one attempt. Raises RequestError before anything is opened when the provider cannot be asked this."""
    asked = ask(call, deployment, context.learned)
    running = Running(call, asked.deployment, asked.quirks, context, asked.dropped)
    yield Open(running.opening, running.meter)
    try:
        return (yield from running.walk(asked.body, asked.headers))
    except Exception as error:  # noqa: BLE001 - a defect of ours must not leave an entry open
        return (yield from running.defect(error))


class Running:
    """The state of one attempt, and the parts of its walk, some of which `carry.py` does in its own way."""

    def __init__(
        self, call: Call, deployment: Deployment, quirks: Quirks, context: Context, dropped: tuple[str, ...]
    ) -> None:
        self._call = call
        self._deployment = deployment
        self._quirks = quirks
        self._context = context
        self._timeouts = deployment.timeouts
        self.began = context.clock()
        self._quiet_since = self.began
        self._first_byte: float | None = None
        self._ended_at: float | None = None
        self._gone_at: float | None = None
        self._begun = False
        self._unsent = False
        self._closed: Entry | None = None
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        if dropped:
            self._headers["x-counterfoil-dropped"] = ", ".join(dropped)
        self._guesses = True
        """What nobody reported is estimated."""
        self._reply: Followed
        self._writer: Relay
        self.opening = Opening(
            attempt=context.new_id(),
            exchange=call.exchange,
            opened=context.wall(),
            route=call.route.name,
            provider=deployment.provider.name,
            model=deployment.model,
            client_dialect=call.dialect.name,
            provider_dialect=deployment.dialect.name,
            key=call.key,
            user=call.peek.user,
            tags=call.tags,
            streamed=call.peek.streamed,
            input_estimate=call.input_estimate,
            price_id=deployment.provider.price_id,
            free=deployment.provider.free or deployment.convention.no_model,
            own_prices=deployment.prices,
            convention=call.peek.reads(deployment.convention),
        )
        self.meter = meter_of(self.opening, call.input_estimate, context.corrector)
        self._headers["x-counterfoil-attempt"] = self.opening.attempt

    def walk(self, body: bytes, headers: Mapping[str, str]) -> Generator[Command, Answer, Attempted]:
        """From the call to the entry."""
        answer = yield self.post(body, headers)
        if isinstance(answer, Interrupted):
            return (yield from self.give_up(answer))
        assert isinstance(answer, Head)  # noqa: S101 - what a driver answers a Post with
        if answer.status >= 300:
            return (yield from self.rejected(answer))
        failure = self.expect(answer)
        if failure is not None:
            return (yield from self.unreadable(failure))
        return (yield from self.end((yield from self.follow())))

    def post(self, body: bytes, headers: Mapping[str, str]) -> Post:
        """The call itself."""
        deployment, streamed = self._deployment, self._call.peek.streamed
        return Post(
            deployment,
            deployment.dialect.path(deployment.model, streamed),
            body,
            streamed,
            self._timeouts.connect,
            self.began + min(self._timeouts.first_byte, self._timeouts.total),
            headers,
        )

    # ---- the head

    def rejected(self, head: Head) -> Generator[Command, Answer, Attempted]:
        """The provider answered an error status, or a redirect, which is never followed."""
        self._status = head.status
        body = b""
        answer: Answer = None
        deadline = min(self._context.clock() + ERROR_SECONDS, self.began + self._timeouts.total)
        while len(body) < ERROR_BODY:
            answer = yield Read(deadline)
            if not isinstance(answer, bytes) or not answer:
                break
            body += answer
        yield Abort()
        if head.status < 400:
            failure = redirected(head.status)
        else:
            deployment = self._deployment
            said = deployment.dialect.read_failure(head.status, head.headers, body[:ERROR_BODY])
            failure = whose_key(said, sent=deployment.fetched or deployment.secret is not None)
        self.meter.identify(request_id(head.headers))
        entry = yield from self._close(self._entry(Exit.REJECTED, detail=failure.kind.value))
        if isinstance(answer, Interrupted):
            if answer.exit is Exit.CLIENT_GONE:
                return Attempted(entry, told=True)
            if answer.exit is Exit.SHUTDOWN:
                return Attempted(entry, failure_of(answer))
        # A server that is described refuses them only where the client's own are wrong.
        unknown = not self._deployment.known and self._quirks.stream_options
        refused = unknown and head.status in (400, 422) and b"stream_options" in body
        return Attempted(entry, failure, refused_stream_options=refused)

    def expect(self, head: Head) -> Failure | None:
        """Prepare to read the reply this head announces; a failure when it announces none."""
        self._status = head.status
        call, dialect = self._call, self._deployment.dialect
        if is_web_page(head.headers):
            return web_page(head.status)
        if head.status < 200:
            return bad_reply(f"The provider answered with status {head.status}, which announces no reply.")
        if head.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            return bad_reply("The provider compressed its reply, which it was asked not to do.")
        streamed = is_streamed(head.headers, dialect, asked=call.peek.streamed)
        self._reply = reply = Reply(
            dialect,
            self.meter,
            streamed=streamed,
            choices=call.peek.choices,
            quirks=self._quirks,
            limits=self._context.limits,
            headers=head.headers,
        )
        facts = call.facts(self.opening)
        if dialect is call.dialect and streamed == call.peek.streamed:
            self._writer = call.dialect.relay(facts, self._quirks)
        else:
            self._writer = Crossing(call.dialect.encoder(facts))
            reply.bound(self._context.limits.reply)  # an encoder may have to keep all of it
        return None

    def unreadable(self, failure: Failure) -> Generator[Command, Answer, Attempted]:
        """The provider answered 200 with something that is not a reply."""
        yield Abort()
        entry = yield from self._close(self._entry(Exit.FAILED, detail=failure.kind.value))
        return Attempted(entry, failure)

    # ---- the reply

    def follow(self) -> Generator[Command, Answer, Interrupted | None]:
        """Follow the reply: bytes to frames to events, past the meter, to the client. Returns what interrupted it."""
        reply = self._reply
        while not reply.over:
            answer = yield Read(self._deadline())
            if isinstance(answer, Interrupted):
                if self._goes_on(answer):
                    continue
                if reply.ended:  # its last report may lack no more than the end of its frame
                    yield from self._deliver(self._write(reply.close()))
                return answer
            assert isinstance(answer, bytes)  # noqa: S101 - what a driver answers a Read with
            if not answer:
                out = self._write(reply.close())
            else:
                self._quiet_since = self._context.clock()
                if self._first_byte is None:
                    self._first_byte = self._quiet_since
                out = self._write(reply.feed(answer))
            if self.meter.news and not reply.over:  # the entry follows at once when it is
                note = self.meter.progress(self._context.wall())
                if note is not None:
                    yield Note(note)
            interruption = yield from self._deliver(out)
            if interruption is not None and not self._goes_on(interruption):
                return interruption
            if not answer:
                return None
        return None

    def _write(self, steps: Sequence[Step]) -> bytes:
        """What the client reads of these frames."""
        if self._ended_at is None and self._reply.ended:
            self._ended_at = self._quiet_since
        carry = self._writer.carry
        if len(steps) == 1:
            return carry(*steps[0])
        return b"".join([carry(frame, events) for frame, events in steps])

    def _deliver(self, data: bytes) -> Generator[Command, Answer, Interrupted | None]:
        if self._gone_at is not None or not data:
            return None
        if not self._begun:
            self._begun = True
            yield self.start()
        answer = yield Deliver(data, self.began + self._timeouts.total)
        self._quiet_since = self._context.clock()  # the provider owes nothing for the time a client was slow
        if not isinstance(answer, Interrupted):
            return None
        return Interrupted(Exit.TIMED_OUT, SLOW_CLIENT) if answer.exit is Exit.TIMED_OUT else answer

    def _goes_on(self, interruption: Interrupted) -> bool:
        """Whether the provider is still read although the client has hung up."""
        if interruption.exit is not Exit.CLIENT_GONE or self._gone_at is not None:
            return False
        self._gone_at = self._context.clock()
        return self._reply.ended or self._call.route.client_gone.action == "drain"

    def _deadline(self) -> float:
        deadline = self._silence()
        if self._ended_at is not None:
            return min(deadline, self._ended_at + self._timeouts.last_usage)
        if self._gone_at is not None:
            return min(deadline, self._gone_at + self._call.route.client_gone.drain)
        return deadline

    def _silence(self) -> float:
        """When silence has lasted too long."""
        quiet = self._timeouts.between_frames if self._first_byte is not None else self._timeouts.first_byte
        return min(self._quiet_since + quiet, self.began + self._timeouts.total)

    def _limit(self) -> str:
        """The limit that a silence has reached, by the name it is set under."""
        quiet = "between_frames" if self._first_byte is not None else "first_byte"
        name = "total" if self._context.clock() >= self.began + self._timeouts.total else quiet
        return f"timeouts.{name}: {getattr(self._timeouts, name):g} s"

    # ---- the end

    def end(self, interruption: Interrupted | None) -> Generator[Command, Answer, Attempted]:
        """Close the entry, then release the last bytes."""
        ended = self._reply.ended
        if self.meter.failure is not None:
            return (yield from self._failed(Exit.FAILED, self.meter.failure))
        if not ended:
            if interruption is not None:
                return (yield from self.give_up(interruption))
            return (yield from self._failed(Exit.TRUNCATED, CUT))
        yield Finish() if interruption is None else Abort()
        entry = self._entry(Exit.COMPLETED, ended=True)
        final, failure = final_usage(entry, self._call.route.missing_usage)
        last = self._writer.fail(failure) if failure is not None else self._writer.close(final)
        yield from self._close(entry)
        if self._gone_at is not None:
            return Attempted(entry, told=True)
        if failure is not None and not self._begun:
            return Attempted(entry, failure, last=True)
        if not self._begun:
            yield self.start()
        yield Deliver(last, self.began + self._timeouts.total, last=True)
        return Attempted(entry, failure, told=True)

    def defect(self, error: Exception) -> Generator[Command, Answer, Attempted]:
        """Our own code failed: the books are closed all the same."""
        if self._closed is not None:  # what failed came after it
            return Attempted(self._closed, told=True, defect=error)
        result = yield from self._failed(Exit.FAILED, DEFECT)
        return msgspec.structs.replace(result, defect=error)

    def give_up(self, interruption: Interrupted) -> Generator[Command, Answer, Attempted]:
        """Something between provider and client ended the attempt."""
        exit_ = Exit.CLIENT_GONE if self._gone_at is not None else interruption.exit
        self._unsent = interruption.unsent
        if exit_ is Exit.TIMED_OUT and not interruption.detail:
            interruption = msgspec.structs.replace(interruption, detail=self._limit())
        return (yield from self._failed(exit_, failure_of(interruption), interruption.detail))

    def _failed(self, exit_: Exit, failure: Failure, detail: str = "") -> Generator[Command, Answer, Attempted]:
        yield Abort()
        ended = self._ended_at is not None
        entry = yield from self._close(self._entry(exit_, ended=ended, detail=detail or failure.kind.value))
        if exit_ is Exit.CLIENT_GONE or self._gone_at is not None:
            return Attempted(entry, told=True)
        if self._begun:
            yield from self.tell(failure)
        return Attempted(entry, failure, told=self._begun)

    def tell(self, failure: Failure) -> Generator[Command, Answer, None]:
        """Tell a client whose reply had begun; one that asked for usage, what was booked, too."""
        frame, beside = self._writer.fail(failure), self._call.dialect.beside_error
        if beside is not None and self._closed is not None and self._call.facts(self.opening).usage_asked:
            final, refused = final_usage(self._closed, self._call.route.missing_usage)
            frame = beside(frame, final) if refused is None else frame
        yield Deliver(frame, self.began + self._timeouts.total, last=True)

    def _close(self, entry: Entry) -> Generator[Command, Answer, Entry]:
        self._closed = entry
        yield Close(entry, recount_of(self.meter, entry, self._call.dialect, self._call.body, self._context.price))
        return entry

    def _entry(self, exit_: Exit, *, ended: bool = False, detail: str | None = None) -> Entry:
        context = self._context
        # A provider that rejected the request, or was never reached, ran no model: nothing is guessed or billed.
        ran = exit_ is not Exit.REJECTED and not self._unsent and not self.meter.refused
        # One that hung up without a word may have read the request, or had closed an idle connection: nobody knows.
        known = exit_ is not Exit.LOST or self._status is not None
        guessed = ran and known and self._guesses
        inputs = self._call.peek.inputs
        settlement = self.meter.settle(self.opening.convention, ended=ended, estimate=guessed, inputs=inputs)
        return Entry(
            opening=self.opening,
            closed=context.wall(),
            exit=exit_,
            lines=context.price(self.opening, settlement.lines) if ran else (),
            reading=self.meter.reading,
            delivered=self.meter.delivered if ran and settlement.usage.estimated else None,
            finality=settlement.finality,
            discrepancies=settlement.discrepancies,
            provider_total=settlement.provider_total,
            lower_bound=settlement.lower_bound,
            status=self._status,
            detail=detail,
            first_byte_ms=None if self._first_byte is None else (self._first_byte - self.began) * 1e3,
            total_ms=(context.clock() - self.began) * 1e3,
            provider_id=self.meter.provider_id,
        )

    def start(self) -> Start:
        """The head of the client's reply."""
        headers = {**self._headers, "content-type": self._call.content_type}
        return Start(200, {**headers, "cache-control": "no-store"} if self._call.peek.streamed else headers)
