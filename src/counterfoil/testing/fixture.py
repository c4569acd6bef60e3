"""A pytest fixture for people's own tests: whatever they call through Counterfoil is answered here, without a network.

Rule 1. pytest is imported here and nowhere else in the package.
Rule 2. The code under test is not changed: the environment says where the gateway is, and this provider is there.
Rule 3. What was told last stays; what was told before is played once each.

```python
# conftest.py
pytest_plugins = ["counterfoil.testing.fixture"]


# test_mine.py
import counterfoil
import pytest
from counterfoil.testing import Counts
from mine import greet  # calls counterfoil.completion, a Client, ChatCounterfoil, ...


def test_it_greets(counterfoil_playback):
    counterfoil_playback.reply("Good morning", usage=Counts(input=7, output=2))
    assert greet("Ada") == "Good morning"
    assert counterfoil_playback.calls[0].request.json["messages"][-1]["content"] == "Ada"
    assert counterfoil_playback.usage.total_tokens == 9


def test_it_gives_up(counterfoil_playback):
    counterfoil_playback.fail(429)
    with pytest.raises(counterfoil.RateLimitError):
        greet("Ada")


def test_it_tries_again(counterfoil_playback):
    counterfoil_playback.fail(503)
    counterfoil_playback.reply("Good morning")
    assert greet("Ada") == "Good morning"
```

A call that names an address or a configuration of its own goes where it says; give it `counterfoil_playback.base_url`.

PYTEST_DONT_REWRITE: there are no assertions here, and a test may import a type from here before pytest does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

import counterfoil
from counterfoil.testing.answers import error_player, obliging
from counterfoil.testing.by_path import path_player
from counterfoil.testing.chat import ChatReply, Tool
from counterfoil.testing.playback import Playback, running
from counterfoil.testing.playbook import Answer, Counts, Request, Script
from counterfoil.testing.served import Served

if TYPE_CHECKING:
    from counterfoil.ledger.entry import Entry
    from counterfoil.usage.usage import Usage

__all__ = ["ENVIRONMENT", "CounterfoilPlayback", "counterfoil_playback"]

ENVIRONMENT: Final[Mapping[str, str | None]] = {
    "COUNTERFOIL_BASE_URL": "{base_url}",
    "COUNTERFOIL_API_KEY": "playback",
    "COUNTERFOIL_CONFIG": None,
}
"""What the fixture sets for the length of a test; None: it is not set."""


class CounterfoilPlayback:
    """What the fixture gives a test. Its methods may be called from any thread."""

    def __init__(self, provider: Playback, meter: counterfoil.Meter) -> None:
        self.provider = provider
        """The provider itself, for all that is not a method here: gates, waiting, models by name."""
        self._meter = meter
        self._told: deque[Answer] = deque([obliging])
        self._begun = True
        self._lock = threading.Lock()
        provider.default = self._choose

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`"""
        return self.provider.base_url

    def reply(
        self,
        text: str | tuple[str, ...] = "The tide turns at noon and the boats come home.",
        *,
        usage: Counts | None = None,
        reasoning: str | tuple[str, ...] = "",
        tools: tuple[Tool, ...] = (),
        finish: str = "",
        **more: Any,  # noqa: ANN401 - the fields of ChatReply
    ) -> None:
        """Answer the next call so, streamed or whole as it asks.

        `usage` are inclusive totals; by default 11 tokens in, and one out for every piece of the text. `finish` is the
        finish reason; `more` are other fields of `ChatReply` (`shape`, `n`, `refusal`, `tool_deltas`, ...).
        """
        plan = ChatReply(text=text, usage=usage, reasoning=reasoning, tools=tools, finish=finish, **more)
        self.play(path_player(plan))

    def fail(
        self,
        status: int = 500,
        message: str = "The playback provider was told to fail.",
        *,
        code: str | int | None = None,
        param: str | None = None,
        retry_after: str | None = None,
        times: int = 1,
    ) -> None:
        """Answer with an error status. A call that retries asks again: what is told next answers then.

        `times`: how many requests are answered so before what is told next; the last thing told stays in any case.
        """
        self.play(*[error_player(status, message, code=code, param=param, retry_after=retry_after)] * times)

    def play(self, *answers: Answer) -> None:
        """Answer the next requests with these, one each: scripts (`chat_reply(...).cut_at(3)`) or choosers."""
        with self._lock:
            self._told.extend(answers)

    @property
    def calls(self) -> tuple[Served, ...]:
        """Every request that reached the provider, in order, retries among them: `calls[0].request.json`."""
        return tuple(self.provider.served)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The ledger entries of what the test has called: one an attempt, in the order they were closed."""
        return self._meter.entries

    @property
    def usage(self) -> Usage:
        """What the test has used so far."""
        return self._meter.usage

    @property
    def cost(self) -> Decimal | None:
        """What that would cost in USD; None where a price is not known."""
        return self._meter.cost

    def _choose(self, request: Request) -> Script:
        with self._lock:
            if self._begun and len(self._told) > 1:
                self._told.popleft()
            self._begun = True
            answer = self._told[0]
        return answer if isinstance(answer, Script) else answer(request)


@pytest.fixture
def counterfoil_playback(monkeypatch: pytest.MonkeyPatch) -> Iterator[CounterfoilPlayback]:
    """A provider on a loopback port that answers what the test calls through Counterfoil, and its books."""
    with running() as provider, counterfoil.meter() as meter:
        for name, value in ENVIRONMENT.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value.format(base_url=provider.base_url))
        yield CounterfoilPlayback(provider, meter)
