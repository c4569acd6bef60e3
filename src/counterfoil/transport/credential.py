"""Credentials that are fetched: found where their cloud's own tools look for them, kept, and renewed before they end.

Rule 1: one search at a time for each kind, whoever waits for it: threads and event loops share it, and a caller who
stops waiting does not stop it.
Rule 2: whoever has a credential that still holds is never kept waiting for the next one.
Rule 3: nothing is looked for before it is needed, and an address that may lead nowhere is asked last, for a second.
Rule 4: an error says what was tried and what to set, and holds no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

import msgspec

from counterfoil.providers.auth import Credential
from counterfoil.providers.provider import FETCHED, Auth
from counterfoil.transport import credential_aws, credential_entra, credential_google
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.credential_source import CredentialError, Fetched, Lookout, Source

__all__ = ["CredentialError", "Credentials", "nothing_shown", "shown", "usual_place"]

EARLY: Final = 300.0
"""Seconds before its end from which a credential is renewed while it is still used."""
LATEST: Final = 30.0
"""Seconds before its end from which it is used no more: a request and a clock take their time."""
AGAIN: Final = 30.0
"""Seconds between two early renewals: metadata repeats a token until shortly before its end."""
REMEMBERED: Final = 2.0
"""Seconds for which a failed search is not made again: the next call is told the same at once."""


class _Style(msgspec.Struct, frozen=True):
    """One kind of credentials: where they are looked for, in order."""

    title: str
    sources: tuple[Source, ...]
    scope: str
    """What is asked for when a row says nothing."""
    advice: str
    shown: Callable[[Mapping[str, str]], str | None]
    place: Callable[[Mapping[str, str]], tuple[str | None, str | None]]
    """The region and the project that go with them."""
    must_show: bool = False
    """It is tried only where the environment speaks of it: a key that was forgotten is the commoner mistake."""


_STYLES: Final[Mapping[str, _Style]] = dict(
    zip(
        ("aws", "google", "entra"),
        (
            _Style(
                "AWS",
                credential_aws.SOURCES,
                "",
                credential_aws.ADVICE,
                credential_aws.shown,
                lambda environ: (credential_aws.profile_region(environ), None),
            ),
            _Style(
                "Google",
                credential_google.SOURCES,
                credential_google.SCOPE,
                credential_google.ADVICE,
                credential_google.shown,
                lambda environ: (None, credential_google.file_project(environ)),
            ),
            _Style(
                "Microsoft Entra",
                credential_entra.SOURCES,
                credential_entra.SCOPE,
                credential_entra.ADVICE,
                credential_entra.shown,
                lambda environ: (None, None),
                must_show=True,
            ),
        ),
        strict=True,
    )
)
assert _STYLES.keys() == FETCHED  # noqa: S101 - one for each style there is


def shown(auth: Auth, environ: Mapping[str, str]) -> str | None:
    """What shows that credentials are there: a variable's name, or a file's as its tools call it. Fetches nothing."""
    style = _STYLES.get(auth.style)
    return None if style is None else style.shown(environ)


def usual_place(auth: Auth, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The region and the project that the credentials' own files name: AWS's profile, Google's key. Reads a file."""
    style = _STYLES.get(auth.style)
    return (None, None) if style is None else style.place(environ)


def nothing_shown(auth: Auth, environ: Mapping[str, str]) -> str | None:
    """What to set, where credentials of this kind are looked for only if something shows them and nothing does."""
    style = _STYLES.get(auth.style)
    return style.advice if style is not None and style.must_show and style.shown(environ) is None else None


class _Held:
    """What is known of one kind for one scope."""

    def __init__(self) -> None:
        self.fetched: Fetched | None = None
        self.search: Future[Fetched] | None = None
        self.asked_at = float("-inf")
        """When the last search began, in Unix seconds."""
        self.problem: str | None = None
        self.doubted = False
        """A provider did not take it. If no other is to be had it is kept: one may refuse what others still take."""


class Credentials:
    """The fetched credentials of one process. Threads and event loops may share it."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """`environ`: by default the process's own; `clock`: Unix seconds."""
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._transport = BlockingTransport()
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _Held] = {}
        _ALL.add(self)

    async def wait(self, auth: Auth) -> Credential:
        """A credential of the kind that `auth` names. May be cancelled. Raises CredentialError."""
        found = self._look(auth)
        if not isinstance(found, Future):
            return found
        loop = asyncio.get_running_loop()
        come: asyncio.Future[None] = loop.create_future()

        def tell(_: Future[Fetched]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, come)

        found.add_done_callback(tell)
        await come
        return _result(found)

    def get(self, auth: Auth, deadline: float = float("inf")) -> Credential:
        """The same in a thread. `deadline`: on `time.monotonic`. Raises CredentialError or TimeoutError."""
        found = self._look(auth)
        if not isinstance(found, Future):
            return found
        left = deadline - time.monotonic()
        return _result(found, None if left == float("inf") else max(left, 0.0))

    def refused(self, credential: object) -> None:
        """A provider did not take this one: look anew next time, unless it is quite new."""
        with self._lock:
            for held in self._held.values():
                known = held.fetched is not None and held.fetched.credential is credential
                if known and self._clock() - held.asked_at > AGAIN:
                    held.doubted = True

    def forget(self) -> None:
        """Look anew for everything, as a new process would."""
        with self._lock:
            self._held.clear()

    def close(self) -> None:
        """Forget everything, and drop the connections. May be used again afterwards."""
        self.forget()
        self._transport.close()

    def _look(self, auth: Auth) -> Credential | Future[Fetched]:
        """What is there, or the search for it."""
        style = _STYLES[auth.style]
        scope = auth.scope or style.scope
        with self._lock:
            held = self._held.setdefault((auth.style, scope), _Held())
            fetched, now = held.fetched, self._clock()
            left = _left(fetched, now)
            if fetched is not None and left > LATEST and not held.doubted:
                if left <= EARLY and held.search is None and now - held.asked_at > AGAIN:
                    self._search(style, scope, held, now)
                return fetched.credential
            if held.search is None:
                if held.problem is not None and 0 <= now - held.asked_at < REMEMBERED:
                    raise CredentialError(held.problem)
                return self._search(style, scope, held, now)
            return held.search

    def _search(self, style: _Style, scope: str, held: _Held, now: float) -> Future[Fetched]:
        """Begin a search. The lock is held."""
        search: Future[Fetched] = Future()
        search.set_running_or_notify_cancel()
        held.search, held.asked_at, held.problem = search, now, None
        try:
            threading.Thread(
                target=self._run, args=(style, scope, held, search), name="counterfoil-credentials", daemon=True
            ).start()
        except RuntimeError as error:  # the interpreter ends
            held.search = None
            raise CredentialError(f"{style.title} credentials cannot be looked for any more") from error
        return search

    def _run(self, style: _Style, scope: str, held: _Held, search: Future[Fetched]) -> None:
        try:
            fetched = _find(style, scope, Lookout(self._environ, self._transport, self._clock))
        except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            problem = (
                str(error) if isinstance(error, CredentialError) else f"{style.title} credentials: a defect of ours"
            )
            with self._lock:
                held.search, held.problem, held.asked_at = None, problem, self._clock()
                known, held.doubted = held.fetched, False
            if known is not None and _left(known, self._clock()) > LATEST:
                search.set_result(known)
                return
            told = CredentialError(problem)
            told.__cause__ = error
            search.set_exception(told)
        else:
            with self._lock:
                held.search, held.fetched, held.doubted = None, fetched, False
            search.set_result(fetched)

    def _forked(self) -> None:
        """In a child: a thread of the parent may have held the lock, and its searches have no thread here."""
        self._lock = threading.Lock()
        for held in self._held.values():
            held.search = None


def _find(style: _Style, scope: str, lookout: Lookout) -> Fetched:
    """Ask one source after the other. Raises CredentialError."""
    tried: list[str] = []
    for source in style.sources:
        found = source(lookout, scope)
        if isinstance(found, Fetched):
            return found
        tried.append(found)
    raise CredentialError(f"no {style.title} credentials: {'; '.join(tried)}. To mend it: {style.advice}")


def _left(fetched: Fetched | None, now: float) -> float:
    """Seconds to its end."""
    return float("inf") if fetched is None or fetched.expires is None else fetched.expires - now


def _result(search: Future[Fetched], timeout: float | None = 0.0) -> Credential:
    """What came of a search. Everyone who waited raises an error of their own: one that many raise is never let go."""
    error = search.exception(timeout)
    if error is not None:
        raise CredentialError(str(error)) from error.__cause__
    return search.result().credential


def _settle(come: asyncio.Future[None]) -> None:
    if not come.done():
        come.set_result(None)


_ALL: Final[weakref.WeakSet[Credentials]] = weakref.WeakSet()


def _forget() -> None:
    for credentials in tuple(_ALL):
        credentials._forked()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
