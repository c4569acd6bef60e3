"""What every source of credentials may use: the environment, small files, and short calls to those who issue them.

Rule 1: nothing a source says holds a secret, a path of the owner's, or what an issuer answered, but for its error code.
Rule 2: a call is short, its answer small, its redirect not followed. Plain http is for this machine and its metadata.
Rule 3: a source that is not there says so in a few words; one that is there and fails ends the search.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from counterfoil.providers.auth import Credential
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.proxy import LOOPBACK, is_metadata_host
from counterfoil.transport.transport import Broken, Cut, Unreachable

__all__ = ["Answer", "CredentialError", "Fetched", "Lookout", "Source", "Unshown", "read_json"]

CONNECT_SECONDS: Final = 5.0
ISSUER_SECONDS: Final = 10.0
METADATA_SECONDS: Final = 5.0
KNOCK_SECONDS: Final = 1.0
"""How long an address that may lead nowhere is tried: a machine outside a cloud has no metadata."""
ANSWER_LIMIT: Final = 256 * 1024
FILE_LIMIT: Final = 1 << 20
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,63}")
_Shape = TypeVar("_Shape")


class CredentialError(Unreachable):
    """No credential is to be had. The text says which sources were tried and what to set; safe to show."""


class Fetched(msgspec.Struct, frozen=True):
    """A credential and how long it holds."""

    credential: Credential
    expires: float | None = None
    """Unix seconds; None: nobody says."""


class Unshown(msgspec.Struct):
    """Something with secrets in it: tools that show the variables of a traceback see its name."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}([secret])"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Answer(msgspec.Struct, frozen=True):
    """What an issuer answered."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status)]


class Lookout:
    """One search for a credential: what it may look at, and whom it may ask. Blocks."""

    def __init__(
        self,
        environ: Mapping[str, str],
        transport: BlockingTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`transport`: None where nobody may be asked; `clock`: Unix seconds."""
        self.environ = environ
        self.now = clock
        self._transport = transport

    def said(self, name: str) -> str | None:
        """An environment variable; None when it is not set, or is blank."""
        return self.environ.get(name, "").strip() or None

    def file(self, path: Path, what: str) -> str | None:
        """A small text file; None when there is none. Raises CredentialError when it cannot be read."""
        try:
            with path.expanduser().open("rb") as stream:
                data = stream.read(FILE_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError, RuntimeError):  # pathlib's, for the home of nobody
            return None
        except (OSError, ValueError) as error:
            raise CredentialError(f"{what} cannot be read") from error
        if len(data) > FILE_LIMIT:
            raise CredentialError(f"{what} is larger than {FILE_LIMIT} bytes")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise CredentialError(f"{what} is no text") from None

    def named_file(self, variable: str) -> str | None:
        """The text of the file that a variable names; None when it is not set. Raises CredentialError."""
        path = self.said(variable)
        if path is None:
            return None
        text = self.file(Path(path), f"the file that {variable} names")
        if text is None:
            raise CredentialError(f"there is no such file as {variable} names")
        return text

    def post_form(self, url: str, fields: Mapping[str, str], who: str) -> Answer:
        """Ask an issuer by a form (RFC 6749, 4). Raises CredentialError."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        return self.ask("POST", url, headers, who, body=urlencode(fields).encode())

    def ask(self, method: str, url: str, headers: Mapping[str, str], who: str, *, body: bytes = b"") -> Answer:
        """Ask someone who is there. Raises CredentialError."""
        near = url.startswith("http:")
        connect, seconds = (KNOCK_SECONDS, METADATA_SECONDS) if near else (CONNECT_SECONDS, ISSUER_SECONDS)
        try:
            return self._ask(method, url, headers, body, who, connect, seconds)
        except CredentialError:
            raise
        except TimeoutError:
            raise CredentialError(f"{who} did not answer within {seconds:g} s") from None
        except (Unreachable, Broken, Cut) as error:
            raise CredentialError(f"{who} could not be asked ({error})") from error

    def knock(self, method: str, url: str, headers: Mapping[str, str], who: str) -> Answer | None:
        """Ask someone who may not be there; None when nobody answers in time. Raises CredentialError for no URL."""
        try:
            return self._ask(method, url, headers, b"", who, KNOCK_SECONDS, KNOCK_SECONDS)
        except CredentialError:
            raise
        except (TimeoutError, Unreachable, Broken, Cut):
            return None

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, who: str, connect: float, seconds: float
    ) -> Answer:
        _check_address(url, who)
        if self._transport is None:
            raise CredentialError(f"{who} may not be asked now")
        deadline = time.monotonic() + seconds
        whole = {"user-agent": "counterfoil", **headers}
        upstream = self._transport.post(url, whole, body, connect=connect, deadline=deadline, method=method)
        data = b""
        try:
            while len(data) <= ANSWER_LIMIT and (more := upstream.read(deadline)):
                data += more
        finally:
            upstream.abort()
        if len(data) > ANSWER_LIMIT:
            raise CredentialError(f"{who} answered with more than {ANSWER_LIMIT} bytes")
        return Answer(upstream.status, upstream.headers, data)


Source = Callable[[Lookout, str], Fetched | str]
"""(lookout, scope) -> a credential, or why this source is not there, in a few words. Raises CredentialError."""


def read_json(answer: Answer, shape: type[_Shape], who: str) -> _Shape:
    """What an issuer granted. Raises CredentialError, with the error code of RFC 6749, 5.2, when it refused."""
    if answer.status >= 300:
        raise CredentialError(f"{who} refused ({answer.status}{_code(answer.body)})")
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CredentialError(f"{who} answered what is no credential") from None


class _Refusal(msgspec.Struct):
    error: str = ""
    error_codes: list[int] = []
    """Microsoft's: the number of an AADSTS message."""


def _code(body: bytes) -> str:
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    code = f" {refusal.error}" if _CODE.fullmatch(refusal.error) else ""
    return code + "".join(f" AADSTS{number}" for number in refusal.error_codes[:1])


def _check_address(url: str, who: str) -> None:
    """What is secret goes over TLS, or not beyond this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
        parts = urlsplit("")
    near = host in LOOPBACK or is_metadata_host(host)
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and near)):
        raise CredentialError(f"the address of {who} is neither https nor on this machine")
