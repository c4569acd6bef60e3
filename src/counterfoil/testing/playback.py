"""The playback provider: a loopback server that answers as it is told, and keeps its own list of what it served.

Rule 1. It knows nothing of the code under test: no import of ours outside this folder.
Rule 2. The list (`served`) is the truth; a request is on it before the first byte of its answer.
Rule 3. It never hides a fault of the test: a chooser that raises is answered with 500 and raised again at the end.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from counterfoil.testing.answers import error_answer, obliging
from counterfoil.testing.link import BadRequestError, ClientLeftError, Link, read_request
from counterfoil.testing.playbook import Answer, Request, Script, Send, compact_json
from counterfoil.testing.player import head_of, play
from counterfoil.testing.served import Ended, Event, Served, ServedLog, note_frame

__all__ = ["Playback", "running"]


class Playback:
    """An LLM provider on a loopback port that plays scripts.

    ```python
    async with Playback() as provider:
        provider.queue(chat_reply(text="Good morning", usage=Counts(input=7, output=2)).cut_at(3))
        await my_client(base_url=provider.base_url)  # http://127.0.0.1:PORT/v1
        await provider.wait_for(lambda: provider.served[0].ended is not None)
        assert provider.served[0].ended == "cut"
        assert provider.served[0].units == 2
    ```

    The answer to a POST is the next queued one, else that of the request's model in `models`, else `default`: a
    `Script`, or a function from the `Request` to one. Without any it plays an ordinary reply in the dialect of the
    path, streamed and with usage as the request asks. `GET .../models` lists `models`. Gates opened with `release`
    stay open. All methods but `start` and `stop` may be called from any thread.
    """

    def __init__(
        self,
        default: Answer = obliging,
        *,
        models: Mapping[str, Answer] | None = None,
        port: int = 0,
        log: Path | None = None,
        header_limit: int = 64 * 1024,
        body_limit: int = 64 * 1024 * 1024,
    ) -> None:
        self.default = default
        self.models: dict[str, Answer] = dict(models or {})
        self._served: list[Served] = []
        self.visits: list[tuple[str, str]] = []
        """Method and path of every request that no script was played for (`GET /v1/models`, ...)."""
        self.connections = 0
        """How many connections were accepted."""
        self.port = port
        self._limits = {"header_limit": header_limit, "body_limit": body_limit}
        self._log = ServedLog(log) if log is not None else None
        self._queue: deque[Answer] = deque()
        self._gates: dict[str, asyncio.Event] = {}
        self._faults: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._server: asyncio.Server | None = None

    @property
    def served(self) -> list[Served]:
        """Every request a script was played for, in the order they were read.

        Whoever looks from another thread may hold bytes that are not noted yet: the look waits until they are.
        """
        loop = self._loop
        if self._server is not None and loop is not None and self._thread != threading.get_ident():
            asyncio.run_coroutine_threadsafe(_some_turns(), loop).result(10)
        return self._served

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`"""
        return f"{self.origin}/v1"

    def queue(self, *answers: Answer) -> None:
        """Answer the next requests with these, one each, before `models` and `default`."""
        self._queue.extend(answers)

    def release(self, name: str) -> None:
        """Open the gate `name`: every `Hold(name)` goes on, now and later."""
        self._running_loop().call_soon_threadsafe(lambda: self._gate(name).set())

    async def wait_for(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """Wait until `condition()` holds, looking after whatever happens here; `TimeoutError` after `seconds`."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def block_until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """`wait_for` for a test in another thread (see `running`)."""
        asyncio.run_coroutine_threadsafe(self.wait_for(condition, seconds), self._running_loop()).result(seconds + 5)

    async def start(self) -> None:
        """Listen on the loopback address."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._server = await self._loop.create_server(lambda: Link(self._welcome), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, drop every connection, and raise what a chooser raised."""
        await _some_turns()  # a connection that was made but not yet taken: asyncio loses it when the server closes now
        server, self._server = self._server, None
        if server is not None:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._faults:
            raise self._faults[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the playback provider was not started")
        return self._loop

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def _welcome(self, link: Link) -> None:
        if self._server is None:
            link.abort()
            return
        self.connections += 1
        task = asyncio.create_task(self._converse(link, self.connections))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._part(task, link))

    def _part(self, task: asyncio.Task[None], link: Link) -> None:
        self._tasks.discard(task)
        if not link.transport.is_closing():  # also when it was cancelled before it began
            link.abort()
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)

    async def _converse(self, link: Link, connection: int) -> None:
        """All requests of one connection, one after the other."""
        try:
            while not link.transport.is_closing():
                request = await read_request(link, **self._limits)
                if request.method == "POST":
                    await self._answer(link, connection, request)
                else:
                    await self._aside(link, request)
                if request.headers.get("connection", "").lower() == "close":
                    link.close()
        except ClientLeftError:
            pass
        except BadRequestError as error:
            await self._refuse(link, error)

    async def _answer(self, link: Link, connection: int, request: Request) -> None:
        served = Served(
            number=len(self._served) + 1,
            connection=connection,
            request=request,
            script=self._choose(request),
            opened_at=time.monotonic(),
        )
        self._served.append(served)
        self._note("opened", served)
        ended: Ended = "stopped"
        try:
            ended = await play(link, served, self._gate, self._note_frame, self._note_wait)
        except ClientLeftError:
            served.left_at, ended = link.gone_at, "client_left"
            raise
        finally:
            served.ended, served.ended_at, served.waiting_at = ended, time.monotonic(), None
            self._note("end", served)

    def _choose(self, request: Request) -> Script:
        answer = self._queue.popleft() if self._queue else self.models.get(request.model, self.default)
        if isinstance(answer, Script):
            return answer
        try:
            return answer(request)
        except Exception as fault:  # noqa: BLE001 - raised again by stop(), where the test sees it
            self._faults.append(fault)
            return error_answer(500, "the test's chooser raised")

    async def _aside(self, link: Link, request: Request) -> None:
        self.visits.append((request.method, request.path))
        path = request.path.partition("?")[0]
        if path.endswith("/models"):
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "playback"} for name in self.models]
            script = Script(
                steps=(Send(compact_json({"object": "list", "data": models})),),
                headers=(("content-type", "application/json"),),
                framing="length",
            )
        else:
            script = error_answer(200 if path == "/" else 404, "nothing is played here")
        await link.write(head_of(script) + (b"" if request.method == "HEAD" else script.body))

    async def _refuse(self, link: Link, error: BadRequestError) -> None:
        script = error_answer(error.status, str(error)).framed("close")
        with contextlib.suppress(ClientLeftError):
            await link.write(head_of(script) + script.body)
            link.transport.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await link.discard()
        link.close()

    def _note(self, event: Event, served: Served) -> None:
        if self._log is not None:
            self._log.write(event, served, time.monotonic())
        self._changed.set()

    def _note_frame(self, served: Served, frame: Send) -> None:
        note_frame(served, frame)
        self._note("frame", served)

    def _note_wait(self, served: Served, place: str | None) -> None:
        served.waiting_at = place
        self._changed.set()


async def _some_turns() -> None:
    """Let the loop finish what it is in the middle of: no step between two waits for the outside takes as many turns.

    The longest is from the operating system's last taken byte to its note: the transport wakes the play, the play looks
    at the socket once more, the frame is noted, the end is noted.
    """
    for _ in range(10):
        await asyncio.sleep(0)


async def _stop(provider: Playback) -> None:
    """Stop, and let a connection go that came at the last moment: its socket is closed some turns of the loop later."""
    try:
        await provider.stop()
    finally:
        await _some_turns()


@contextlib.contextmanager
def running(provider: Playback | None = None, *, seconds: float = 10.0) -> Iterator[Playback]:
    """A playback provider in a thread with its own event loop, for tests that are not asynchronous.

    `with running() as provider:` yields the started `Playback`; wait with `provider.block_until(...)`. `seconds` bounds
    its start and its stop.
    """
    provider = provider or Playback()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="playback-provider", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(provider.start(), loop).result(seconds)
        try:
            yield provider
        finally:
            asyncio.run_coroutine_threadsafe(_stop(provider), loop).result(seconds)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(seconds)
        loop.close()
