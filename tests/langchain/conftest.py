"""What LangChain's standard tests ask of their surroundings.

Rule 1: coroutine tests run under `asyncio.run`, as ours do; no plugin decides about event loops.
Rule 2: what is timed there is run once here: a duration is no promise on a shared machine.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

__all__: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function; all others are pytest's business."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    given = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    asyncio.run(pyfuncitem.obj(**given))
    return True


@pytest.fixture
def benchmark() -> Callable[[Callable[[], object]], object]:
    """Calls what would be timed, once."""
    return lambda timed: timed()


@pytest.fixture
def vcr() -> None:
    """No recordings: the test that asks for them is skipped by its own rule."""
